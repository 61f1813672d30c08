//! `kiln load`.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;

use kiln_engine::{LoadSource, Reference};

use crate::app::App;
use crate::errors::Failure;
use crate::events;
use crate::progress::Mode;
use crate::ui;

/// Take images from an archive: of docker save, or an OCI layout
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln load -i web.tar
  docker save web | kiln load
  kiln load -i layout-directory")]
pub(crate) struct Args {
    /// File or directory to read [default: standard input]
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Print nothing but the images' names
    #[arg(short, long)]
    quiet: bool,
    /// Platform to take of images for several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let platform = super::platform(args.platform.as_deref())?;
    let source = match &args.input {
        Some(path) => LoadSource::Path(path.clone()),
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::usage("an archive is not read from a terminal")
                .with_hint("give a file with -i FILE, or pass one to standard input"));
        }
        None => {
            let file = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
            LoadSource::Stream(file, "standard input".into())
        }
    };
    let (images, events) = (app.engine.images(), events::printed(Mode::Auto));
    let load = images.load(source, &platform, &events);
    for image in app.block_on(async { Ok(load.await?) })? {
        if image.names.is_empty() {
            report(args.quiet, "Loaded image ID: ", image.id.as_str());
        }
        for name in &image.names {
            report(args.quiet, "Loaded image: ", &Reference::familiar(name));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn report(quiet: bool, what: &str, name: &str) {
    ui::data(&if quiet {
        name.to_owned()
    } else {
        format!("{what}{name}")
    });
}
