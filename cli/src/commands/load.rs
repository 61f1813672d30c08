//! `kiln load`.

use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kiln_executor::BuildInputs;
use kiln_image::archive::{Archive, ArchiveError};
use kiln_image::descriptor::MAX_BLOB_SIZE;
use kiln_image::{Platform, Reference, with_causes};

use crate::engine::App;
use crate::errors::Failure;
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
    if args.input.is_none() && std::io::stdin().is_terminal() {
        return Err(Failure::usage("an archive is not read from a terminal")
            .with_hint("give a file with -i FILE, or pass one to standard input"));
    }
    let engine = app.engine(BuildInputs::default(), false)?;
    let scratch = engine.store().scratch()?;
    let place = args.input.as_deref();
    let shown = place.map_or("standard input".into(), |p| format!("`{}`", p.display()));
    if let Some(path) = place {
        std::fs::metadata(path).map_err(|e| Failure::new(format!("cannot load {shown}: {e}")))?;
    }
    let opened = match place {
        Some(path) => open(path, scratch.path()),
        None => read_stdin(scratch.path()),
    };
    let archive =
        opened.map_err(|e| Failure::new(format!("cannot load {shown}: {}", with_causes(&e))))?;
    let loaded = load(app, &engine, archive, &platform).map_err(|e| Failure {
        message: format!("cannot load {shown}: {}", e.message),
        ..e
    })?;
    for image in loaded {
        if image.names.is_empty() {
            report(args.quiet, "Loaded image ID: ", image.id.as_str());
        }
        for name in &image.names {
            report(args.quiet, "Loaded image: ", &Reference::familiar(name));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn load(
    app: &App,
    engine: &kiln_executor::Engine,
    archive: Archive,
    platform: &Platform,
) -> Result<Vec<kiln_executor::source::Loaded>, Failure> {
    let runtime = app.runtime()?;
    let loaded = runtime.block_on(engine.load(archive, platform));
    runtime.shutdown_background();
    Ok(loaded?)
}

fn report(quiet: bool, what: &str, name: &str) {
    ui::data(&if quiet {
        name.to_owned()
    } else {
        format!("{what}{name}")
    });
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> ArchiveError {
    let path = path.display().to_string();
    move |source| ArchiveError::Io {
        path: path.clone(),
        source,
    }
}

fn open(path: &Path, scratch: &Path) -> Result<Archive, ArchiveError> {
    let metadata = std::fs::metadata(path).map_err(io(path))?;
    if metadata.is_dir() || metadata.is_file() {
        match Archive::open(path) {
            Err(ArchiveError::Compressed(_)) => {}
            other => return other,
        }
    }
    let file = File::open(path).map_err(io(path))?;
    through(Box::new(file), scratch)
}

/// A file that standard input comes from is read in place.
fn read_stdin(scratch: &Path) -> Result<Archive, ArchiveError> {
    let shown = Path::new("standard input");
    let input = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(io(shown))?;
    let file = File::from(input);
    if file.metadata().map_err(io(shown))?.is_file() {
        let again = file.try_clone().map_err(io(shown))?;
        match Archive::from_file(again) {
            Err(ArchiveError::Compressed(_)) => {
                use std::io::Seek as _;
                (&file).rewind().map_err(io(shown))?;
            }
            other => return other,
        }
    }
    through(Box::new(file), scratch)
}

/// An archive that cannot be read at any place is written to a file first.
fn through(input: Box<dyn Read + Send>, scratch: &Path) -> Result<Archive, ArchiveError> {
    let path = scratch.join("archive");
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path);
    Archive::from_reader(input, file.map_err(io(&path))?, MAX_BLOB_SIZE)
}
