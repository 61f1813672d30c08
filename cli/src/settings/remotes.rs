//! Section `[cache]` of the config file: remote caches of every build of this host.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiln_image::with_causes;
use kiln_remote::{RemoteSpec, SigningKey, SpecError, VerifyingKey};
use serde::Deserialize;

use crate::errors::Failure;

/// Remote caches of every build of this host.
#[derive(Debug, Default)]
pub(crate) struct CacheSettings {
    pub(crate) from: Vec<RemoteSpec>,
    pub(crate) to: Vec<RemoteSpec>,
    /// Where cache mounts are brought from.
    pub(crate) mounts_from: Vec<RemoteSpec>,
    /// Where cache mounts are left.
    pub(crate) mounts_to: Vec<RemoteSpec>,
    /// Nothing is written to any remote.
    pub(crate) read_only: bool,
    /// Keeps the records of one group of hosts from those of another.
    pub(crate) namespace: String,
    /// Signs what is written.
    pub(crate) sign: Option<Arc<SigningKey>>,
    /// Whose records are believed; none is everybody's.
    pub(crate) accept: Option<Vec<VerifyingKey>>,
    /// How long a build waits for other hosts that run its steps, in all.
    pub(crate) patience: Duration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CacheFile {
    #[serde(default)]
    from: Vec<String>,
    #[serde(default)]
    to: Vec<String>,
    #[serde(default)]
    mounts_from: Vec<String>,
    #[serde(default)]
    mounts_to: Vec<String>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    sign_key: Option<PathBuf>,
    #[serde(default)]
    accept_keys: Option<Vec<PathBuf>>,
    #[serde(default)]
    wait_for_others: Option<String>,
}

/// How long a build waits for other hosts where the file does not say.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

impl CacheFile {
    /// The section, resolved.
    pub(super) fn settings(self) -> Result<CacheSettings, Failure> {
        let file = self;
        type Parse = fn(&str, bool) -> Result<RemoteSpec, SpecError>;
        let parse = |texts: &[String], parse: Parse, writing| {
            let specs = texts.iter().map(|text| {
                parse(text, writing).map_err(|e| {
                    let text = RemoteSpec::redacted(text);
                    Failure::new(format!("[cache], `{text}`: {e}"))
                })
            });
            specs.collect::<Result<Vec<_>, _>>()
        };
        let key = |e| Failure::new(format!("[cache]: {}", with_causes(&e)));
        let sign = file.sign_key.map(|p| SigningKey::read(&p)).transpose();
        let sign = sign.map_err(key)?.map(Arc::new);
        let accept = match file.accept_keys {
            None => None,
            Some(paths) => {
                let keys = paths.iter().map(|p| VerifyingKey::read(p));
                let mut keys = keys.collect::<Result<Vec<_>, _>>().map_err(key)?;
                // What this host wrote it believes.
                keys.extend(sign.as_ref().map(|s| s.verifying_key()));
                Some(keys)
            }
        };
        let patience = match &file.wait_for_others {
            None => PATIENCE,
            Some(text) => humantime::parse_duration(text)
                .map_err(|e| Failure::new(format!("[cache], wait-for-others `{text}`: {e}")))?,
        };
        Ok(CacheSettings {
            from: parse(&file.from, RemoteSpec::parse, false)?,
            to: parse(&file.to, RemoteSpec::parse, true)?,
            mounts_from: parse(&file.mounts_from, RemoteSpec::parse_for_mounts, false)?,
            mounts_to: parse(&file.mounts_to, RemoteSpec::parse_for_mounts, true)?,
            read_only: file.read_only,
            namespace: file.namespace,
            sign,
            accept,
            patience,
        })
    }
}
