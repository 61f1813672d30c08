//! `kiln run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::ValueEnum;
use kiln_engine::host::process::Exit;
use kiln_engine::host::{Pipes, pty, read_named_text};
use kiln_engine::{ContainerNetwork, ErrorKind, PullPolicy, RunRequest, Running, image_name};

mod streams;

use crate::app::App;
use crate::build_options as options;
use crate::errors::{Failure, NOT_STARTED};
use crate::events::Pulling;
use crate::interrupt::Interrupt;
use crate::progress::ProgressArgs;
use crate::ui;

/// Run a command in a new container
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
#[command(disable_help_flag = true)]
#[command(after_help = "\
Examples:
  kiln run --rm busybox echo hello
  kiln run --rm -it -v \"$PWD\":/src -w /src debian:bookworm bash
  kiln run --rm --network host -e PORT=8080 web")]
pub(crate) struct Args {
    /// Remove the container when it has ended; what a container wrote is never kept
    #[arg(long)]
    rm: bool,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,
    /// Environment variable; without a value, this environment's
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Mount a path of the host: /HOST:/CONTAINER[:ro]
    #[arg(short, long, value_name = "HOST:CONTAINER[:ro]")]
    volume: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Replace the image's ENTRYPOINT
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Network: host for all of the host's, with raw packets; none for loopback alone [default: the
    /// host's connectivity]
    #[arg(long, alias = "net", value_enum, hide_possible_values = true)]
    network: Option<RunNetwork>,
    /// Line of /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// Host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Print help
    #[arg(long, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
    /// As Docker has it: name of the container, which no other command sees here
    #[arg(long, hide = true, value_name = "NAME")]
    name: Option<String>,
    /// As Docker has it: label of the container, which no other command sees here
    #[arg(short, long, hide = true, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// As Docker has it: port that the container listens on, which needs no opening here
    #[arg(long, hide = true, value_name = "PORT")]
    expose: Vec<String>,
    /// Platform of the image
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    platform: Option<String>,
    /// When to look the image up in its registry
    #[arg(long, value_enum, default_value_t)]
    pull: PullWhen,
    /// Do not tell of an image that is pulled
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Image, then a command and its arguments [default: the image's CMD]
    // One list: a `--` after the image belongs to the command.
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"], num_args = 1..)]
    image_and_command: Vec<String>,
}

impl Args {
    fn image(&self) -> &str {
        self.image_and_command.first().map_or("", String::as_str)
    }

    /// Says what has no meaning as long as a container is seen by the command alone that runs it.
    /// Gives stderr the form that was asked for.
    pub(crate) fn begin_progress(&self) {
        self.progress.begin(self.quiet);
    }

    fn tell(&self) -> Result<(), Failure> {
        let is_name = |name: &str| {
            let mut chars = name.chars();
            chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
                && name.len() > 1
                && chars.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        };
        if let Some(name) = self.name.as_deref().filter(|name| !is_name(name)) {
            let text = format!("--name `{name}`: a name has two or more letters, digits and `_.-`");
            return Err(Failure::usage(text));
        }
        if self.network == Some(RunNetwork::Bridge) {
            let text = "--network bridge: kiln has no bridge network yet";
            let hint = "without --network a container has the host's connectivity";
            return Err(Failure::usage(text).with_hint(hint));
        }
        options::named("--label", &self.label)?;
        for text in &self.expose {
            let port = text.split('/').next().unwrap_or_default();
            let mut ends = port.split('-').map(str::parse::<u16>);
            let is_kind = matches!(text.split('/').nth(1), None | Some("tcp" | "udp" | "sctp"));
            if !is_kind || ends.any(|end| end.is_err()) {
                let text = format!("--expose `{text}`: write PORT[/tcp|udp|sctp]");
                return Err(Failure::usage(text));
            }
        }
        let told = [
            (
                self.name.is_some(),
                "--name: no other command sees the container",
            ),
            (
                !self.label.is_empty(),
                "--label: no other command sees the container",
            ),
            (
                !self.expose.is_empty(),
                "--expose: the network is the host's",
            ),
        ];
        ui::no_effect(&told);
        Ok(())
    }

    fn command(&self) -> &[String] {
        self.image_and_command.get(1..).unwrap_or_default()
    }
}

/// The largest file of variables in bytes: the kernel takes no more of a process's.
const MAX_ENV_FILE: u64 = 6 << 20;

/// `--network`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RunNetwork {
    /// The host's network
    Host,
    /// The host's connectivity
    Default,
    /// Loopback only
    None,
    /// Docker's usual one, which there is none of
    #[value(hide = true)]
    Bridge,
}

/// `--pull`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PullWhen {
    /// Always
    Always,
    /// If it is not here
    #[default]
    Missing,
    /// Never
    Never,
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let exit = start(app, args)?;
    Ok(ExitCode::from(u8::try_from(exit.code()).unwrap_or(1)))
}

fn volume(text: &str) -> Result<(PathBuf, PathBuf, bool), Failure> {
    let bad = |why: &str| Failure::usage(format!("--volume `{text}`: {why}"));
    let mut parts = text.split(':');
    let (host, target) = (parts.next().unwrap_or_default(), parts.next());
    let target = target.ok_or_else(|| {
        bad("named and nameless volumes are not supported").with_hint("write /HOST:/CONTAINER")
    })?;
    let mut read_only = None;
    for option in parts
        .next()
        .unwrap_or_default()
        .split(',')
        .filter(|o| !o.is_empty())
    {
        match option {
            "ro" | "rw" if read_only.is_some() => {
                return Err(bad("it is `ro` or `rw`, and that once"));
            }
            "ro" => read_only = Some(true),
            "rw" => read_only = Some(false),
            // Labels of SELinux, which kiln never sets.
            "z" | "Z" => {}
            other => return Err(bad(&format!("unknown option `{other}`"))),
        }
    }
    if parts.next().is_some() || !target.starts_with('/') {
        return Err(bad("the path in the container must be absolute"));
    }
    if !host.starts_with(['/', '.']) {
        return Err(
            bad("named volumes are not supported").with_hint("give the path of a directory")
        );
    }
    let mut names = Vec::new();
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    if names.is_empty() {
        return Err(bad("the container's root cannot be mounted over"));
    }
    let target = format!("/{}", names.join("/"));
    let host = std::path::absolute(host)?;
    if !host.exists() {
        std::fs::create_dir_all(&host)
            .map_err(|e| bad(&format!("cannot make `{}`: {e}", host.display())))?;
    }
    Ok((host, PathBuf::from(target), read_only.unwrap_or(false)))
}

fn environment(args: &Args) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for path in &args.env_file {
        let text = read_named_text(path, MAX_ENV_FILE, Pipes::Taken)
            .map_err(|e| Failure::new(format!("cannot read `{}`: {}", path.display(), e.source)))?;
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#'));
        for line in lines {
            let name = line.split('=').next().unwrap_or_default();
            // As Docker: `-e` may have what a file may not.
            if name.is_empty() || name.contains(char::is_whitespace) {
                let path = path.display();
                return Err(Failure::new(format!(
                    "--env-file `{path}`: `{line}`: the name is empty or has blanks"
                )));
            }
            all.push(line.to_owned());
        }
    }
    options::named("--env", &args.env)?;
    all.extend(args.env.iter().cloned());
    let assigned = all.into_iter().filter_map(|entry| {
        if entry.contains('=') {
            return Some(entry);
        }
        std::env::var(&entry)
            .ok()
            .map(|value| format!("{entry}={value}"))
    });
    Ok(assigned.collect())
}

fn start(app: &App, args: &Args) -> Result<Exit, Failure> {
    if args.tty && args.interactive && !pty::is_terminal(std::io::stdin()) {
        return Err(Failure::usage("the input device is not a terminal")
            .with_hint("leave -t out where standard input is a pipe"));
    }
    args.tell()?;
    let request = request(args)?;
    let mode = args.progress.mode(args.quiet);
    let name = image_name(args.image());
    let name = name.map_or_else(|_| args.image().to_owned(), |name| name.familiar());
    app.block_on(async {
        let interrupt = Interrupt::listen();
        let pulling = Pulling::new(mode);
        let (events, cancel) = (pulling.events(&name), interrupt.token());
        let prepared = app.engine.prepare_run(request, &events, &cancel);
        let container = prepared.await.map_err(not_prepared);
        pulling.finish();
        let container = container?;
        // From here on signals are the container's; none is lost in between.
        forward_signals(&container.running());
        if cancel.is_cancelled() {
            return Err(Failure::interrupted("pull"));
        }
        drop(interrupt);
        let (stdio, ours) = streams::pair(args.interactive, args.tty)?;
        let passing = ours.pass(args.interactive);
        let exit = container.run(stdio).await.map_err(|error| {
            let code = match error.kind() {
                ErrorKind::Command { code } => u8::try_from(code).unwrap_or(NOT_STARTED),
                _ => NOT_STARTED,
            };
            Failure::from(error).with_code(code)
        });
        let passed = passing.finish();
        // What the container says of itself comes first.
        exit.and_then(|exit| passed.map(|()| exit))
    })
}

fn not_prepared(error: kiln_engine::Error) -> Failure {
    match error.kind() {
        ErrorKind::Cancelled => Failure::interrupted("pull"),
        _ => error.into(),
    }
}

fn request(args: &Args) -> Result<RunRequest, Failure> {
    let mut request = RunRequest::new(args.image());
    let given = args.platform.as_deref().filter(|text| !text.is_empty());
    if given.is_some() {
        request.platform = Some(super::platform(given)?);
    }
    request.env = environment(args)?;
    let volumes = args.volume.iter().map(|v| volume(v));
    request.volumes = volumes.collect::<Result<Vec<_>, _>>()?;
    for (number, (_, target, _)) in request.volumes.iter().enumerate() {
        if request.volumes[..number]
            .iter()
            .any(|(_, t, _)| t == target)
        {
            let text = format!("--volume: two mounts at `{}`", target.display());
            return Err(Failure::usage(text));
        }
    }
    let hosts = args.add_host.iter().map(|h| options::host(h));
    request.extra_hosts = hosts.collect::<Result<Vec<_>, _>>()?;
    if let Some(dir) = args.workdir.as_deref().filter(|dir| !dir.starts_with('/')) {
        let text = format!("--workdir `{dir}`: the working directory is an absolute path");
        return Err(Failure::usage(text));
    }
    request.pull = match args.pull {
        PullWhen::Always => PullPolicy::Always,
        PullWhen::Missing => PullPolicy::Missing,
        PullWhen::Never => PullPolicy::Never,
    };
    request.entrypoint = args.entrypoint.clone();
    request.command = args.command().to_vec();
    request.workdir = args.workdir.clone();
    request.user = args.user.clone();
    request.hostname = args.hostname.clone();
    request.network = match args.network {
        Some(RunNetwork::Host) => ContainerNetwork::Host,
        Some(RunNetwork::None) => ContainerNetwork::None,
        _ => ContainerNetwork::Shared,
    };
    Ok(request)
}

/// Requests to end after which a container is killed, as Docker's client gives up then.
const MAX_INTERRUPTS: usize = 3;

/// How long a container may take to end before it is said what to do.
const GRACE_PERIOD: std::time::Duration = std::time::Duration::from_secs(2);

fn signal_to(running: &Running, number: i32) {
    if let Err(error) = running.signal(number) {
        ui::warning(&format!(
            "the signal was not passed on: {error} (signal: {number})"
        ));
    }
}

/// Passes on the signals that a foreground program gets.
fn forward_signals(running: &Running) {
    use tokio::signal::unix::{SignalKind, signal};
    let asked = Arc::new(AtomicUsize::new(0));
    // A terminal that passes on each key sends no signal for Ctrl-C.
    for number in [1, 2, 3, 10, 12, 15] {
        let (running, asked) = (running.clone(), asked.clone());
        let Ok(mut stream) = signal(SignalKind::from_raw(number)) else {
            continue;
        };
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                signal_to(&running, number);
                if !matches!(number, 2 | 15) {
                    continue;
                }
                let so_far = asked.fetch_add(1, Ordering::Relaxed) + 1;
                if so_far >= MAX_INTERRUPTS {
                    signal_to(&running, 9);
                } else if so_far == 1 {
                    // It ends with this process, which does not wait for it.
                    tokio::spawn(async move {
                        tokio::time::sleep(GRACE_PERIOD).await;
                        let name = if number == 2 { "Ctrl-C" } else { "SIGTERM" };
                        ui::note(&format!(
                            "the container goes on: its first process ignores {name}; {} more kill it",
                            MAX_INTERRUPTS - 1
                        ));
                    });
                }
            }
        });
    }
}
