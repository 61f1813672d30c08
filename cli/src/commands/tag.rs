//! `kiln tag`.

use std::process::ExitCode;

use kiln_engine::Reference;

use crate::app::App;
use crate::errors::Failure;

/// Give an image another name
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln tag web:1.0 web:latest
  kiln tag 4f1b2c3d registry.example.com/team/web:1.0")]
pub(crate) struct Args {
    /// Image, by name or id
    // Completion takes it out and puts it back, behind the other.
    #[arg(index = 1)]
    source: String,
    /// New name
    #[arg(index = 2)]
    target: String,
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let target = Reference::parse_new(&args.target)
        .map_err(|e| Failure::usage(format!("`{}`: {e}", args.target)))?;
    app.engine.images().tag(&args.source, &target)?;
    Ok(ExitCode::SUCCESS)
}
