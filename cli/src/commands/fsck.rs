//! `kiln fsck`.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kiln_engine::{Fate, HurtImage, Part, Reference};

use crate::app::App;
use crate::errors::Failure;
use crate::ui;

/// Check the store
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Blobs are hashed, layers are packed again and compared with what was written, records, images and cache mounts must have what they refer to. A line is printed for each thing that is wrong, and the exit code is 1 then, with --repair too.

A build checks that a layer is there, not that every byte of its files is what it was: that is what this command is for. Images that have lost something are named, with what becomes of them. It takes as long as reading the store. The files of cache mounts are not checked, for steps may write to them as they like.

Examples:
  kiln fsck
  kiln fsck --repair")]
pub(crate) struct Args {
    /// Take what is wrong out of the store, so that it is fetched or made again when it is needed
    #[arg(long)]
    repair: bool,
}

/// An image by its names, or by its id if it has none.
fn shown(image: &HurtImage) -> String {
    if image.names.is_empty() {
        return format!("{} (without a name)", &image.id.hex()[..12]);
    }
    let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
    names.join(", ")
}

/// What becomes of an image, in words.
fn becomes(image: &HurtImage, repair: bool) -> String {
    let name = shown(image);
    let lost = match image.lost.as_slice() {
        [] => String::new(),
        lost => format!("{} is lost; ", lost.join(", ")),
    };
    match (image.fate, repair) {
        (Fate::Goes, true) => format!(
            "image {name} is removed: {lost}the build that made it, or `kiln pull`, brings it back"
        ),
        (Fate::Goes, false) => format!(
            "image {name}: {lost}--repair removes it; the build that made it, or `kiln pull`, \
             brings it back"
        ),
        (Fate::IsFetched, _) => {
            format!("image {name}: {lost}it is fetched again when it is needed")
        }
    }
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let last = Mutex::new(Instant::now());
    let is_terminal = std::io::stderr().is_terminal();
    let progress = |done: usize, all: usize| {
        let Ok(mut last) = last.lock() else { return };
        if is_terminal && (done == all || last.elapsed() > Duration::from_millis(100)) {
            *last = Instant::now();
            let end = if done == all { '\n' } else { '\r' };
            let _ = write!(std::io::stderr(), "{done} of {all} checked{end}");
        }
    };
    let report = app.engine.system().fsck(args.repair, &progress)?;
    for finding in &report.findings {
        let repaired = if args.repair { "; removed" } else { "" };
        let image = report.images.iter().find(|i| i.id.as_str() == finding.name);
        let name = match image {
            Some(image) if finding.part == Part::Image => shown(image),
            _ => finding.name.clone(),
        };
        ui::data(&format!(
            "{} {name}: {}{repaired}",
            finding.part.as_str(),
            finding.problem
        ));
    }
    for image in &report.images {
        ui::note(&becomes(image, args.repair));
    }
    if !report.unknown.is_empty() {
        let count = report.unknown.len();
        ui::note(&format!(
            "{count} layers of images have no blob to compare them with"
        ));
    }
    let count = report.findings.len();
    ui::note(&format!("{} things checked, {count} wrong", report.checked));
    if count > 0 && !args.repair {
        ui::hint("kiln fsck --repair takes them out; they are fetched or made again when needed");
    }
    Ok(ExitCode::from(u8::from(count > 0)))
}
