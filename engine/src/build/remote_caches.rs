//! The remote caches of a build: those of the request and those of the config.

use std::time::Duration;

use kiln_executor::{RemoteCaches, Remotes};
use kiln_registry::{Client, RetryPolicy};
use kiln_remote::{InlineCache, Remote, RemoteKind, RemoteSpec, Trust};
use kiln_solver::event::WarningCode;
use tokio_util::sync::CancellationToken;

use super::request::BuildRequest;
use crate::config::RemoteCachesConfig;
use crate::credentials;
use crate::engine::Engine;
use crate::error::{Error, Hint, Result};
use crate::event::Events;

/// A cache that takes long is worse than none.
const RETRY: RetryPolicy = RetryPolicy {
    tries: 2,
    pause: Duration::from_millis(200),
    longest: Duration::from_secs(2),
};
/// How long a connection to a registry that is a cache may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long such a registry may say nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Refuses what makes no sense before anything is fetched.
///
/// # Errors
/// [`Error::Request`].
pub(super) fn check(config: &RemoteCachesConfig, request: &BuildRequest) -> Result<()> {
    let asked = &request.remote_caches;
    check_inline(request)?;
    let writes = [
        ("--cache-to", asked.inline || !asked.to.is_empty()),
        ("--cache-mount-to", !asked.mounts_to.is_empty()),
    ];
    for (option, is_given) in writes {
        if config.read_only && is_given {
            let text = format!("{option}: this host is set to read-only");
            return Err(Error::request(text).with_hint(Hint::ReadOnlyCaches));
        }
    }
    let lonely = |spec: &&RemoteSpec| {
        let mut from = asked.from.iter().chain(&config.from);
        spec.single_flight == Some(true) && !from.any(|f| f.kind == spec.kind)
    };
    let mut to = asked
        .to
        .iter()
        .chain(config.to.iter().filter(|_| !config.read_only));
    if let Some(spec) = to.find(lonely) {
        let text = format!("--cache-to `{spec}`: single-flight needs the same place to be read");
        return Err(Error::request(text).with_hint(Hint::AddCacheFrom));
    }
    Ok(())
}

/// The remote caches that a build has; none if it has none.
///
/// # Errors
/// What was asked for makes no sense, or a cache cannot be opened.
pub(super) fn open(
    engine: &Engine,
    request: &BuildRequest,
    events: &Events,
    cancel: CancellationToken,
) -> Result<Option<RemoteCaches>> {
    let config = &engine.config().remote_caches;
    let asked = &request.remote_caches;
    let (mut from, mut to) = (asked.from.clone(), asked.to.clone());
    let mut mounts_from = asked.mounts_from.clone();
    let mut mounts_to = asked.mounts_to.clone();
    from.extend(config.from.iter().cloned());
    mounts_from.extend(config.mounts_from.iter().cloned());
    if !config.read_only {
        to.extend(config.to.iter().cloned());
    }
    // What began empty on purpose replaces what is there only where that is asked for.
    if !config.read_only && !request.clear_cache_mounts {
        mounts_to.extend(config.mounts_to.iter().cloned());
    }
    if request.clear_cache_mounts {
        mounts_from.clear();
    }
    for (option, specs, written) in [
        ("--cache-from", &mut from, &to),
        ("--cache-mount-from", &mut mounts_from, &mounts_to),
    ] {
        specs.retain(|spec| {
            let is_made = written.iter().any(|t| t.kind == spec.kind);
            let found = match &spec.kind {
                RemoteKind::Local { dir } => is_made || dir.exists(),
                _ => true,
            };
            if !found {
                let text = format!("{option} `{spec}`: there is no such directory");
                events.warn(WarningCode::RemoteCacheUnused, text);
            }
            found
        });
    }
    let all = [&from, &to, &mounts_from, &mounts_to];
    if !asked.inline && all.iter().all(|specs| specs.is_empty()) {
        return Ok(None);
    }
    let mut registries = engine.config().registries.clone();
    registries.retry = RETRY;
    registries.connect_timeout = CONNECT_TIMEOUT;
    registries.read_timeout = READ_TIMEOUT;
    registries.notices = credentials::notices(events);
    let mut opened = Opened {
        config,
        client: Client::new(registries, credentials::of(engine.config(), events)),
        remotes: Vec::new(),
    };
    let mut remotes = Remotes::default();
    if asked.inline {
        let inline = InlineCache::new(&config.namespace, opened.trust());
        remotes.inline = Some(inline);
    }
    for spec in to {
        remotes.to.push((opened.remote(&spec)?, spec));
    }
    for spec in &from {
        remotes.from.push(opened.remote(spec)?);
    }
    for spec in &mounts_to {
        remotes.mounts_to.push(opened.remote(spec)?);
    }
    for spec in &mounts_from {
        remotes.mounts_from.push(opened.remote(spec)?);
    }
    let (wait, events) = (config.wait_for_others, events.of_steps());
    Ok(Some(RemoteCaches::new(remotes, wait, cancel, events)))
}

/// Records in the image need an image, and layers that are those of steps.
fn check_inline(request: &BuildRequest) -> Result<()> {
    if !request.remote_caches.inline {
        return Ok(());
    }
    if request.squash {
        let text = "--cache-to type=inline: --squash leaves no layer of a step to use again";
        return Err(Error::request(text));
    }
    if !request.outputs.have_image() {
        let text = "--cache-to type=inline: no output of this build is an image";
        return Err(Error::request(text).with_hint(Hint::InlineNeedsImage));
    }
    Ok(())
}

/// The remotes that are open. The same place is one remote, whatever it is used for, and fails once.
struct Opened<'a> {
    config: &'a RemoteCachesConfig,
    client: Client,
    remotes: Vec<(RemoteSpec, Remote)>,
}

impl Opened<'_> {
    fn trust(&self) -> Trust {
        Trust {
            sign: self.config.sign.clone(),
            accept: self.config.accept.clone(),
        }
    }

    fn remote(&mut self, spec: &RemoteSpec) -> Result<Remote> {
        let same = |(other, _): &&(RemoteSpec, Remote)| {
            other.kind == spec.kind && other.single_flight == spec.single_flight
        };
        if let Some((_, remote)) = self.remotes.iter().find(same) {
            return Ok(remote.clone());
        }
        let (namespace, trust) = (&self.config.namespace, self.trust());
        let settings = &self.config.bucket_settings;
        let remote = Remote::open(spec, &self.client, namespace, trust, settings)
            .map_err(|e| Error::failed(format!("cache {spec}: {e}")))?;
        self.remotes.push((spec.clone(), remote.clone()));
        Ok(remote)
    }
}
