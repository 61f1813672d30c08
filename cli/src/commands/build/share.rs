//! Remote caches of a build, as the command line names them, and what is said of them.

use kiln_engine::{Build, ExportSummary, RemoteCachesRequest, RemoteSpec, SpecError, human_bytes};
use serde_json::json;

use crate::errors::Failure;
use crate::progress::Mode;
use crate::ui;

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

impl ShareArgs {
    /// The remote caches that are named; `inline` tells that another option asks for records in the image.
    pub(super) fn request(&self, inline: bool) -> Result<RemoteCachesRequest, Failure> {
        let mut places = Vec::new();
        // `type=inline` is not a place.
        for text in &self.cache_to {
            match RemoteSpec::parse_inline(text) {
                None => places.push(text.clone()),
                Some(Ok(())) => {}
                Some(Err(e)) => return Err(Failure::usage(format!("--cache-to `{text}`: {e}"))),
            }
        }
        let inline = inline || places.len() < self.cache_to.len();
        let (results, mounts): (Parse, Parse) = (RemoteSpec::parse, RemoteSpec::parse_for_mounts);
        let (mounts_from, mounts_to) = (&self.cache_mount_from, &self.cache_mount_to);
        Ok(RemoteCachesRequest {
            from: parse("--cache-from", &self.cache_from, results, false)?,
            to: parse("--cache-to", &places, results, true)?,
            mounts_from: parse("--cache-mount-from", mounts_from, mounts, false)?,
            mounts_to: parse("--cache-mount-to", mounts_to, mounts, true)?,
            inline,
        })
    }
}

/// Tells what was shared.
pub(super) fn report(build: &Build, left: Option<ExportSummary>, mode: Mode) {
    let Some(left) = left else { return };
    let (results_are_exported, mounts_are_exported) = build.exports();
    let mounts = left.mounts;
    let told = [
        (
            results_are_exported,
            json!({
                "event": "shared", "sent": left.sent, "bytes": left.bytes, "there": left.there,
                "failed": left.failed,
            }),
            format!(
                "cache: {} sent ({}), {} there before",
                left.sent,
                human_bytes(left.bytes),
                left.there
            ),
            left.failed,
        ),
        (
            mounts_are_exported || mounts.brought > 0,
            json!({
                "event": "shared-mounts", "brought": mounts.brought, "sent": mounts.sent,
                "bytes": mounts.bytes, "there": mounts.there, "failed": mounts.failed,
            }),
            format!(
                "cache mounts: {} brought in, {} sent ({}), {} unchanged",
                mounts.brought,
                mounts.sent,
                human_bytes(mounts.bytes),
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
