//! `kiln build`.

mod call;
mod checks;
mod docker;
mod hints;
mod report;
mod reproducible;
mod request;
mod share;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use kiln_engine::{Build, Descriptor, Error, ErrorKind, Reference, Solved};

use super::output;
use crate::app::App;
use crate::build_options::{self as options, Allow};
use crate::errors::Failure;
use crate::interrupt::Interrupt;
use crate::progress::{Display, Mode, ProgressArgs};
use crate::{diagnostics, events, ui};
use call::{Call, CallArgs};

/// Build an image from a Dockerfile
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
#[command(after_help = "\
Examples:
  kiln build -t web:1.0 .                          build the Dockerfile of this directory
  kiln build -t web -f web.Dockerfile --target test .
  kiln build --build-arg VERSION=2 --no-cache -t web .
  kiln build --explain .                           say why each step ran or did not
  kiln build --rerun 7 --rerun test:3 .            run the step at line 7, and [test 3/5], again
  kiln build --cache-ttl 7d .                      run again what ran more than a week ago
  SOURCE_DATE_EPOCH=0 kiln build --check-reproducible .
  kiln build --secret id=token,src=token.txt -t web .
  tar c . | kiln build -t web -                    a tar as the context
  kiln build --cache-from cache.example/web --cache-mount-from cache.example/web .
  kiln build --cache-to type=inline -t web .       the image is a cache for --cache-from
  kiln build --push -t registry.example/web:1 .    push the image when it is built
  kiln build -o type=oci,dest=web.tar .            an archive instead of an image")]
pub(crate) struct Args {
    /// Directory, `-` for a tar or Dockerfile on standard input, git repository or address of a tar
    #[arg(value_name = "CONTEXT")]
    context: String,
    /// Dockerfile, `-` for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Name of the image, with an optional tag; may be given several times
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Vec<String>,
    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Value of a build argument; without a value, the variable of that name
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,
    /// Label of the image
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Further context: a directory, docker-image://NAME, oci-layout://DIR[:TAG] or a git repository
    #[arg(long, value_name = "NAME=VALUE")]
    build_context: Vec<String>,
    /// Run every step, whatever the cache holds
    #[arg(long)]
    no_cache: bool,
    /// Begin with empty cache mounts: those that the build uses are removed first
    #[arg(long)]
    no_cache_mounts: bool,
    /// Run every step of these stages, by name or number, whatever the cache holds
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Run this step, whatever the cache holds: a line of the Dockerfile, or STAGE:N for the step
    /// that progress shows as [STAGE N/M]; may be given several times
    #[arg(long, value_name = "LINE|STAGE:N", value_delimiter = ',')]
    rerun: Vec<String>,
    /// Run steps whose result is older than this, such as 12h or 7d
    #[arg(long, value_name = "DURATION")]
    cache_ttl: Option<String>,
    /// Tell of every step why it ran or did not
    #[arg(long)]
    explain: bool,
    /// Build a second time from scratch, and fail with the first difference if there is one
    #[arg(long)]
    check_reproducible: bool,
    /// Look base images up in their registries even if they are here
    #[arg(long)]
    pull: bool,
    /// Bytes of one file from the web, or of one that git fetches, at most; [build] max-download of the
    /// config file otherwise [default: 20GB]
    #[arg(long, value_name = "SIZE")]
    max_download: Option<String>,
    /// Network of RUN steps that do not choose one
    #[arg(long, value_enum, default_value_t)]
    network: StepNetwork,
    /// Platform of the image, such as linux/amd64
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    platform: Option<String>,
    /// Secret for RUN --mount=type=secret: id=NAME,src=FILE or id=NAME,env=VARIABLE
    #[arg(long, value_name = "SPEC")]
    secret: Vec<String>,
    /// SSH agent for RUN --mount=type=ssh, or keys for one that runs as long as the build
    #[arg(long, value_name = "ID[=SOCKET|KEY[,KEY]]")]
    ssh: Vec<String>,
    /// Line of /etc/hosts in RUN steps
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// Resource limit in RUN steps
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Size of /dev/shm in RUN steps
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// Allow something that is off by default: security.insecure, network.host, device[=NAME]
    #[arg(long, value_name = "WHAT", value_parser = options::allow)]
    allow: Vec<Allow>,
    /// Which images, web files and repositories may be used, and what takes their place: the JSON of
    /// a policy as BuildKit has it
    #[arg(long, value_name = "FILE")]
    source_policy_file: Option<PathBuf>,
    /// Where the result goes: type=image|registry|oci|docker|tar|local|cacheonly[,dest=PATH], or a directory;
    /// dest=- is standard output, where oci and tar go anyway, and docker without dest is the store
    #[arg(short, long, value_name = "SPEC")]
    output: Vec<String>,
    /// Put the image into the store, beside what --output asks for; without --output it goes there
    /// anyway
    #[arg(long)]
    load: bool,
    /// Push the image under its names when it is built
    #[arg(long)]
    push: bool,
    /// Provenance attestation: false, since kiln makes none
    #[arg(long, value_name = "false")]
    provenance: Vec<String>,
    /// SBOM attestation: false, since kiln makes none
    #[arg(long, value_name = "false")]
    sbom: Vec<String>,
    /// Attestation: type=provenance|sbom,disabled=true, since kiln makes none
    #[arg(long, value_name = "SPEC")]
    attest: Vec<String>,
    /// Write the image id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write facts on the result to a file, as JSON: names and image id, and of an archive the
    /// digest of its manifest
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Annotation of the image's manifest; manifest-descriptor:NAME=VALUE is one of the manifest's
    /// entry in the index of an archive
    #[arg(long, value_name = "[PLACE:]NAME=VALUE")]
    annotation: Vec<String>,
    /// Make one layer of all that this build adds; the base image's layers stay
    #[arg(long)]
    squash: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Print nothing but the image id
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    limits: docker::LimitArgs,
    #[command(flatten)]
    docker: docker::DockerArgs,
    #[command(flatten)]
    share: share::ShareArgs,
    #[command(flatten)]
    call: CallArgs,
}

/// `--network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum StepNetwork {
    /// The host's connectivity
    #[default]
    Default,
    /// Loopback only
    None,
    /// The host's network
    Host,
}

impl Args {
    /// Whether nothing but the image id is to be printed.
    #[cfg(test)]
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Gives stderr the form that was asked for.
    pub(crate) fn begin_progress(&self) {
        self.progress.begin(self.quiet);
    }

    /// Whether anything is built, and not only told.
    pub(crate) fn builds(&self) -> bool {
        Call::of(&self.call).is_ok_and(Call::is_build)
    }
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    app.block_on(build(app, args))?;
    Ok(ExitCode::SUCCESS)
}

async fn build(app: &App, args: &Args) -> Result<(), Failure> {
    let interrupt = Interrupt::listen();
    let (mode, call) = (args.progress.mode(args.quiet), Call::of(&args.call)?);
    let mut agents = Vec::new();
    let (request, loads) = request::of(args, &mut agents)?;
    let events = events::printed(mode);
    let prepared = app
        .engine
        .prepare_build(request, &events, interrupt.token());
    let mut build = match prepared.await {
        Ok(build) => build,
        Err(Error::Dockerfile { file, error }) => return call.answer_broken(&file, &error),
        Err(error) => return Err(failure(error)),
    };
    if let Some(answer) = call.answer_early(build.source(), build.parsed(), build.findings()) {
        return answer;
    }
    if diagnostics::diagnostics(build.source(), build.diagnostics()) {
        return Err(Failure::silent(1));
    }
    if !call.is_build() {
        return look(&mut build, call, args).await;
    }
    let title = build.request().names.first().map(Reference::familiar);
    let title = format!("Building {}", title.unwrap_or_default());
    let display = Display::start(mode, title.trim_end().to_owned(), args.explain);
    let later = events::Later::default();
    let shown = events::shown(&display, mode, build.source().clone(), &later);
    let solved = build.solve(&shown).await;
    let model = display.finish();
    events::say_later(&later, mode);
    checks::tell(build.findings(), build.source(), mode);
    let solved = match solved {
        Ok(solved) => solved,
        Err(error) => {
            let failure = report::explain(error, &model, build.source());
            report::failed(&model, mode);
            // What is finished is shared, whatever became of the rest.
            build.finish().await;
            return Err(failure);
        }
    };
    let done = put_out(&mut build, &solved, args, mode).await;
    let exported = build.finish().await;
    let manifest = done?;
    report::finish(args, &build, &solved, manifest, &model, mode)?;
    share::report(&build, exported, mode);
    if loads && !build.request().outputs.use_stream() && !ui::is_quiet() && !ui::is_json() {
        output::tell_of_store();
    }
    if args.check_reproducible && build.destinations()?.is_empty() {
        reproducible::check(&build, &solved, mode).await?;
    }
    Ok(())
}

/// Answers from the lowered Dockerfile, and builds nothing.
async fn look(build: &mut Build, call: Call, args: &Args) -> Result<(), Failure> {
    let (look, events) = (
        call.look(args.target.as_deref()),
        events::printed(Mode::Auto),
    );
    let lowered = match build.look(look, &events).await {
        Ok(lowered) => Ok(lowered),
        Err(Error::Dockerfile { error, .. }) => Err(error),
        Err(error) => return Err(failure(error)),
    };
    let lowered = lowered.as_ref().map_err(|error| &**error);
    call.answer(build.source(), lowered, build.findings())
}

/// Writes the outputs, and pushes what is to be pushed: what is not reproducible stays here.
async fn put_out(
    build: &mut Build,
    solved: &Solved,
    args: &Args,
    mode: Mode,
) -> Result<Option<Descriptor>, Failure> {
    let events = events::printed(mode);
    let manifest = build
        .write_outputs(solved, &events)
        .await
        .map_err(failure)?;
    let destinations = build.destinations()?;
    if destinations.is_empty() {
        return Ok(manifest);
    }
    if args.check_reproducible {
        reproducible::check(build, solved, mode).await?;
    }
    let pushed = build.push(solved, &destinations, &events).await;
    Ok(pushed.map_err(failure)?.or(manifest))
}

/// What is said of a build that an interruption ended, or of what else went wrong.
fn failure(error: Error) -> Failure {
    match error.kind() {
        ErrorKind::Cancelled => Failure::interrupted("build"),
        _ => error.into(),
    }
}
