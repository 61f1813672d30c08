//! Remote caches of a build: those of the command line and those of the config file.

use std::time::Duration;

use kiln_executor::{Engine, Left, Remotes, Share};
use kiln_registry::{Client, RetryPolicy};
use kiln_remote::{InlineCache, Remote, RemoteKind, RemoteSpec, SpecError, Trust};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::engine::App;
use crate::errors::Failure;
use crate::progress::Mode;
use crate::progress::bytes as human_size;
use crate::settings::CacheSettings;
use crate::{progress, ui};

/// The remote caches that the command line names.
#[derive(Debug, clap::Args)]
pub(super) struct ShareArgs {
    /// Look for results in a remote cache: type=registry,ref=…, type=local,src=…, type=s3,bucket=…;
    /// with single-flight=true, wait for other hosts that run a step (in registries; elsewhere unless
    /// it is false)
    #[arg(long, value_name = "SPEC")]
    cache_from: Vec<String>,
    /// Leave results in a remote cache: type=registry,ref=…[,mode=min|max][,single-flight=true],
    /// type=local,dest=…, or inside of the image: type=inline
    #[arg(long, value_name = "SPEC")]
    cache_to: Vec<String>,
    /// Bring cache mounts that are empty here from a remote cache, before a step runs
    #[arg(long, value_name = "SPEC")]
    cache_mount_from: Vec<String>,
    /// Leave the cache mounts that the build has changed in a remote cache
    #[arg(long, value_name = "SPEC")]
    cache_mount_to: Vec<String>,
}

type Parse = fn(&str, bool) -> Result<RemoteSpec, SpecError>;

fn parse(
    option: &str,
    texts: &[String],
    parse: Parse,
    writing: bool,
) -> Result<Vec<RemoteSpec>, Failure> {
    let specs = texts.iter().map(|text| {
        parse(text, writing)
            .map_err(|e| Failure::usage(format!("{option} `{}`: {e}", RemoteSpec::redacted(text))))
    });
    specs.collect()
}

/// What a build is to do that matters to remote caches.
pub(super) struct Wanted {
    /// The image is to be a cache, as `--build-arg BUILDKIT_INLINE_CACHE=1` has it.
    pub(super) inline: bool,
    /// Cache mounts are to begin empty.
    pub(super) clear_mounts: bool,
    /// The layers of the steps become one.
    pub(super) squash: bool,
    /// An image with its config is written somewhere.
    pub(super) image: bool,
}

impl ShareArgs {
    /// Takes `type=inline` out of the places that results are left in; whether it is there.
    fn inline(&self, wanted: &Wanted) -> Result<(Vec<String>, bool), Failure> {
        let mut places = Vec::new();
        for text in &self.cache_to {
            match RemoteSpec::parse_inline(text) {
                None => places.push(text.clone()),
                Some(Ok(())) => {}
                Some(Err(e)) => return Err(Failure::usage(format!("--cache-to `{text}`: {e}"))),
            }
        }
        let inline = wanted.inline || places.len() < self.cache_to.len();
        if inline && wanted.squash {
            let text = "--cache-to type=inline: --squash leaves no layer of a step to use again";
            return Err(Failure::usage(text));
        }
        if inline && !wanted.image {
            let text = "--cache-to type=inline: no output of this build is an image";
            return Err(Failure::usage(text).with_hint("use -o type=image, oci or docker"));
        }
        Ok((places, inline))
    }
}

/// The remote caches that are named; none if there are none.
pub(super) fn of(
    app: &App,
    args: &ShareArgs,
    wanted: &Wanted,
    cancel: CancellationToken,
) -> Result<Option<Share>, Failure> {
    let settings = &app.settings.cache;
    let (places, inline) = args.inline(wanted)?;
    let (results, mounts): (Parse, Parse) = (RemoteSpec::parse, RemoteSpec::parse_for_mounts);
    let mut from = parse("--cache-from", &args.cache_from, results, false)?;
    let mut to = parse("--cache-to", &places, results, true)?;
    let named = &args.cache_mount_from;
    let mut mounts_from = parse("--cache-mount-from", named, mounts, false)?;
    let named = &args.cache_mount_to;
    let mut mounts_to = parse("--cache-mount-to", named, mounts, true)?;
    let writes = [
        ("--cache-to", inline || !to.is_empty()),
        ("--cache-mount-to", !mounts_to.is_empty()),
    ];
    for (option, is_given) in writes {
        if settings.read_only && is_given {
            return Err(
                Failure::usage(format!("{option}: this host is set to read-only"))
                    .with_hint("`read-only` in section [cache] of the config file"),
            );
        }
    }
    from.extend(settings.from.iter().cloned());
    mounts_from.extend(settings.mounts_from.iter().cloned());
    if !settings.read_only {
        to.extend(settings.to.iter().cloned());
    }
    // What began empty on purpose replaces what is there only where that is asked for.
    if !settings.read_only && !wanted.clear_mounts {
        mounts_to.extend(settings.mounts_to.iter().cloned());
    }
    if wanted.clear_mounts {
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
                ui::warning(&format!("{option} `{spec}`: there is no such directory"));
            }
            found
        });
    }
    let all = [&from, &to, &mounts_from, &mounts_to];
    if !inline && all.iter().all(|specs| specs.is_empty()) {
        return Ok(None);
    }
    let lonely = |spec: &&RemoteSpec| {
        spec.single_flight == Some(true) && !from.iter().any(|f| f.kind == spec.kind)
    };
    if let Some(spec) = to.iter().find(lonely) {
        let text = format!("--cache-to `{spec}`: single-flight needs the same place to be read");
        return Err(Failure::usage(text).with_hint("add it as --cache-from"));
    }
    let mut registries = app.settings.registries.clone();
    // A cache that takes long is worse than none.
    registries.retry = RetryPolicy {
        tries: 2,
        pause: Duration::from_millis(200),
        longest: Duration::from_secs(2),
    };
    registries.connect_timeout = Duration::from_secs(5);
    registries.read_timeout = Duration::from_secs(20);
    let mut opened = Opened {
        settings,
        client: Client::new(registries, app.credentials()),
        remotes: Vec::new(),
    };
    let mut remotes = Remotes::default();
    if inline {
        let inline = InlineCache::new(&settings.namespace, opened.trust());
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
    Ok(Some(Share::new(
        remotes,
        settings.patience,
        cancel,
        progress::events(),
    )))
}

/// The remotes that are open. The same place is one remote, whatever it is used for, and fails once.
struct Opened<'a> {
    settings: &'a CacheSettings,
    client: Client,
    remotes: Vec<(RemoteSpec, Remote)>,
}

impl Opened<'_> {
    fn trust(&self) -> Trust {
        Trust {
            sign: self.settings.sign.clone(),
            accept: self.settings.accept.clone(),
        }
    }

    fn remote(&mut self, spec: &RemoteSpec) -> Result<Remote, Failure> {
        let same = |(other, _): &&(RemoteSpec, Remote)| {
            other.kind == spec.kind && other.single_flight == spec.single_flight
        };
        if let Some((_, remote)) = self.remotes.iter().find(same) {
            return Ok(remote.clone());
        }
        let remote = Remote::open(spec, &self.client, &self.settings.namespace, self.trust())
            .map_err(|e| Failure::new(format!("cache {spec}: {e}")))?;
        self.remotes.push((spec.clone(), remote.clone()));
        Ok(remote)
    }
}

/// Waits until what was to be shared is shared. After an interruption only claims are given back, in a
/// few seconds at most; then there is nothing to tell.
pub(super) async fn finish(engine: &Engine, cancel: &CancellationToken) -> Option<Left> {
    let share = engine.share()?;
    engine.leave_mounts();
    let left = share.drain().await;
    (!cancel.is_cancelled()).then_some(left)
}

/// Tells what was shared.
pub(super) fn report(engine: &Engine, left: Option<Left>, mode: Mode) {
    let (Some(share), Some(left)) = (engine.share(), left) else {
        return;
    };
    let mounts = left.mounts;
    let told = [
        (
            share.leaves(),
            json!({
                "event": "shared", "sent": left.sent, "bytes": left.bytes, "there": left.there,
                "failed": left.failed,
            }),
            format!(
                "cache: {} sent ({}), {} there before",
                left.sent,
                human_size(left.bytes),
                left.there
            ),
            left.failed,
        ),
        (
            share.leaves_mounts() || mounts.brought > 0,
            json!({
                "event": "shared-mounts", "brought": mounts.brought, "sent": mounts.sent,
                "bytes": mounts.bytes, "there": mounts.there, "failed": mounts.failed,
            }),
            format!(
                "cache mounts: {} brought in, {} sent ({}), {} unchanged",
                mounts.brought,
                mounts.sent,
                human_size(mounts.bytes),
                mounts.there
            ),
            mounts.failed,
        ),
    ];
    for (is_told, facts, mut text, failed) in told {
        match mode {
            _ if !is_told => {}
            Mode::Quiet => {}
            Mode::Rawjson => ui::event(facts),
            _ => {
                if failed > 0 {
                    text.push_str(&format!(", {failed} not sent"));
                }
                ui::note(&text);
            }
        }
    }
}
