//! `kiln build`.

mod call;
mod checks;
mod docker;
mod hints;
mod inputs;
mod report;
mod reproducible;
mod share;
mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use kiln_executor::BuildInputs;
use kiln_image::{Platform, Reference};
use kiln_solver::lower::{self, NamedContext, NoCache};
use kiln_solver::plan::{Network, SourceKind};
use kiln_solver::policy::Policy;
use kiln_sys::{Pipes, read_named};
use tokio::runtime::Runtime;

use super::output::Outputs;
use crate::build_options::{self as options, Allow};
use crate::engine::App;
use crate::errors::Failure;
use crate::interrupt::Interrupt;
use crate::progress::{Display, Mode, ProgressArgs};
use call::{Call, CallArgs};
use inputs::Fetcher;
use work::Build;

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
    network: NetworkArg,
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
enum NetworkArg {
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
    let runtime = app.runtime()?;
    let interrupt = Interrupt::listen(&runtime);
    let result = build(app, args, &runtime, &interrupt);
    // Blocking threads that still wait for something must not hold the result back.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

fn build(app: &App, args: &Args, runtime: &Runtime, interrupt: &Interrupt) -> Result<(), Failure> {
    let began = std::time::SystemTime::now();
    let mode = args.progress.mode(args.quiet);
    let call = Call::of(&args.call)?;
    let names = args
        .tag
        .iter()
        .map(|t| Reference::parse_new(t).map_err(|e| Failure::usage(format!("--tag `{t}`: {e}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let outputs = Outputs::parse(&args.output, args.load, &args.annotation)?;
    let destinations = outputs.destinations(args.push, &names)?;
    for (flag, list) in [
        ("--provenance", &args.provenance),
        ("--sbom", &args.sbom),
        ("--attest", &args.attest),
    ] {
        for text in list {
            options::no_attestations(flag, text)?;
        }
    }
    args.docker.tell()?;
    let mut inputs = BuildInputs {
        limits: args.limits.limits()?,
        authorities: inputs::authorities(&app.settings.authorities)?,
        max_download: match &args.max_download {
            Some(text) => Some(options::size("--max-download", text)?),
            None => None,
        },
        ..BuildInputs::default()
    };
    for text in &args.secret {
        let (id, source) = options::secret(text)?;
        inputs.secrets.insert(id, source);
    }
    inputs.devices = options::devices(&args.allow);
    let mut agents = Vec::new();
    for text in &args.ssh {
        let (id, agent) = options::ssh(text, &mut agents)?;
        inputs.ssh.insert(id, agent);
    }
    let given = std::env::var_os(POLICY).filter(|path| !path.is_empty());
    let file = args.source_policy_file.clone().or(given.map(PathBuf::from));
    let policy = policy(file.as_deref())?;
    let fetcher = Fetcher {
        app,
        runtime,
        interrupt,
        policy: &policy,
        max_download: inputs.max_download,
    };
    let files = fetcher.files(args)?;
    let source = &files.dockerfile;
    let parsed = kiln_parser::parse(&source.text);
    let build_args = options::assignments(&args.build_arg)?;
    let findings = match checks::begin(&parsed, &build_args, files.context.as_ref()) {
        Ok(findings) => findings,
        Err(error) => return call.answer_broken(source, &error),
    };
    if let Some(answer) = call.answer_early(source, &parsed, &findings) {
        return answer;
    }
    if source.diagnostics(&parsed.diagnostics) {
        return Err(Failure::silent(1));
    }
    if let Some(context) = files.context {
        inputs.contexts.insert("context".into(), context);
    }
    let contexts = fetcher.named(&args.build_context, &mut inputs)?;
    let mut engine = match call.is_build() {
        true => app.engine(inputs, args.pull)?,
        false => app.engine_to_look(inputs, args.pull)?,
    };
    let inline = build_args.get("BUILDKIT_INLINE_CACHE");
    let wanted = share::Wanted {
        inline: inline.is_some_and(|value| matches!(value.as_str(), "1" | "true")),
        clear_mounts: args.no_cache_mounts,
        squash: args.squash,
        image: outputs.have_image(),
    };
    if let Some(share) = share::of(app, &args.share, &wanted, interrupt.token())? {
        engine = engine.with_share(share);
    }
    let mut request = request(args, &parsed.dockerfile, &source.text, contexts)?;
    request.policy = policy.clone();
    if !call.is_build() {
        request.every_stage = call.every_stage(request.target.as_deref());
        request.without_images = true;
        // Nothing is run: what a build has to be allowed is no mistake of the file's.
        request.allow_insecure = true;
        let lowered = interrupt.wait(runtime, lower::lower(&request, &engine, &findings))?;
        return call.answer(source, lowered.as_ref(), &findings);
    }
    let title = format!(
        "Building {}",
        names.first().map_or_else(String::new, Reference::familiar)
    );
    let display = Display::start(mode, title.trim_end().to_owned(), args.explain);
    let build = Build {
        engine: &engine,
        parallelism: app.settings.parallelism,
        source,
        findings: &findings,
        quiet: args.quiet,
        squash: args.squash,
        files: outputs.need_files() || !destinations.is_empty(),
        clear_mounts: args.no_cache_mounts,
        compared: args.check_reproducible,
        ttl: args
            .cache_ttl
            .as_deref()
            .map(options::duration)
            .transpose()?,
        cancel: interrupt.token(),
    };
    let built = runtime.block_on(build.carry_out(&request, &display));
    let model = display.finish();
    // Not worth a failed build.
    let noted = engine.store().note_uses();
    if let Err(error) = noted.and_then(|()| engine.store().note_build(began)) {
        tracing::warn!(%error, "the last use of layers is not noted");
    }
    app.tell_of_removal(&engine.take_removed());
    checks::tell(&findings, source, mode);
    // What is finished is shared, whatever became of the rest.
    let share_rest = || runtime.block_on(share::finish(&engine, &interrupt.token()));
    let (image, solved) = match built {
        Ok(built) => built,
        Err(error) => {
            let failure = error.explain(&model, source, &engine);
            report::failed(&model, mode);
            share_rest();
            return Err(failure);
        }
    };
    let compare = || match args.check_reproducible {
        true => reproducible::check(&build, &solved, runtime, mode),
        false => Ok(()),
    };
    let put_out = outputs.carry_out(&engine, (runtime, interrupt), &image, &names);
    let put_out = put_out.and_then(|manifest| {
        if destinations.is_empty() {
            return Ok(manifest);
        }
        // What is not reproducible stays here.
        compare()?;
        let told = !matches!(mode, Mode::Quiet | Mode::Rawjson);
        let push = outputs.push(&engine, &image, &destinations, told);
        Ok(interrupt.wait(runtime, push)??.or(manifest))
    });
    let left = share_rest();
    let manifest = put_out?;
    // What an output needed was used as well.
    if let Err(error) = engine.store().note_uses() {
        tracing::warn!(%error, "the last use of layers is not noted");
    }
    if let Some(path) = &args.metadata_file {
        report::metadata(path, &names, &outputs, &image, manifest, model.counts)?;
    }
    report::finish(args, &names, &outputs, &image, &model, mode)?;
    share::report(&engine, left, mode);
    if !matches!(mode, Mode::Quiet | Mode::Rawjson) {
        outputs.tell_of_store();
    }
    if destinations.is_empty() {
        compare()?;
    }
    Ok(())
}

/// The variable by which `docker buildx build` is given a policy.
const POLICY: &str = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY";

/// The largest policy file.
const MAX_POLICY: u64 = 4 << 20;

/// `--source-policy-file`.
fn policy(path: Option<&Path>) -> Result<Policy, Failure> {
    let Some(path) = path else {
        return Ok(Policy::default());
    };
    let shown = path.display();
    // A policy that was read in part would allow what the rest denies.
    let json = read_named(path, MAX_POLICY, Pipes::Taken)
        .map_err(|e| Failure::new(format!("cannot read source policy `{shown}`: {}", e.source)))?;
    Policy::parse(&json).map_err(|e| Failure::new(format!("source policy `{shown}`: {e}")))
}

/// The variable that is a build argument as well.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

fn request<'a>(
    args: &Args,
    dockerfile: &'a kiln_parser::Dockerfile,
    source: &'a str,
    contexts: BTreeMap<String, NamedContext>,
) -> Result<lower::Request<'a>, Failure> {
    let mut build_args = options::assignments(&args.build_arg)?;
    for name in lower::PROXY_ARGS {
        if let Ok(value) = std::env::var(name) {
            build_args.entry(name.to_owned()).or_insert(value);
        }
    }
    let epoch = std::env::var(EPOCH).ok().filter(|text| !text.is_empty());
    if let Some(text) = epoch {
        build_args.entry(EPOCH.to_owned()).or_insert(text);
    }
    let host = Platform::host();
    let platform = match args.platform.as_ref().filter(|text| !text.is_empty()) {
        None => host.clone(),
        Some(text) => text
            .parse()
            .map_err(|e| Failure::usage(format!("--platform `{text}`: {e}")))?,
    };
    let no_cache = NoCache {
        all: args.no_cache,
        stages: args.no_cache_filter.iter().cloned().collect(),
        steps: args
            .rerun
            .iter()
            .map(|text| options::step(text))
            .collect::<Result<_, _>>()?,
    };
    Ok(lower::Request {
        dockerfile,
        source,
        target: args.target.clone().filter(|t| !t.is_empty()),
        every_stage: false,
        without_images: false,
        build_args,
        labels: options::labels(&args.label)?,
        platform,
        platform_given: args.platform.as_ref().is_some_and(|text| !text.is_empty()),
        build_platform: host,
        contexts,
        context: SourceKind::Context {
            name: "context".into(),
        },
        no_cache,
        project: inputs::project(args),
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
        shm_size: args
            .shm_size
            .as_deref()
            .map(|text| options::size("--shm-size", text))
            .transpose()?,
        allow_insecure: args.allow.contains(&Allow::SecurityInsecure),
        policy: Policy::default(),
    })
}
