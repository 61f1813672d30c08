//! `kiln save`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use kiln_executor::BuildInputs;
use kiln_executor::export::{ArchiveForm, ArchiveTarget, ExportImage};
use kiln_image::Reference;

use super::output::{Dest, refuse_terminal};
use crate::engine::App;
use crate::errors::Failure;

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
    format: Format,
    /// Images, by name or id
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// What docker load reads
    #[default]
    Docker,
    /// An OCI layout
    Oci,
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let dest = match &args.output {
        Some(path) => Dest::File(path.clone()),
        None => {
            refuse_terminal("-o FILE")?;
            Dest::Stdout
        }
    };
    let engine = app.engine(BuildInputs::default(), false)?;
    let mut images: Vec<ExportImage> = Vec::new();
    for text in &args.images {
        let image = engine.store().find_image(text)?;
        // An image that is given by its id or by a digest is written without a name.
        let name = Reference::parse(text)
            .ok()
            .filter(|r| r.digest().is_none() && image.row.name.as_ref() == Some(r));
        match images.iter_mut().find(|known| known.id == image.row.config) {
            Some(known) => known.names.extend(name),
            None => images.push(engine.exportable(&image, name.into_iter().collect())?),
        }
    }
    let form = match args.format {
        Format::Docker => ArchiveForm::Docker,
        Format::Oci => ArchiveForm::Oci,
    };
    let runtime = app.runtime()?;
    dest.write(|out| {
        let write = engine.write_archive(images, form, None, ArchiveTarget::Stream(out));
        runtime.block_on(write)?;
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
