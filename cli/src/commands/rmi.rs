//! `kiln rmi`.

use std::process::ExitCode;

use kiln_cache::{Store, StoredImage};
use kiln_image::{Reference, with_causes};

use crate::engine::App;
use crate::errors::Failure;
use crate::ui;

/// Remove images
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Layers stay in the cache: a build that makes the same image again runs nothing.

Examples:
  kiln rmi web:1.0
  kiln rmi -f 4f1b2c3d")]
pub(crate) struct Args {
    /// Remove an image with all its names, and do not mind images that are not there
    #[arg(short, long)]
    force: bool,
    /// Images, by name or id
    #[arg(required = true)]
    images: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let store = app.store_to_remove()?;
    let mut failed = false;
    for image in &args.images {
        let found = match store.find_image(image) {
            Err(kiln_cache::Error::NoImage { .. }) if args.force => continue,
            other => other.map_err(Failure::from),
        };
        if let Err(failure) = found.and_then(|found| remove(&store, image, &found, args.force)) {
            failed = true;
            failure.report();
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn remove(store: &Store, text: &str, image: &StoredImage, force: bool) -> Result<(), Failure> {
    let id = &image.row.config;
    let names = store.names_of(id)?;
    let written = Reference::parse(text).ok();
    match written.as_ref().filter(|name| names.contains(name)) {
        Some(name) => {
            let last = store.remove_name(name, id)?;
            ui::data(&format!("Untagged: {}", name.familiar()));
            if last {
                ui::data(&format!("Deleted: {id}"));
            }
            return Ok(());
        }
        None if written.as_ref().is_some_and(|name| name.digest().is_some()) => {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let text = format!("`{text}` is no name of the image that was pulled with this digest");
            return Err(Failure::new(text).with_hint(format!("its names are {}", names.join(", "))));
        }
        None if names.len() > 1 && !force => {
            return Err(Failure::new(format!("`{text}` has {} names", names.len()))
                .with_hint("remove them by name, or all with -f"));
        }
        None => {
            for name in &names {
                ui::data(&format!("Untagged: {}", name.familiar()));
            }
        }
    }
    store
        .remove_image(id)
        .map_err(|e| Failure::new(with_causes(&e)))?;
    ui::data(&format!("Deleted: {id}"));
    Ok(())
}
