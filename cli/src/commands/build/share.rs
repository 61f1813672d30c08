//! Remote caches of a build: those of the command line and those of the config file.

use std::time::Duration;

use kiln_cache::remote::{Remote, RemoteSpec, Trust};
use kiln_executor::{Engine, Left, Share};
use kiln_registry::{Client, RetryPolicy};
use tokio_util::sync::CancellationToken;

use crate::engine::App;
use crate::errors::Failure;
use crate::progress::Mode;
use crate::progress::bytes as human_size;
use crate::ui;

/// The remote caches that are named; none if there are none.
pub(super) fn of(app: &App, from: &[String], to: &[String]) -> Result<Option<Share>, Failure> {
    let settings = &app.settings.cache;
    let parse = |option: &str, text: &String, writing| {
        RemoteSpec::parse(text, writing)
            .map_err(|e| Failure::usage(format!("{option} `{}`: {e}", RemoteSpec::redacted(text))))
    };
    let mut reading = Vec::new();
    for text in from {
        reading.push(parse("--cache-from", text, false)?);
    }
    reading.extend(settings.from.iter().cloned());
    let mut writing = Vec::new();
    for text in to {
        writing.push(parse("--cache-to", text, true)?);
    }
    if !settings.read_only {
        writing.extend(settings.to.iter().cloned());
    } else if !to.is_empty() {
        return Err(Failure::usage("--cache-to: this host is set to read-only")
            .with_hint("`read-only` in section [cache] of the config file"));
    }
    if reading.is_empty() && writing.is_empty() {
        return Ok(None);
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
    let client = Client::new(registries, app.credentials()?);
    let open = |spec: &RemoteSpec| {
        let trust = Trust {
            sign: settings.sign.clone(),
            accept: settings.accept.clone(),
        };
        Remote::open(spec, &client, &settings.namespace, trust)
            .map_err(|e| Failure::new(format!("cache {spec}: {e}")))
    };
    // The same place for reading and writing is one remote, which fails once.
    let mut opened: Vec<Remote> = Vec::new();
    for spec in &writing {
        opened.push(open(spec)?);
    }
    let to: Vec<_> = opened.iter().cloned().zip(writing).collect();
    let mut sources = Vec::new();
    for spec in &reading {
        let known = to.iter().find(|(_, other)| {
            other.kind == spec.kind && other.single_flight == spec.single_flight
        });
        sources.push(match known {
            Some((remote, _)) => remote.clone(),
            None => open(spec)?,
        });
    }
    Ok(Some(Share::new(sources, to, settings.patience)))
}

/// How long claims are given back after an interruption.
const GIVING_BACK: Duration = Duration::from_secs(1);

/// Waits until what was to be shared is shared.
pub(super) async fn finish(engine: &Engine, cancel: &CancellationToken) -> Option<Left> {
    let share = engine.share().filter(|s| s.leaves())?;
    tokio::select! {
        left = share.drain() => Some(left),
        () = cancel.cancelled() => {
            let _ = tokio::time::timeout(GIVING_BACK, share.drain()).await;
            None
        }
    }
}

/// Tells what was shared.
pub(super) fn report(left: Option<Left>, mode: Mode) {
    let Some(left) = left.filter(|_| mode != Mode::Quiet) else {
        return;
    };
    if mode == Mode::Rawjson {
        let shared = serde_json::json!({
            "event": "shared", "sent": left.sent, "bytes": left.bytes, "there": left.there,
            "failed": left.failed,
        });
        ui::note(&shared.to_string());
        return;
    }
    let mut text = format!(
        "cache: {} sent ({}), {} there before",
        left.sent,
        human_size(left.bytes),
        left.there
    );
    if left.failed > 0 {
        text.push_str(&format!(", {} not sent", left.failed));
    }
    ui::note(&text);
}
