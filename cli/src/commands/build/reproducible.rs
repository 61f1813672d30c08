//! `--check-reproducible`: the same plan from scratch, compared step by step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use kiln_executor::{Difference, Output};
use kiln_solver::plan::{Op, VertexId};
use kiln_solver::schedule::{self, SolveError};
use serde_json::json;
use tokio::runtime::Runtime;

use super::work::{Build, Solved};
use crate::errors::Failure;
use crate::interrupt::Interrupt;
use crate::progress::{Display, Mode};
use crate::{printable, ui};

/// Carries the plan out again with nothing from the cache, and compares the layers of all steps.
/// Nothing of the second run stays in the store.
///
/// # Errors
/// There is a difference, or the second run failed.
pub(super) fn check(
    build: &Build<'_>,
    first: &Solved,
    runtime: &Runtime,
    mode: Mode,
) -> Result<(), Failure> {
    let checked = check_and_tell(build, first, runtime, mode);
    // Also what a run that failed has left.
    let cleared = build.engine.store().discard_own_unrecorded();
    checked?;
    Ok(cleared?)
}

fn check_and_tell(
    build: &Build<'_>,
    first: &Solved,
    runtime: &Runtime,
    mode: Mode,
) -> Result<(), Failure> {
    let display = Display::start(mode, "Building a second time".into(), false);
    let options = schedule::Options {
        parallelism: build.parallelism,
        started: SystemTime::now(),
        ttl: None,
        unrecorded: true,
        shared: false,
        files: false,
        events: display.events(),
        cancel: build.cancel.clone(),
        over: build.cancel.child_token(),
    };
    let worker = Arc::new(build.engine.without_mounts()?);
    let solving = schedule::solve(first.plan.clone(), &first.targets, worker, options);
    let second = runtime.block_on(solving);
    display.finish();
    let second = second.map_err(|error| match error {
        SolveError::Cancelled => Interrupt::failure(),
        SolveError::Vertex { vertex, error } => Failure::new(format!(
            "the second build failed where the first did not: {}: {}",
            first.plan.vertex(vertex).name,
            error.message
        )),
        // None are asked for.
        SolveError::Files(error) => Failure::new(error.message),
    })?;
    let second: BTreeMap<VertexId, Output> = second.made.into_iter().collect();
    let mut differing = Vec::new();
    for (vertex, output) in &first.made {
        let step = first.plan.vertex(*vertex);
        if !matches!(step.op, Op::Exec(_) | Op::File(_)) {
            continue;
        }
        let Some(again) = second.get(vertex) else {
            continue;
        };
        let comparing = build.engine.first_difference(output, again, first.epoch);
        if let Some(difference) = runtime.block_on(comparing)? {
            differing.push((step.name.as_str(), difference));
        }
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let is_clamped = first
        .epoch
        .is_some_and(|epoch| epoch <= now.unwrap_or_default().as_secs());
    if differing.is_empty() && is_clamped {
        if mode == Mode::Rawjson {
            ui::event(json!({ "event": "reproducible" }));
        } else if mode != Mode::Quiet {
            ui::note("reproducible: a second build from scratch gave the same layers");
        }
        return Ok(());
    }
    tell(&differing, mode);
    let failure = Failure::new("the build is not reproducible");
    let only_times = differing.iter().all(|(_, d)| d.field == "mtime");
    Err(match (is_clamped, only_times) {
        (true, _) => failure,
        (false, true) => failure.with_hint(
            "files, layers and history carry the time of the build; set SOURCE_DATE_EPOCH, for \
             example to the time of the last commit",
        ),
        (false, false) => failure.with_hint(
            "what steps write differs, and times do too as long as SOURCE_DATE_EPOCH is not set",
        ),
    })
}

/// Tells the first difference in full, and which other steps have one.
fn tell(differing: &[(&str, Difference)], mode: Mode) {
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
