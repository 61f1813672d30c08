//! `kiln save`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use kiln_engine::{ArchiveForm, Dest};

use super::output::{refuse_terminal, stdout};
use crate::app::App;
use crate::errors::Failure;
use crate::events;
use crate::progress::Mode;

/// Write images to an archive
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln save -o web.tar web:1.0
  kiln save web:1.0 | ssh host docker load
  kiln save --format oci -o web.tar web:1.0 web:latest")]
pub(crate) struct Args {
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Form of the archive
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    format: ArchiveFormat,
    /// Images, by name or id
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ArchiveFormat {
    /// What docker load reads
    #[default]
    Docker,
    /// An OCI layout
    Oci,
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let (dest, stream) = match &args.output {
        Some(path) => (Dest::File(path.clone()), None),
        None => {
            refuse_terminal("-o FILE")?;
            (Dest::Stream, Some(stdout()?))
        }
    };
    let form = match args.format {
        ArchiveFormat::Docker => ArchiveForm::Docker,
        ArchiveFormat::Oci => ArchiveForm::Oci,
    };
    let (images, events) = (app.engine.images(), events::printed(Mode::Auto));
    let save = images.save(&args.images, form, &dest, stream.as_ref(), &events);
    app.block_on(async { Ok(save.await?) })?;
    Ok(ExitCode::SUCCESS)
}
