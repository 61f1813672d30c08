//! Docker's longer names: `kiln image ls` is `kiln images`, and so on.

use std::process::ExitCode;

use clap::Subcommand;

use super::{
    build, history, images, import, inspect, load, prune, prune_images, pull, rmi, run, save, tag,
};
use crate::app::App;
use crate::errors::Failure;

/// `kiln image`.
#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    Build(Box<build::Args>),
    History(history::Args),
    Import(import::Args),
    Inspect(inspect::Args),
    Load(load::Args),
    #[command(visible_alias = "list")]
    Ls(images::Args),
    Prune(prune_images::Args),
    Pull(pull::Args),
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
    Save(save::Args),
    Tag(tag::Args),
}

/// `kiln builder`, and `kiln buildx`.
#[derive(Debug, Subcommand)]
pub(crate) enum Builder {
    Build(Box<build::Args>),
    Prune(prune::Args),
}

/// `kiln container`.
#[derive(Debug, Subcommand)]
pub(crate) enum Container {
    Run(Box<run::Args>),
}

/// Carries out `kiln image …`.
pub(crate) fn image(app: &App, command: Image) -> Result<ExitCode, Failure> {
    match command {
        Image::Build(args) => build::run(app, &args),
        Image::History(args) => history::run(app, &args),
        Image::Import(args) => import::run(app, &args),
        Image::Inspect(args) => inspect::run(app, &args),
        Image::Load(args) => load::run(app, &args),
        Image::Ls(args) => images::run(app, &args),
        Image::Prune(args) => prune_images::run(app, &args),
        Image::Pull(args) => pull::run(app, &args),
        Image::Rm(args) => rmi::run(app, &args),
        Image::Save(args) => save::run(app, &args),
        Image::Tag(args) => tag::run(app, &args),
    }
}

/// Carries out `kiln builder …` and `kiln buildx …`.
pub(crate) fn builder(app: &App, command: Builder) -> Result<ExitCode, Failure> {
    match command {
        Builder::Build(args) => build::run(app, &args),
        Builder::Prune(args) => prune::run(app, &args),
    }
}

/// Carries out `kiln container …`.
pub(crate) fn container(app: &App, command: Container) -> Result<ExitCode, Failure> {
    match command {
        Container::Run(args) => run::run(app, &args),
    }
}
