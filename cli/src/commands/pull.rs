//! `kiln pull`.

use std::process::ExitCode;
use std::sync::Arc;

use kiln_executor::source::{Pulled, image_reference};
use kiln_executor::{BuildInputs, Engine, Watch};
use kiln_image::{Platform, Reference};
use kiln_solver::event::{Event, Outcome};
use kiln_solver::explain::Found;
use kiln_solver::plan::VertexId;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::engine::App;
use crate::errors::Failure;
use crate::interrupt::Signals;
use crate::progress::{Display, Mode, ProgressArgs};
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
    let reference = image_reference(&args.image).map_err(|e| Failure::from(e).with_code(2))?;
    let platform = super::platform(args.platform.as_deref())?;
    let engine = app.engine(BuildInputs::default(), true)?;
    let mode = args.progress.mode(args.quiet);
    let runtime = app.runtime()?;
    let pulled = fetch(&runtime, &engine, &reference, &platform, mode);
    // Threads that still unpack something must not hold the result back.
    runtime.shutdown_background();
    let pulled = pulled?;
    ui::data(&pulled.reference.to_string());
    Ok(ExitCode::SUCCESS)
}

/// Pulls an image, and tells of it on stderr.
pub(super) fn fetch(
    runtime: &Runtime,
    engine: &Engine,
    reference: &Reference,
    platform: &Platform,
    mode: Mode,
) -> Result<Pulled, Failure> {
    let display = Display::start(mode, format!("Pulling {}", reference.familiar()), false);
    let (events, vertex) = (display.events(), VertexId::default());
    let name: Arc<str> = format!("pull {reference}").into();
    events.send(Event::Planned {
        vertex,
        name,
        lines: None,
    });
    events.send(Event::Started { vertex });
    let begun = std::time::Instant::now();
    let watch = Watch {
        events: events.clone(),
        vertex,
        over: CancellationToken::new(),
    };
    let pulled = runtime.block_on(async {
        let mut signals = Signals::take();
        let ended = async {
            match &mut signals {
                Some(signals) => signals.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            pulled = engine.pull(reference, platform, Some(watch)) => Some(pulled),
            () = ended => None,
        }
    });
    let (outcome, error) = match &pulled {
        None => (Outcome::Cancelled, None),
        Some(Ok(pulled)) if pulled.up_to_date => (Outcome::Cached(Found::Local), None),
        Some(Ok(_)) => (Outcome::Fetched, None),
        // It is printed at the end, so only who reads events needs it here as well.
        Some(Err(e)) => (
            Outcome::Failed,
            (mode == Mode::Rawjson).then(|| e.to_string()),
        ),
    };
    events.send(Event::Finished {
        vertex,
        outcome,
        took: begun.elapsed(),
        error,
        key: None,
    });
    display.finish();
    let pulled = pulled.ok_or_else(|| Failure::interrupted("pull"))?;
    let pulled = pulled?;
    if mode != Mode::Quiet {
        ui::note(&format!("Digest: {}", pulled.digest));
        let state = if pulled.up_to_date {
            "Image is up to date for"
        } else {
            "Downloaded newer image for"
        };
        ui::note(&format!("Status: {state} {}", reference.familiar()));
    }
    Ok(pulled)
}
