//! `kiln build`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use clap::ValueEnum;
use kiln_executor::export::{Assembled, Assembly};
use kiln_executor::{BuildInputs, Context, Engine};
use kiln_image::{Platform, Reference};
use kiln_solver::lower::{self, Lowered, NamedContext, NoCache};
use kiln_solver::plan::{Network, SourceKind};
use kiln_solver::schedule::{self, Counts, SolveError};
use tokio_util::sync::CancellationToken;

use super::build_options as options;
use super::output::Outputs;
use crate::context::{self, DockerfileAt, Place, Unpacked};
use crate::diagnostics::SourceText;
use crate::engine::App;
use crate::errors::Failure;
use crate::progress::{Display, Mode, Model};
use crate::ui;

/// Build an image from a Dockerfile
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln build -t web:1.0 .                          build the Dockerfile of this directory
  kiln build -t web -f web.Dockerfile --target test .
  kiln build --build-arg VERSION=2 --no-cache -t web .
  kiln build --secret id=token,src=token.txt -t web .
  tar c . | kiln build -t web -                    a tar as the context
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
    /// Run every step of these stages, whatever the cache holds
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Look base images up in their registries even if they are here
    #[arg(long)]
    pull: bool,
    /// Network of RUN steps that do not choose one
    #[arg(long, value_enum, default_value_t)]
    network: NetworkArg,
    /// Platform of the image, such as linux/amd64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Secret for RUN --mount=type=secret: id=NAME,src=FILE or id=NAME,env=VARIABLE
    #[arg(long, value_name = "SPEC")]
    secret: Vec<String>,
    /// SSH agent for RUN --mount=type=ssh: ID[=SOCKET]
    #[arg(long, value_name = "ID[=SOCKET]")]
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
    /// Allow something that is off by default
    #[arg(long, value_enum, value_name = "WHAT")]
    allow: Vec<Allow>,
    /// Where the result goes: type=image|oci|docker|tar|local[,dest=PATH], or a directory
    #[arg(short, long, value_name = "SPEC")]
    output: Vec<String>,
    /// Write the image id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write facts on the result to a file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Annotation of the image's manifest in archives
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    /// Make one layer of all that this build adds; the base image's layers stay
    #[arg(long)]
    squash: bool,
    /// How progress is shown
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "HOW",
        env = "KILN_PROGRESS"
    )]
    progress: Mode,
    /// Print nothing but the image id
    #[arg(short, long)]
    quiet: bool,
}

/// `--network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum NetworkArg {
    /// The host's connectivity
    #[default]
    Default,
    /// Loopback only
    None,
    /// The host's network
    Host,
}

/// `--allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Allow {
    /// RUN --security=insecure
    #[value(name = "security.insecure")]
    SecurityInsecure,
    /// RUN --network=host, which is always allowed
    #[value(name = "network.host")]
    NetworkHost,
}

/// The files that a build works on.
struct Files {
    dockerfile: SourceText,
    context: Option<Context>,
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let names = args
        .tag
        .iter()
        .map(|t| Reference::parse(t).map_err(|e| Failure::usage(format!("--tag `{t}`: {e}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let outputs = Outputs::parse(&args.output, &args.annotation)?;
    let mut inputs = BuildInputs::default();
    for text in &args.secret {
        let (id, source) = options::secret(text)?;
        inputs.secrets.insert(id, source);
    }
    for text in &args.ssh {
        let (id, agent) = options::ssh(text)?;
        inputs.ssh.insert(id, agent);
    }
    let runtime = app.runtime()?;
    let files = files(app, args, &runtime)?;
    let parsed = kiln_parser::parse(&files.dockerfile.text);
    if files.dockerfile.diagnostics(&parsed.diagnostics) {
        return Err(Failure::silent(1));
    }
    if let Some(context) = files.context {
        inputs.contexts.insert("context".into(), context);
    }
    let contexts = named_contexts(app, args, &runtime, &mut inputs)?;
    let engine = app.engine(inputs, args.pull)?;
    let request = request(args, &parsed.dockerfile, &files.dockerfile.text, contexts)?;
    let mode = if args.quiet {
        Mode::Quiet
    } else {
        args.progress
    };
    let title = format!(
        "Building {}",
        names.first().map_or_else(String::new, Reference::familiar)
    );
    let display = Display::start(mode, title.trim_end().to_owned());
    let build = Build {
        engine: &engine,
        parallelism: app.settings.parallelism,
        source: &files.dockerfile,
        quiet: args.quiet,
        squash: args.squash,
        epoch: request.epoch,
    };
    let built = runtime.block_on(build.carry_out(&request, &display));
    let model = display.finish();
    let (image, counts) = match built {
        Ok(built) => built,
        Err(error) => {
            return Err(error.explain(&model, &files.dockerfile, &engine));
        }
    };
    let result = outputs
        .carry_out(&engine, &runtime, &image, &names)
        .and_then(|()| finish(args, &names, &outputs, &image, counts, mode));
    // Blocking threads that still wait for something must not hold the result back.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

/// Reads the Dockerfile and makes the context ready.
fn files(app: &App, args: &Args, runtime: &tokio::runtime::Runtime) -> Result<Files, Failure> {
    let at = match args.file.as_deref() {
        None => DockerfileAt::Default,
        Some("-") => DockerfileAt::Stdin,
        Some(path) => DockerfileAt::File(path.into()),
    };
    match Place::parse(&args.context) {
        Place::Directory(dir) => {
            let (dockerfile, path) = context::dockerfile(&dir, &at, true)?;
            let context = context::directory(&dir, path.as_deref())?;
            Ok(Files {
                dockerfile,
                context: Some(context),
            })
        }
        Place::Stdin => {
            if matches!(at, DockerfileAt::Stdin) {
                return Err(Failure::usage(
                    "standard input cannot be both Dockerfile and context",
                ));
            }
            let unpacked = context::archive(&app.store()?, std::io::stdin(), "standard input")?;
            from_archive(unpacked, &at)
        }
        Place::Http(url) => {
            let engine = app.engine(BuildInputs::default(), false)?;
            let file = runtime.block_on(engine.download_file(&url))?;
            from_archive(context::archive(&app.store()?, file, &url)?, &at)
        }
        Place::Git(url) => {
            let engine = app.engine(BuildInputs::default(), false)?;
            let keep = options::assignments(&args.build_arg)
                .get("BUILDKIT_CONTEXT_KEEP_GIT_DIR")
                .is_some_and(|v| matches!(v.as_str(), "1" | "true"));
            let scratch = runtime.block_on(engine.git_checkout(&url, keep))?;
            from_archive(Unpacked::Tree(scratch), &at)
        }
    }
}

fn from_archive(unpacked: Unpacked, at: &DockerfileAt) -> Result<Files, Failure> {
    match unpacked {
        Unpacked::Text(dockerfile) => Ok(Files {
            dockerfile,
            context: None,
        }),
        Unpacked::Tree(scratch) => {
            let (dockerfile, path) = context::dockerfile(scratch.path(), at, false)?;
            let context = context::unpacked(scratch, path.as_deref())?;
            Ok(Files {
                dockerfile,
                context: Some(context),
            })
        }
    }
}

/// `--build-context`.
fn named_contexts(
    app: &App,
    args: &Args,
    runtime: &tokio::runtime::Runtime,
    inputs: &mut BuildInputs,
) -> Result<BTreeMap<String, NamedContext>, Failure> {
    let mut out = BTreeMap::new();
    for text in &args.build_context {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--build-context `{text}`: write NAME=VALUE")))?;
        let name = name.to_lowercase();
        let context = if let Some(reference) = value.strip_prefix("docker-image://") {
            NamedContext::Image(reference.to_owned())
        } else if value.starts_with("oci-layout://") {
            NamedContext::Image(value.to_owned())
        } else {
            let context = match Place::parse(value) {
                Place::Directory(dir) => context::directory(&dir, None)?,
                Place::Git(url) => {
                    let engine = app.engine(BuildInputs::default(), false)?;
                    context::unpacked(runtime.block_on(engine.git_checkout(&url, false))?, None)?
                }
                Place::Http(url) => {
                    let engine = app.engine(BuildInputs::default(), false)?;
                    let file = runtime.block_on(engine.download_file(&url))?;
                    match context::archive(&app.store()?, file, &url)? {
                        Unpacked::Tree(scratch) => context::unpacked(scratch, None)?,
                        Unpacked::Text(_) => {
                            return Err(Failure::new(format!("`{url}` is no archive")));
                        }
                    }
                }
                Place::Stdin => {
                    return Err(Failure::usage("--build-context cannot be standard input"));
                }
            };
            inputs.contexts.insert(name.clone(), context);
            NamedContext::Source(SourceKind::Context { name: name.clone() })
        };
        out.insert(name, context);
    }
    Ok(out)
}

fn request<'a>(
    args: &Args,
    dockerfile: &'a kiln_parser::Dockerfile,
    source: &'a str,
    contexts: BTreeMap<String, NamedContext>,
) -> Result<lower::Request<'a>, Failure> {
    let mut build_args = options::assignments(&args.build_arg);
    for name in lower::PROXY_ARGS {
        if let Ok(value) = std::env::var(name) {
            build_args.entry(name.to_owned()).or_insert(value);
        }
    }
    let epoch = match build_args
        .get("SOURCE_DATE_EPOCH")
        .cloned()
        .or_else(|| std::env::var("SOURCE_DATE_EPOCH").ok())
    {
        None => None,
        Some(text) if text.is_empty() => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Failure::usage(format!(
                "SOURCE_DATE_EPOCH `{text}` is no number of seconds"
            ))
        })?),
    };
    let host = Platform::host();
    let platform = match &args.platform {
        None => host.clone(),
        Some(text) => text
            .parse()
            .map_err(|e| Failure::usage(format!("--platform `{text}`: {e}")))?,
    };
    let no_cache = match (args.no_cache, args.no_cache_filter.is_empty()) {
        (true, _) => NoCache::All,
        (false, true) => NoCache::Off,
        (false, false) => {
            let names = args.no_cache_filter.iter().map(|s| s.to_lowercase());
            NoCache::Stages(names.collect::<BTreeSet<_>>())
        }
    };
    Ok(lower::Request {
        dockerfile,
        source,
        target: args.target.clone().filter(|t| !t.is_empty()),
        build_args,
        labels: options::labels(&args.label),
        platform,
        build_platform: host,
        contexts,
        context: SourceKind::Context {
            name: "context".into(),
        },
        no_cache,
        network: match args.network {
            NetworkArg::Default => Network::Default,
            NetworkArg::None => Network::None,
            NetworkArg::Host => Network::Host,
        },
        extra_hosts: args
            .add_host
            .iter()
            .map(|h| options::host(h))
            .collect::<Result<_, _>>()?,
        ulimits: args
            .ulimit
            .iter()
            .map(|u| options::ulimit(u))
            .collect::<Result<_, _>>()?,
        shm_size: args.shm_size.as_deref().map(options::size).transpose()?,
        allow_insecure: args.allow.contains(&Allow::SecurityInsecure),
        epoch,
    })
}

struct Build<'a> {
    engine: &'a Engine,
    parallelism: usize,
    source: &'a SourceText,
    quiet: bool,
    squash: bool,
    epoch: Option<u64>,
}

enum BuildError {
    Lower(lower::LowerError),
    Solve(SolveError),
    Engine(kiln_executor::Error),
}

impl Build<'_> {
    async fn carry_out(
        &self,
        request: &lower::Request<'_>,
        display: &Display,
    ) -> Result<(Assembled, Counts), BuildError> {
        let cancel = CancellationToken::new();
        stop_on_signals(cancel.clone());
        let lowered = tokio::select! {
            lowered = lower::lower(request, self.engine) => lowered.map_err(BuildError::Lower)?,
            () = cancel.cancelled() => return Err(BuildError::Solve(SolveError::Cancelled)),
        };
        if !self.quiet {
            for warning in &lowered.warnings {
                self.source.lower_warning(warning);
            }
        }
        let Lowered {
            plan,
            target,
            config,
            history,
            ..
        } = lowered;
        let targets: Vec<_> = target.into_iter().collect();
        let options = schedule::Options {
            parallelism: self.parallelism,
            started: SystemTime::now(),
            events: display.events(),
            cancel,
        };
        let worker = Arc::new(self.engine.clone());
        let mut solution = schedule::solve(Arc::new(plan), &targets, worker, options)
            .await
            .map_err(BuildError::Solve)?;
        let output = solution.results.pop().map(|r| r.output);
        let assembly = Assembly {
            config,
            history,
            output,
            epoch: self.epoch,
        };
        let image = self
            .engine
            .assemble(assembly, self.squash)
            .await
            .map_err(BuildError::Engine)?;
        Ok((image, solution.counts))
    }
}

/// SIGINT and SIGTERM stop the build in order.
fn stop_on_signals(cancel: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    tokio::spawn(async move {
        let (Ok(mut int), Ok(mut term), Ok(mut hup)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
            signal(SignalKind::hangup()),
        ) else {
            return;
        };
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hup.recv() => {}
        }
        cancel.cancel();
    });
}

impl BuildError {
    /// Prints what went wrong, where, and what to do.
    fn explain(self, model: &Model, source: &SourceText, engine: &Engine) -> Failure {
        match self {
            Self::Lower(error) => {
                source.lower_error(&error);
                Failure::silent(1)
            }
            Self::Engine(error) => error.into(),
            Self::Solve(SolveError::Cancelled) => {
                Failure::new("the build was interrupted").with_code(130)
            }
            Self::Solve(SolveError::Vertex { vertex, error }) => {
                if let Some(step) = model.steps.get(&vertex) {
                    ui::note("------");
                    ui::note(&format!(" > {}:", step.name));
                    for line in &step.output {
                        ui::note(line);
                    }
                    ui::note("------");
                    if let Some(lines) = step.lines {
                        ui::note(&source.excerpt(lines));
                    }
                    let log = engine.step_log(vertex.index());
                    if log.is_file() {
                        ui::note(&format!("The step's whole output is in {}", log.display()));
                    }
                }
                let failure = Failure::new(format!("failed to build: {}", error.message));
                match error.hint {
                    Some(hint) => failure.with_hint(hint),
                    None => failure,
                }
            }
        }
    }
}

/// Tells what was built, in files and on the terminal.
fn finish(
    args: &Args,
    names: &[Reference],
    outputs: &Outputs,
    image: &Assembled,
    counts: Counts,
    mode: Mode,
) -> Result<(), Failure> {
    if let Some(path) = &args.iidfile {
        write_file(path, image.id.as_str())?;
    }
    let shown: Vec<String> = names.iter().map(Reference::familiar).collect();
    if let Some(path) = &args.metadata_file {
        let mut facts = serde_json::json!({
            "containerimage.config.digest": image.id.as_str(),
            "kiln.steps.cached": counts.cached,
            "kiln.steps.ran": counts.ran,
        });
        if !names.is_empty() {
            facts["image.name"] = shown.join(",").into();
        }
        write_file(path, &serde_json::to_string_pretty(&facts)?)?;
    }
    if args.quiet {
        if !outputs.use_stdout() {
            ui::data(image.id.as_str());
        }
    } else if mode == Mode::Rawjson {
        let built = serde_json::json!({
            "event": "built", "image": image.id.as_str(), "names": shown,
            "cached": counts.cached, "ran": counts.ran,
        });
        ui::note(&built.to_string());
    } else if mode != Mode::Quiet {
        let names = if shown.is_empty() {
            String::new()
        } else {
            format!(" {}", shown.join(", "))
        };
        ui::note(&format!(
            "built{names} {} ({} cached, {} ran)",
            image.id, counts.cached, counts.ran
        ));
    }
    Ok(())
}

fn write_file(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|e| Failure::new(format!("cannot write `{}`: {e}", path.display())))
}
