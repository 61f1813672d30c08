//! Section `[cache]` of the config file: remote caches of every build of this host.

use std::path::PathBuf;
use std::sync::Arc;

use kiln_engine::{
    BucketSettings, RemoteCachesConfig, RemoteSpec, SigningKey, SpecError, VerifyingKey,
    with_causes,
};
use serde::Deserialize;

use crate::errors::Failure;

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

impl CacheFile {
    /// The section, resolved.
    pub(super) fn settings(self) -> Result<RemoteCachesConfig, Failure> {
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
        let wait_for_others = match &file.wait_for_others {
            None => RemoteCachesConfig::WAIT_FOR_OTHERS,
            Some(text) => humantime::parse_duration(text)
                .map_err(|e| Failure::new(format!("[cache], wait-for-others `{text}`: {e}")))?,
        };
        Ok(RemoteCachesConfig {
            from: parse(&file.from, RemoteSpec::parse, false)?,
            to: parse(&file.to, RemoteSpec::parse, true)?,
            mounts_from: parse(&file.mounts_from, RemoteSpec::parse_for_mounts, false)?,
            mounts_to: parse(&file.mounts_to, RemoteSpec::parse_for_mounts, true)?,
            read_only: file.read_only,
            namespace: file.namespace,
            sign,
            accept,
            bucket_settings: bucket_settings(),
            wait_for_others,
        })
    }
}

/// The variables by which other tools are told of buckets, too.
fn bucket_settings() -> BucketSettings {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        // A value that is not text is none that a bucket could be opened with.
        name.starts_with("AWS_")
            .then_some((name, value.into_string().ok()?))
    });
    BucketSettings(variables.collect())
}
