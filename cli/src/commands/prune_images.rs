//! `kiln image prune` and `kiln system prune`.

use std::process::ExitCode;

use kiln_cache::{ImageRow, Prune, Store};

use super::image_filter::ImageFilter;
use super::prune::{self, age, confirm};
use crate::engine::App;
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

/// The images that all filters fit, of those without a name or of all. The store that is asked is
/// closed again: what it has read counts as used.
fn choose(app: &App, all: bool, filters: &[ImageFilter]) -> Result<Vec<ImageRow>, Failure> {
    let store = app.store_to_remove()?;
    let mut chosen = Vec::new();
    let rows = store.images()?;
    let configs = store.configs_of(&rows)?;
    for row in rows {
        if !all && row.name.is_some() {
            continue;
        }
        // A row whose config is gone is no image any more.
        let Some(config) = configs.get(&row.config) else {
            continue;
        };
        if filters.iter().all(|f| f.fits(&row, config)) {
            chosen.push(row);
        }
    }
    Ok(chosen)
}

/// Removes images and tells which. Returns the bytes that are gone.
fn remove(store: &Store, chosen: &[ImageRow]) -> Result<u64, Failure> {
    let removed = store.remove_unused_images(chosen)?;
    if removed.rows.is_empty() {
        return Ok(0);
    }
    ui::data("Deleted Images:");
    for name in removed.rows.iter().filter_map(|row| row.name.as_ref()) {
        ui::data(&format!("untagged: {}", name.familiar()));
    }
    for id in &removed.ids {
        ui::data(&format!("deleted: {id}"));
    }
    ui::data("");
    Ok(removed.bytes)
}

/// Runs `kiln image prune`.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let filters = ImageFilter::all(&args.filter, FILTERS)?;
    confirm(
        args.force,
        match args.all {
            true => "This removes all images that no container uses.",
            false => "This removes all images without a name.",
        },
    )?;
    let chosen = choose(app, args.all, &filters)?;
    let store = app.store_to_remove()?;
    let before = store.removable()?;
    let bytes = remove(&store, &chosen)?;
    ui::data(&format!("Total reclaimed space: {}", size(bytes)));
    let freed = store.removable()?.saturating_sub(before);
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
    let chosen = choose(app, args.all, &filters)?;
    let store = app.store_to_remove()?;
    let of_images = remove(&store, &chosen)?;
    let of_cache = prune::remove(&store, &cache, false)?;
    let sum = size(of_images + of_cache);
    ui::data(&format!("Total reclaimed space: {sum}"));
    Ok(ExitCode::SUCCESS)
}
