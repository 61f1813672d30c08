//! One file per command: its arguments, whose comments are its help, and what it does.

pub(crate) mod build;
mod build_options;
mod output;
pub(crate) mod run;

use std::process::ExitCode;

use crate::args::Command;
use crate::engine::App;
use crate::errors::Failure;

/// Carries out a command.
pub(crate) fn run(app: App, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Build(args) => build::run(&app, *args),
        Command::Run(args) => run::run(&app, *args),
        Command::Promote => {
            let store = app.store()?;
            store.discard_unrecorded()?;
            store.empty_trash()?;
            store.promote()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
