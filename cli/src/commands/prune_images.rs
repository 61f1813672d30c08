//! `kiln image prune` and `kiln system prune`.

use std::process::ExitCode;

use kiln_engine::{ImageFilter, Prune, PrunedImages};

use super::image_filter;
use super::prune::{self, age, confirm};
use crate::app::App;
use crate::errors::Failure;
use crate::ui;
use crate::units::size;

/// Filters of `kiln image prune`.
const FILTERS: &[&str] = &["label", "label!", "until"];

/// Remove images without a name
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An image that a container uses stays. Layers stay in the cache, until `kiln prune` removes them.

Filters:
  until=24h            only images made so long ago, or before a time
  label=NAME[=VALUE]   only images with this label; label!=NAME[=VALUE] without it

Examples:
  kiln image prune
  kiln image prune -af --filter until=168h")]
pub(crate) struct Args {
    /// Remove all images, also those that have names
    #[arg(short, long)]
    all: bool,
    /// Only some: until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE]
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Remove images without a name, and what builds have left in the cache
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It is `kiln image prune` and `kiln prune` in one.

Examples:
  kiln system prune
  kiln system prune -af --filter until=168h")]
pub(crate) struct SystemArgs {
    /// Remove all images, also those that have names, and all results of steps
    #[arg(short, long)]
    all: bool,
    /// Only what was made, or last used, so long ago, or before a time
    #[arg(long, value_name = "until=TIME")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Tells which images were removed.
fn tell(removed: &PrunedImages) {
    if removed.deleted.is_empty() && removed.untagged.is_empty() {
        return;
    }
    ui::data("Deleted Images:");
    for name in &removed.untagged {
        ui::data(&format!("untagged: {}", name.familiar()));
    }
    for id in &removed.deleted {
        ui::data(&format!("deleted: {id}"));
    }
    ui::data("");
}

/// Runs `kiln image prune`.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let filters = image_filter::all(&args.filter, FILTERS)?;
    confirm(
        args.force,
        match args.all {
            true => "This removes all images that no container uses.",
            false => "This removes all images without a name.",
        },
    )?;
    let removed = app.engine.images().prune(args.all, &filters)?;
    tell(&removed);
    ui::data(&format!("Total reclaimed space: {}", size(removed.bytes)));
    let freed = removed.released;
    if freed > 0 {
        let freed = size(freed);
        ui::hint(&format!(
            "layers stay in the cache; `kiln prune` frees {freed} that these images held"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `kiln system prune`.
pub(crate) fn run_system(app: &App, args: &SystemArgs) -> Result<ExitCode, Failure> {
    let mut cache = Prune {
        all: args.all,
        ..Prune::default()
    };
    let mut filters = Vec::new();
    for text in &args.filter {
        match text.split_once('=') {
            Some(("until", value)) => {
                let age = age(value)?;
                cache.unused_for = Some(age);
                filters.push(ImageFilter::Until(age));
            }
            _ => {
                return Err(Failure::usage(format!("--filter `{text}`: unknown filter"))
                    .with_hint(
                        "the filter is until=TIME; `kiln image prune` and `kiln prune` have others",
                    ));
            }
        }
    }
    confirm(
        args.force,
        match args.all {
            true => {
                "This removes all images that no container uses, and all results of steps \
                 from the build cache."
            }
            false => {
                "This removes all images without a name, and all that no image holds from the \
                 build cache."
            }
        },
    )?;
    let images = app.engine.images().prune(args.all, &filters)?;
    tell(&images);
    let removed = app.engine.system().prune(&cache)?;
    prune::tell(&removed, false);
    let sum = size(images.bytes + removed.bytes());
    ui::data(&format!("Total reclaimed space: {sum}"));
    Ok(ExitCode::SUCCESS)
}
