//! `kiln pull`.

use std::process::ExitCode;

use kiln_engine::{Error, ErrorKind, image_name};

use crate::app::App;
use crate::errors::Failure;
use crate::events::Pulling;
use crate::interrupt::Interrupt;
use crate::progress::ProgressArgs;
use crate::ui;

/// Get an image from a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln pull debian:bookworm
  kiln pull --platform linux/arm64 registry.example.com/team/web:1.0")]
pub(crate) struct Args {
    /// Print nothing but the image's name
    #[arg(short, long)]
    quiet: bool,
    /// Platform of the image
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    platform: Option<String>,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

impl Args {
    /// Gives stderr the form that was asked for.
    pub(crate) fn begin_progress(&self) {
        self.progress.begin(self.quiet);
    }
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let reference = image_name(&args.image)?;
    let platform = super::platform(args.platform.as_deref())?;
    let mode = args.progress.mode(args.quiet);
    let pulled = app.block_on(async {
        let interrupt = Interrupt::listen();
        let pulling = Pulling::new(mode);
        let (images, events) = (app.engine.images(), pulling.events(&reference.familiar()));
        let cancel = interrupt.token();
        let pulled = images.pull(&reference, &platform, &events, &cancel).await;
        pulling.finish();
        pulled.map_err(failure)
    })?;
    ui::data(&pulled.reference.to_string());
    Ok(ExitCode::SUCCESS)
}

/// What is said of a pull that failed.
fn failure(error: Error) -> Failure {
    match error.kind() {
        ErrorKind::Cancelled => Failure::interrupted("pull"),
        _ => error.into(),
    }
}
