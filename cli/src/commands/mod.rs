//! One file per command: its arguments, whose comments are its help, and what it does.

pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod completions;
pub(crate) mod explain_context;
pub(crate) mod fmt;
pub(crate) mod fsck;
pub(crate) mod groups;
pub(crate) mod history;
mod image_filter;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod load;
mod output;
pub(crate) mod prune;
pub(crate) mod prune_images;
pub(crate) mod pull;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod system;
pub(crate) mod tag;
pub(crate) mod version;

use std::process::ExitCode;

use kiln_engine::Platform;

use crate::app::App;
use crate::args::Command;
use crate::errors::Failure;

/// Carries out a command.
pub(crate) fn run(app: &App, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Build(args) => build::run(app, &args),
        Command::Run(args) => run::run(app, &args),
        Command::Pull(args) => pull::run(app, &args),
        Command::Images(args) => images::run(app, &args),
        Command::Tag(args) => tag::run(app, &args),
        Command::Rmi(args) => rmi::run(app, &args),
        Command::History(args) => history::run(app, &args),
        Command::Inspect(args) => inspect::run(app, &args),
        Command::Save(args) => save::run(app, &args),
        Command::Load(args) => load::run(app, &args),
        Command::Import(args) => import::run(app, &args),
        Command::Prune(args) => prune::run(app, &args),
        Command::System(args) => system::run(app, &args),
        Command::Cache(args) => cache::run(app, &args),
        Command::Fsck(args) => fsck::run(app, &args),
        Command::Fmt(args) => fmt::run(&args),
        Command::ExplainContext(args) => explain_context::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Version(args) => version::run(&args),
        Command::Info(args) => info::run(app, &args),
        Command::Man(args) => completions::man(&args),
        Command::Image(command) => groups::image(app, command),
        Command::Builder(command) | Command::Buildx(command) => groups::builder(app, command),
        Command::Container(command) => groups::container(app, command),
        Command::Maintenance => {
            app.engine.system().maintain()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The value of `--platform`; this machine's if it was not given.
fn platform(text: Option<&str>) -> Result<Platform, Failure> {
    match text.filter(|text| !text.is_empty()) {
        None => Ok(Platform::host()),
        Some(text) => text
            .parse()
            .map_err(|e| Failure::usage(format!("--platform `{text}`: {e}"))),
    }
}
