//! `--check-reproducible`: what is said of a second build.

use std::sync::PoisonError;

use kiln_engine::{Build, Difference, Error, ErrorKind, Solved};
use serde_json::json;

use crate::errors::Failure;
use crate::events::{self, Differences};
use crate::progress::{Display, Mode};
use crate::{printable, ui};

/// Builds a second time from scratch, and tells what differs.
///
/// # Errors
/// There is a difference, or the second build failed.
pub(super) async fn check(build: &Build, first: &Solved, mode: Mode) -> Result<(), Failure> {
    let display = Display::start(mode, "Building a second time".into(), false);
    let differences = Differences::default();
    let events = events::compared(&display, mode, &differences);
    let checked = build.check_reproducible(first, &events).await;
    display.finish();
    let differing = differences.lock().unwrap_or_else(PoisonError::into_inner);
    match checked {
        Ok(()) => {
            if mode == Mode::Rawjson {
                ui::event(json!({ "event": "reproducible" }));
            } else if mode != Mode::Quiet {
                ui::note("reproducible: a second build from scratch gave the same layers");
            }
            Ok(())
        }
        Err(error) => {
            if let Error::NotReproducible { .. } = &error {
                tell(&differing, mode);
            }
            Err(match error.kind() {
                ErrorKind::Cancelled => Failure::interrupted("build"),
                _ => error.into(),
            })
        }
    }
}

/// Tells the first difference in full, and which other steps have one.
fn tell(differing: &[(String, Difference)], mode: Mode) {
    if mode == Mode::Rawjson {
        for (step, d) in differing {
            let event = json!({
                "event": "difference", "step": step, "path": d.path, "field": d.field,
                "offset": d.offset, "first": d.first, "second": d.second, "paths": d.paths,
            });
            ui::event(event);
        }
        return;
    }
    let Some(((step, d), rest)) = differing.split_first() else {
        return ui::note(
            "the layers are the same, but the image's config has the time of the build",
        );
    };
    ui::note(&format!("not the same: {step}"));
    let at = d
        .offset
        .map_or(String::new(), |o| format!(" from byte {o} on"));
    let path = printable::marked(&d.path);
    ui::note(&format!("  {path}: {} differs{at}", d.field));
    ui::note(&format!(
        "    first build:  {}",
        printable::marked(&d.first)
    ));
    ui::note(&format!(
        "    second build: {}",
        printable::marked(&d.second)
    ));
    if d.paths > 1 {
        ui::note(&format!("  and {} more paths of this step", d.paths - 1));
    }
    for (step, d) in rest {
        let path = printable::marked(&d.path);
        ui::note(&format!("then also: {step}: {path} ({})", d.field));
    }
}
