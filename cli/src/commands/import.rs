//! `kiln import`.

use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use kiln_executor::source::Import;
use kiln_executor::{BuildInputs, Engine};
use kiln_image::{ImageConfig, Platform, Reference, SafeUrl};
use kiln_solver::lint::Findings;
use kiln_solver::lower::{self, NoCache};
use kiln_solver::plan::{Network, SourceKind};
use tokio::runtime::Runtime;

use crate::diagnostics::SourceText;
use crate::engine::App;
use crate::errors::Failure;
use crate::ui;

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

/// Instructions that `--change` takes.
const CHANGES: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

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
    let epoch = match std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .filter(|t| !t.is_empty())
    {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Failure::usage(format!(
                "SOURCE_DATE_EPOCH `{text}` is no number of seconds"
            ))
        })?),
    };
    let engine = app.engine(BuildInputs::default(), false)?;
    let runtime = app.runtime()?;
    let config = config(&engine, &runtime, &args.change, &platform)?;
    let (input, shown) = open(&engine, &runtime, &args.source)?;
    let message = args
        .message
        .clone()
        .unwrap_or_else(|| format!("Imported from {shown}"));
    let id = engine
        .import(
            input,
            Import {
                config,
                message,
                epoch,
            },
        )
        .map_err(|e| {
            let failure = Failure::from(e);
            let place = match args.source.as_str() {
                "-" => "what standard input gives".to_owned(),
                _ if is_address(&args.source) => format!("`{shown}`"),
                // Of the history's the last part.
                file => format!("`{file}`"),
            };
            Failure {
                message: format!("cannot import {place}: {}", failure.message),
                ..failure
            }
        })?;
    engine.name_image(&id, name.as_slice(), None)?;
    ui::data(id.as_str());
    Ok(ExitCode::SUCCESS)
}

/// The stream, and what it is called.
fn open(
    engine: &Engine,
    runtime: &Runtime,
    source: &str,
) -> Result<(Box<dyn Read + Send>, String), Failure> {
    if source == "-" {
        if std::io::stdin().is_terminal() {
            return Err(Failure::usage("a tar is not read from a terminal")
                .with_hint("give a file, or pass one to standard input"));
        }
        let file = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        return Ok((Box::new(file), "-".into()));
    }
    if is_address(source) {
        let file = runtime.block_on(engine.download_file(source, None))?.file;
        return Ok((Box::new(file), SafeUrl::of(source).into()));
    }
    let file =
        File::open(source).map_err(|e| Failure::new(format!("cannot read `{source}`: {e}")))?;
    Ok((
        Box::new(file),
        source.rsplit('/').next().unwrap_or(source).to_owned(),
    ))
}

fn is_address(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// The config that instructions make on top of nothing.
fn config(
    engine: &Engine,
    runtime: &Runtime,
    changes: &[String],
    platform: &Platform,
) -> Result<ImageConfig, Failure> {
    let mut text = "FROM scratch\n".to_owned();
    for change in changes {
        let bad = |why: &str| {
            Failure::usage(format!("--change `{change}`: {why}"))
                .with_hint(format!("instructions are: {}", CHANGES.join(", ")))
        };
        // On its own it would not be looked at: a Dockerfile starts with FROM.
        let parsed = kiln_parser::parse(&format!("FROM scratch\n{change}\n"));
        match parsed.dockerfile.instructions.as_slice() {
            [_, one] if CHANGES.contains(&one.keyword.value.to_uppercase().as_str()) => {}
            [_, _] => return Err(bad("it cannot be used here")),
            _ => return Err(bad("write one instruction")),
        }
        text.push_str(change.trim_end());
        text.push('\n');
    }
    let source = SourceText {
        name: "--change".into(),
        text,
        file: None,
    };
    let parsed = kiln_parser::parse(&source.text);
    if source.diagnostics(&parsed.diagnostics) {
        return Err(Failure::silent(2));
    }
    let request = lower::Request {
        dockerfile: &parsed.dockerfile,
        source: &source.text,
        target: None,
        every_stage: false,
        without_images: false,
        build_args: Default::default(),
        labels: Default::default(),
        platform: platform.clone(),
        platform_given: true,
        build_platform: Platform::host(),
        contexts: Default::default(),
        context: SourceKind::Context {
            name: "context".into(),
        },
        no_cache: NoCache::default(),
        project: String::new(),
        network: Network::None,
        extra_hosts: Vec::new(),
        ulimits: Vec::new(),
        shm_size: None,
        allow_insecure: false,
        policy: Default::default(),
    };
    match runtime.block_on(lower::lower(&request, engine, &Findings::default())) {
        Ok(lowered) => Ok(lowered.config),
        Err(error) => {
            source.lower_error(&error);
            Err(Failure::silent(2))
        }
    }
}
