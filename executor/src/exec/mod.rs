//! RUN: a command in a sandbox on top of layers; what it wrote becomes a layer.

mod authorities;
mod capped_file;
mod common;
mod devices;
mod logs;
mod mounts;
mod names;
mod run;
mod script;
mod streams;
mod stubs;

use std::os::fd::OwnedFd;
use std::path::Path;

use kiln_runtime::sandbox::{
    self, Launch, Limits, Network as SandboxNetwork, Report, Request, Rootfs,
    Security as SandboxSecurity,
};
use kiln_runtime::{Event, Stdio};
use kiln_solver::plan::{Exec, Network, Security};
use kiln_solver::ports::{Made, Solved, Step};
use kiln_sys::process::Exit;
use kiln_sys::{FsError, RootDir};

pub(crate) use common::{Common, Places};
pub use logs::StepLogs;
pub use run::{RunRequest, Running};
use streams::Streams;

use crate::engine::Engine;
use crate::error::{Error, Result, blocking};
use crate::output::Output;
use crate::worker::{NewLayer, layers_of};

/// A disk with fewer free bytes is full.
pub(crate) const FULL: u64 = 256 << 10;

impl Engine {
    pub(crate) async fn run_step(
        &self,
        op: &Exec,
        inputs: &[Solved<Output>],
        step: &Step,
    ) -> Result<Made<Output, NewLayer>> {
        self.space.make_room().await;
        let below = match inputs.first() {
            Some(base) if op.on_base => layers_of(&base.output)?.to_vec(),
            _ => Vec::new(),
        };
        let ids = self.ready(&below).await?;
        let scratch = self.s.store.scratch()?;
        let lowers = self.s.store.root_dirs(&ids)?;
        let places = self.common.places(&self.s.store)?;
        let rootfs = prepare_root(scratch.path(), &places, lowers)?;
        let mut prepared = self
            .prepare_mounts(op, inputs, step, &ids, scratch.path())
            .await?;
        if !self.s.inputs.authorities.is_empty() {
            let taken = |name: &str| op.env.iter().any(|(of, _)| of == name);
            let given = &self.s.inputs.authorities;
            let (mount, variables) = authorities::offer(given, &self.s.store, &ids, &taken)?;
            prepared.mounts.push(mount);
            prepared.env.extend(variables);
        }
        let devices = self.devices(&op.devices)?;
        let mut env: Vec<String> = Vec::new();
        // Proxy settings of the build stand above those of the image.
        let is_proxy = |name: &str| op.proxy_env.iter().any(|(n, _)| n == name);
        let own = op.env.iter().filter(|(name, _)| !is_proxy(name));
        for (name, value) in own.chain(&op.proxy_env).chain(&prepared.env) {
            env.push(format!("{name}={value}"));
        }
        // Those of devices stand above those of the image, too.
        let name = |entry: &str| entry.split('=').next().map(str::to_owned);
        env.retain(|own| !devices.env.iter().any(|of| name(of) == name(own)));
        env.extend(devices.env);
        let launch = sandbox::describe(Request {
            argv: op.argv.clone(),
            env,
            cwd: op.cwd.clone(),
            user: op.user.clone(),
            hostname: op.hostname.clone(),
            rootfs,
            mounts: [prepared.mounts, devices.mounts].concat(),
            network: match op.network {
                Network::None => SandboxNetwork::None,
                // A Dockerfile may say `--network=host` without leave: it gets no more for that.
                Network::Default | Network::Host => SandboxNetwork::Shared,
            },
            security: match op.security {
                Security::Sandbox => SandboxSecurity::Sandbox,
                Security::Insecure => SandboxSecurity::Insecure,
            },
            limits: Limits {
                ulimits: op
                    .ulimits
                    .iter()
                    .map(|u| (u.name.clone(), u.soft, u.hard))
                    .collect(),
                shm_size: op.shm_size,
                cgroup: self.s.inputs.limits.clone(),
            },
            devices: devices.devices,
            groups: devices.groups,
            terminal: false,
        })?;
        tracing::debug!(
            layers = ids.len(),
            mounts = launch.mounts.len(),
            root = %scratch.path().display(),
            "starting a sandbox"
        );
        step.begin();
        let event = self.supervise(&launch, step).await;
        let stopped = !matches!(&event, Ok(e) if matches!(e.exit, Exit::Code(_)));
        let held = prepared.held.iter().map(|(id, m)| (id.as_str(), m));
        if let Some(caches) = &self.s.share {
            caches.note_mounts(held, stopped);
        }
        let event = event?;
        tracing::debug!(exit = event.exit.code(), "a sandbox has ended");
        // Locks of cache mounts are held until here.
        drop(prepared.held);
        let stubs = match check(op, event) {
            Ok(stubs) => stubs,
            Err(error) => {
                let upper = scratch.path().join("upper");
                let error = script::blame_line_ends(error, op, &self.s.store, &ids, &upper);
                return Err(self.blame_disk(error));
            }
        };
        let store = self.s.store.clone();
        let id = blocking(move || {
            let upper = scratch.path().join("upper");
            stubs::clean(&store, &ids, &upper, &stubs)?;
            let id = store.adopt_layer(&upper)?;
            // Removing takes longer than the next step wants to wait.
            scratch.discard()?;
            Ok(id)
        })
        .await?;
        Ok(self.made(below, id, op.epoch))
    }

    /// A command that failed on a full disk says so somewhere in its output, at best.
    fn blame_disk(&self, error: Error) -> Error {
        let free = kiln_sys::system::free_bytes(self.s.store.root());
        match error {
            Error::Command { text, code } if free.is_ok_and(|free| free < FULL) => {
                Error::CommandNoSpace { text, code }
            }
            other => other,
        }
    }

    /// Starts the sandbox, passes its output on, and waits for its end.
    async fn supervise(&self, launch: &Launch, step: &Step) -> Result<Event> {
        let (out, out_in) = pipe()?;
        let (err, err_in) = pipe()?;
        let streams = Streams::new(out, err).map_err(|e| Error::io("watch a step's output", e))?;
        let null = RootDir::open_trusted(Path::new("/dev"))?.open_read(Path::new("null"))?;
        let stdio = Stdio {
            stdin: null,
            stdout: out_in,
            stderr: err_in,
            console: None,
        };
        let log = self.s.logs.for_step(step.vertex.index());
        let (send, read) = tokio::sync::oneshot::channel();
        let reader = std::thread::Builder::new().name("output".into());
        let of = step.clone();
        let reader = reader.spawn(move || {
            logs::pump(streams, &of, &log);
            // The step may have been given up meanwhile.
            let _ = send.send(());
        });
        reader.map_err(|e| Error::io("start a thread for a step's output", e))?;
        let (send, ended) = tokio::sync::oneshot::channel();
        let id = self.spawner()?.launch(launch, stdio, move |event| {
            let _ = send.send(event);
        })?;
        tokio::pin!(ended);
        let event = tokio::select! {
            event = &mut ended => Some(event),
            () = step.cancel.cancelled() => {
                self.spawner()?.signal(id, 9)?;
                // Nothing may still write when the directory is thrown away.
                let _ = (&mut ended).await;
                None
            }
        };
        // Everything that held the pipes is gone, so they end.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), read).await;
        match event {
            None => Err(Error::Cancelled),
            Some(Ok(event)) => Ok(event?),
            Some(Err(_)) => Err(kiln_runtime::Error::SpawnerGone.into()),
        }
    }
}

/// Makes the directories of an overlay in `scratch`. As with Docker, its root is root's and open to
/// everybody, whatever an image or the step before says.
pub(crate) fn prepare_root(
    scratch: &Path,
    places: &Places,
    lowers: Vec<std::path::PathBuf>,
) -> Result<Rootfs> {
    let dir = RootDir::open_trusted(scratch)?;
    for name in ["upper", "work"] {
        dir.mkdir(Path::new(name), 0o755)?;
    }
    Ok(Rootfs {
        lowers,
        upper: Some((scratch.join("upper"), scratch.join("work"))),
        anchor: places.anchor.clone(),
        spot: places.spot.clone(),
    })
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    Ok(rustix::pipe::pipe_with(flags).map_err(|e| FsError::new("make", "pipe", e))?)
}

/// What a sandbox reported instead of running the command.
pub(crate) fn failure(reports: &[Report]) -> Option<kiln_runtime::Error> {
    reports.iter().find_map(|report| match report {
        Report::Stub(_) => None,
        Report::Failed(text) => Some(kiln_runtime::Error::Setup(text.clone())),
        Report::NotFound(name) => Some(kiln_runtime::Error::CommandNotFound(name.clone())),
        Report::NotExecutable(name, why) => Some(kiln_runtime::Error::CommandNotExecutable(
            name.clone(),
            why.clone(),
        )),
        Report::User(spec, why) => Some(kiln_runtime::Error::User {
            spec: spec.clone(),
            why: why.clone(),
        }),
    })
}

/// Turns a bad end into an error; a good one gives the mount points that were made.
fn check(op: &Exec, event: Event) -> Result<Vec<std::path::PathBuf>> {
    if let Some(error) = failure(&event.reports) {
        return Err(Error::Command {
            text: error.to_string(),
            code: event.exit.code(),
        });
    }
    let command = op.argv.join(" ");
    if event.out_of_memory && event.exit != Exit::Code(0) {
        return Err(Error::OutOfMemory {
            command,
            code: event.exit.code(),
        });
    }
    match event.exit {
        Exit::Code(0) => {}
        Exit::Code(code) => {
            let text =
                format!("process `{command}` did not complete successfully: exit code: {code}");
            return Err(Error::Command { text, code });
        }
        Exit::Signal(signal) => {
            let text = format!("process `{command}` was killed by signal {signal}");
            return Err(Error::Command {
                text,
                code: 128 + signal,
            });
        }
    }
    let stubs = event.reports.into_iter().filter_map(|r| match r {
        Report::Stub(path) => Some(path),
        _ => None,
    });
    Ok(stubs.collect())
}
