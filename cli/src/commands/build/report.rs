//! What is said of a build that is over.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_engine::solver::event::Counts;
use kiln_engine::solver::plan::VertexId;
use kiln_engine::solver::ports::{PortError, PortErrorKind};
use kiln_engine::{
    Assembled, Build, Descriptor, Error, ErrorKind, Reference, Solved, SourceText, host::system,
};

use super::{Args, hints};
use crate::errors::Failure;
use crate::hints::of_build;
use crate::progress::{Mode, Model};
use crate::{diagnostics, github, printable, ui};

/// Prints what went wrong, where, and what to do.
pub(super) fn explain(error: Error, model: &Model, source: &SourceText) -> Failure {
    match error {
        Error::Dockerfile { file, error } => {
            diagnostics::lower_error(&file, &error);
            Failure::silent(1)
        }
        error if error.kind() == ErrorKind::Cancelled => Failure::interrupted("build"),
        Error::Step { vertex, log, error } => step_failure(vertex, log, &error, model, source),
        error => error.into(),
    }
}

fn step_failure(
    vertex: Option<VertexId>,
    log: Option<PathBuf>,
    error: &PortError,
    model: &Model,
    source: &SourceText,
) -> Failure {
    let step = vertex.and_then(|vertex| model.steps.get(&vertex));
    if vertex.is_some() && github::is_here() && !ui::is_json() {
        let lines = step.and_then(|step| step.lines);
        let lines = lines.map(|lines| (lines.first, lines.last));
        ui::painted(&github::annotation("error", source, lines, &error.message));
    }
    // What a step needs fails without the step.
    if let Some(step) = step.filter(|_| !matches!(error.kind, PortErrorKind::Inputs { .. }))
        && !ui::is_json()
    {
        ui::note("------");
        ui::note(&format!(" > {}:", step.name));
        for line in &step.output {
            ui::note(line);
        }
        ui::note("------");
        if let Some(lines) = step.lines {
            ui::note(&diagnostics::excerpt(source, lines));
        }
        if let Some(log) = log {
            ui::note(&format!("The step's whole output is in {}", log.display()));
        }
    }
    let said = step.filter(|_| matches!(error.kind, PortErrorKind::Command { .. }));
    let said = said.map(|step| step.output.iter().map(String::as_str));
    let hint = said.and_then(hints::of_output);
    let failure = Failure {
        no_space: error.kind.is_no_space(),
        hint: error.hint.as_ref().map(of_build),
        ..Failure::new(format!("failed to build: {}", error.message))
    };
    match hint.filter(|_| failure.hint.is_none() && !failure.no_space) {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// A name for this build as buildx makes one: 25 letters and digits.
fn build_id() -> String {
    let mut random = [0; 25];
    // Without random bytes it is a name too, only not one of its own.
    let _ = system::random(&mut random);
    let digit = |byte: &u8| char::from_digit(u32::from(*byte) % 36, 36).unwrap_or('0');
    random.iter().map(digit).collect()
}

/// Writes `--metadata-file`, with the names that buildx gives to facts. `manifest` is what was
/// written into an archive. An image in the store has no manifest yet: its layers are compressed,
/// and so get their digests, when it leaves the store.
fn metadata(
    path: &Path,
    build: &Build,
    image: &Assembled,
    manifest: Option<Descriptor>,
    counts: Counts,
) -> Result<(), Failure> {
    let mut facts = serde_json::json!({
        "buildx.build.ref": format!("default/default/{}", build_id()),
        "containerimage.config.digest": image.id.as_str(),
        "kiln.steps.cached": counts.cached,
        "kiln.steps.cached_remotely": counts.remote,
        "kiln.steps.fetched": counts.fetched,
        "kiln.steps.ran": counts.ran,
        "kiln.steps.skipped": counts.skipped,
    });
    if let Some(manifest) = manifest {
        facts["containerimage.digest"] = manifest.digest.as_str().into();
        facts["containerimage.descriptor"] = serde_json::to_value(manifest)?;
    }
    let request = build.request();
    let mut all: Vec<String> = Vec::new();
    for name in request.names.iter().chain(request.outputs.names()) {
        let name = name.to_string();
        if !all.contains(&name) {
            all.push(name);
        }
    }
    if !all.is_empty() && request.outputs.have_image() {
        facts["image.name"] = all.join(",").into();
    }
    write_file(
        path,
        &printable::json(serde_json::to_string_pretty(&facts)?),
    )
}

/// Tells what was built, in files and on the terminal.
pub(super) fn finish(
    args: &Args,
    build: &Build,
    solved: &Solved,
    manifest: Option<Descriptor>,
    model: &Model,
    mode: Mode,
) -> Result<(), Failure> {
    let (image, outputs) = (&solved.image, &build.request().outputs);
    let counts = model.counts;
    if let Some(path) = &args.metadata_file {
        metadata(path, build, image, manifest, counts)?;
    }
    if let Some(path) = &args.iidfile {
        write_file(path, image.id.as_str())?;
    }
    let names = build.request().names.iter();
    let shown: Vec<String> = names.map(Reference::familiar).collect();
    if mode == Mode::Quiet {
        if !outputs.use_stream() {
            ui::data(image.id.as_str());
        }
    } else if mode == Mode::Rawjson {
        let mut built = facts(counts);
        built["event"] = "built".into();
        built["image"] = image.id.as_str().into();
        built["names"] = shown.into();
        built["saved_ms"] = (model.saved.as_secs_f64() * 1000.0).into();
        ui::event(built);
    } else {
        // A directory or a tar has no name.
        let names = if shown.is_empty() || !outputs.have_image() {
            String::new()
        } else {
            format!(" {}", shown.join(", "))
        };
        times(model);
        ui::note(&format!("built{names} {} ({})", image.id, summary(counts)));
    }
    Ok(())
}

/// A build that takes so long is worth a word on where the time went.
const LONG: Duration = Duration::from_secs(20);

/// A duration as people say it.
fn long(time: Duration) -> String {
    match time.as_secs() {
        0..100 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Tells where the time of a long build went, and what the cache saved.
fn times(model: &Model) {
    let all = model.began.map_or(Duration::ZERO, |began| began.elapsed());
    let slowest = model.slowest();
    if all >= LONG && slowest.len() > 1 {
        let told = slowest.iter().map(|step| {
            let name: String = step.name.chars().take(60).collect();
            format!("{} {name}", long(step.took))
        });
        let told: Vec<String> = told.collect();
        ui::note(&format!("slowest: {}", told.join("; ")));
    }
    if model.saved >= LONG {
        ui::note(&format!("the cache saved {}", long(model.saved)));
    }
}

/// Tells how far a build came that has failed.
pub(super) fn failed(model: &Model, mode: Mode) {
    let counts = model.counts;
    if mode == Mode::Rawjson {
        let mut failed = facts(counts);
        failed["event"] = "failed".into();
        ui::event(failed);
    } else if mode != Mode::Quiet && counts != Counts::default() {
        ui::note(&format!("not built ({})", summary(counts)));
    }
}

/// What became of the steps: always how many were cached and ran, the rest where there is any.
fn summary(counts: Counts) -> String {
    let Counts {
        cached,
        remote,
        fetched,
        ran,
        failed,
        cancelled,
        not_reached,
        skipped,
    } = counts;
    let always = ["cached", "ran"];
    let all = [
        (cached, "cached"),
        (remote, "cached remotely"),
        (fetched, "fetched"),
        (ran, "ran"),
        (failed, "failed"),
        (cancelled, "canceled"),
        (not_reached, "not reached"),
        (skipped, "skipped"),
    ];
    let told = all
        .iter()
        .filter(|(n, what)| *n > 0 || always.contains(what));
    let told: Vec<String> = told.map(|(n, what)| format!("{n} {what}")).collect();
    told.join(", ")
}

fn facts(counts: Counts) -> serde_json::Value {
    serde_json::json!({
        "cached": counts.cached, "remote": counts.remote, "fetched": counts.fetched,
        "ran": counts.ran,
        "failed": counts.failed, "canceled": counts.cancelled,
        "not-reached": counts.not_reached, "skipped": counts.skipped,
    })
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|e| Failure::new(format!("cannot write `{}`: {e}", path.display())))
}
