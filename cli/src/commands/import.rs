//! `kiln import`.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use kiln_engine::{Error, ImportRequest, ImportSource, Reference};

use crate::app::App;
use crate::errors::Failure;
use crate::progress::Mode;
use crate::{diagnostics, events, ui};

/// Make an image of the files of a tar
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln import root.tar.gz mine:1.0
  mmdebstrap bookworm | kiln import -c 'CMD [\"bash\"]' - debian:bookworm
  kiln import https://example.com/root.tar.xz mine:1.0")]
pub(crate) struct Args {
    /// Dockerfile instruction that changes the image's config; may be given several times
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Comment in the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Platform that the files are for
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Tar in any compression: a file, an address, or `-` for standard input
    #[arg(value_name = "FILE|URL|-")]
    source: String,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let platform = super::platform(args.platform.as_deref())?;
    let name = match &args.name {
        None => None,
        Some(text) => {
            let name = Reference::parse_new(text);
            Some(name.map_err(|e| Failure::usage(format!("`{text}`: {e}")))?)
        }
    };
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let epoch = match given.filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Failure::usage(format!(
                "SOURCE_DATE_EPOCH `{text}` is not a number of seconds"
            ))
        })?),
    };
    let request = ImportRequest {
        source: source(&args.source)?,
        changes: args.change.clone(),
        message: args.message.clone(),
        platform,
        epoch,
        name,
    };
    let (images, events) = (app.engine.images(), events::printed(Mode::Auto));
    let import = images.import(request, &events);
    let id = app.block_on(async {
        import.await.map_err(|error| match error {
            Error::Dockerfile { file, error } => {
                diagnostics::lower_error(&file, &error);
                Failure::silent(2)
            }
            Error::Syntax { file, diagnostics } => {
                diagnostics::diagnostics(&file, &diagnostics);
                Failure::silent(2)
            }
            error => error.into(),
        })
    })?;
    ui::data(id.as_str());
    Ok(ExitCode::SUCCESS)
}

fn source(text: &str) -> Result<ImportSource, Failure> {
    let is_address = text.starts_with("http://") || text.starts_with("https://");
    match text {
        "-" if std::io::stdin().is_terminal() => {
            Err(Failure::usage("a tar is not read from a terminal")
                .with_hint("give a file, or pass one to standard input"))
        }
        "-" => {
            let file = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
            Ok(ImportSource::Stream(file))
        }
        _ if is_address => Ok(ImportSource::Url(text.to_owned())),
        _ => Ok(ImportSource::File(text.into())),
    }
}
