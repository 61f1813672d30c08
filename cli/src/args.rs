//! The command line: what was typed, before files and environment are looked at.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::commands::groups::{Builder, Container, Image};
use crate::errors::NOT_STARTED;

/// Builds OCI images from Dockerfiles and runs them, without a daemon.
#[derive(Debug, Parser)]
#[command(
    name = "kiln",
    version,
    propagate_version = true,
    disable_version_flag = true,
    max_term_width = 100
)]
#[command(after_help = "\
The store is /var/lib/kiln for root, and $XDG_DATA_HOME/kiln otherwise; the config file
/etc/kiln/config.toml, and $XDG_CONFIG_HOME/kiln/config.toml.

Docker's longer names work too: kiln image ls, kiln image prune, kiln builder prune, kiln buildx
build, kiln container run.

Exit codes: 0 success; 1 the command failed; 2 wrong usage; 130 interrupted.
`kiln run` passes the container's own code on. It is 125 if the container could not be started,
126 if its command cannot be executed, 127 if there is no such command, and 128+N if signal N
killed it.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Directory of the store (KILN_ROOT)
    #[arg(
        long,
        global = true,
        env = "KILN_ROOT",
        hide_env = true,
        value_name = "DIR"
    )]
    pub(crate) root: Option<OsString>,
    /// Config file (KILN_CONFIG)
    #[arg(
        long,
        global = true,
        env = "KILN_CONFIG",
        hide_env = true,
        value_name = "FILE"
    )]
    pub(crate) config: Option<OsString>,
    /// What kiln logs: error, warn, info, debug or trace (KILN_LOG_LEVEL)
    #[arg(
        long,
        global = true,
        env = "KILN_LOG_LEVEL",
        hide_env = true,
        value_enum,
        hide_possible_values = true,
        value_name = "LEVEL"
    )]
    pub(crate) log_level: Option<LogLevel>,
    /// Same as --log-level=debug
    #[arg(short = 'D', long, global = true)]
    pub(crate) debug: bool,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Build(Box<commands::build::Args>),
    Run(Box<commands::run::Args>),
    Pull(commands::pull::Args),
    Images(commands::images::Args),
    Tag(commands::tag::Args),
    Rmi(commands::rmi::Args),
    History(commands::history::Args),
    Inspect(commands::inspect::Args),
    Save(commands::save::Args),
    Load(commands::load::Args),
    Import(commands::import::Args),
    Prune(commands::prune::Args),
    System(commands::system::Args),
    Cache(commands::cache::Args),
    Fsck(commands::fsck::Args),
    Fmt(commands::fmt::Args),
    ExplainContext(commands::explain_context::Args),
    Completions(commands::completions::Args),
    Version(commands::version::Args),
    Info(commands::info::Args),
    /// Docker's longer names: build, history, import, inspect, load, ls, prune, pull, rm, save, tag
    #[command(subcommand, hide = true)]
    Image(commands::groups::Image),
    /// Docker's longer names: build, prune
    #[command(subcommand, hide = true)]
    Builder(commands::groups::Builder),
    /// Docker's longer names: build, prune
    #[command(subcommand, hide = true)]
    Buildx(commands::groups::Builder),
    /// Docker's longer name: run
    #[command(subcommand, hide = true)]
    Container(commands::groups::Container),
    #[command(hide = true)]
    Man(commands::completions::ManArgs),
    #[command(hide = true, name = "internal-maintenance")]
    Maintenance,
}

/// Whether these words may be a command that starts sandboxes, as [`Command::needs_sandbox`] tells of one that was
/// parsed.
pub(crate) fn may_need_sandbox(words: &[std::ffi::OsString]) -> bool {
    words
        .iter()
        .skip(1)
        .any(|word| word == "build" || word == "run")
}

impl Command {
    /// Whether the command may leave something in the store that is not on the disk yet.
    pub(crate) fn needs_maintenance(&self) -> bool {
        !matches!(
            self,
            Self::Maintenance
                | Self::Fmt(_)
                | Self::ExplainContext(_)
                | Self::Completions(_)
                | Self::Version(_)
                | Self::Info(_)
                | Self::Man(_)
        )
    }

    /// The exit code where the command itself has failed. That of `run` is none of a container's.
    pub(crate) fn failed_code(&self) -> u8 {
        match self {
            Self::Run(_) | Self::Container(Container::Run(_)) => NOT_STARTED,
            _ => 1,
        }
    }

    /// Whether the command starts sandboxes.
    pub(crate) fn needs_sandbox(&self) -> bool {
        match self.build() {
            Some(args) => args.builds(),
            None => matches!(self, Self::Run(_) | Self::Container(Container::Run(_))),
        }
    }

    /// Gives stderr the form that the options of progress ask for.
    pub(crate) fn begin_progress(&self) {
        match self {
            Self::Run(args) | Self::Container(Container::Run(args)) => args.begin_progress(),
            Self::Pull(args) | Self::Image(Image::Pull(args)) => args.begin_progress(),
            _ => {
                if let Some(args) = self.build() {
                    args.begin_progress();
                }
            }
        }
    }

    /// The arguments of `build`, by whatever name.
    fn build(&self) -> Option<&commands::build::Args> {
        match self {
            Self::Build(args)
            | Self::Image(Image::Build(args))
            | Self::Builder(Builder::Build(args))
            | Self::Buildx(Builder::Build(args)) => Some(args),
            _ => None,
        }
    }
}
