//! `kiln rmi`.

use std::process::ExitCode;

use kiln_engine::ErrorKind;

use crate::app::App;
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
    // A store that cannot be opened is said once.
    app.engine.check_store_to_remove()?;
    let mut failed = false;
    for image in &args.images {
        match app.engine.images().remove(image, args.force) {
            Ok(removed) => {
                for name in &removed.untagged {
                    ui::data(&format!("Untagged: {}", name.familiar()));
                }
                if let Some(id) = &removed.deleted {
                    ui::data(&format!("Deleted: {id}"));
                }
            }
            Err(error) if args.force && error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                failed = true;
                Failure::from(error).report();
            }
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}
