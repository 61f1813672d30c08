//! RUN: a command in a sandbox on top of layers; what it wrote becomes a layer.

mod authorities;
mod devices;
mod mounts;
mod pump;
mod script;
mod streams;
mod stubs;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use kiln_cache::Store;
use kiln_sandbox::{
    Event, Launch, Limits, Network as SandboxNetwork, Report, Request, Rootfs,
    Security as SandboxSecurity, Spawner, Stdio,
};
use kiln_solver::plan::{Exec, Network, Security};
use kiln_solver::ports::{Made, Solved, Step};
use kiln_sys::process::Exit;
use kiln_sys::{FsError, RootDir};

use streams::Streams;

use crate::error::{Error, Result, blocking};
use crate::fingerprints::Fingerprinter;
use crate::id_maps::IdMapSupport;
use crate::layers::{FULL_DISK_BYTES, LayerFetcher};
use crate::new_layer::NewLayer;
use crate::output::Output;
use crate::run_dirs::RunDirs;
use crate::settings::Settings;

/// Runs the commands of steps.
#[derive(Clone, Debug)]
pub(crate) struct StepRunner {
    layers: LayerFetcher,
    run_dirs: RunDirs,
    fingerprints: Fingerprinter,
    id_maps: IdMapSupport,
    settings: Arc<Settings>,
}

impl StepRunner {
    pub(crate) fn new(
        layers: LayerFetcher,
        run_dirs: RunDirs,
        fingerprints: Fingerprinter,
        id_maps: IdMapSupport,
        settings: Arc<Settings>,
    ) -> Self {
        Self {
            layers,
            run_dirs,
            fingerprints,
            id_maps,
            settings,
        }
    }

    fn store(&self) -> &Store {
        self.layers.store()
    }

    fn spawner(&self) -> Result<&Spawner> {
        let spawner = self.settings.spawner.as_ref();
        spawner.ok_or_else(|| Error::Other("nothing can be run here".into()))
    }

    pub(crate) async fn run(
        &self,
        op: &Exec,
        inputs: &[Solved<Output>],
        step: &Step,
    ) -> Result<Made<Output, NewLayer>> {
        self.layers.space().make_room().await;
        let below = match inputs.first() {
            Some(base) if op.on_base => base.output.layers()?.to_vec(),
            _ => Vec::new(),
        };
        let ids = self.layers.materialise(&below).await?;
        let scratch = self.store().scratch()?;
        let lowers = self.store().root_dirs(&ids)?;
        let points = self.run_dirs.mount_points()?;
        let rootfs = Rootfs::writable(scratch.path(), &points, lowers)?;
        let mut prepared = self
            .prepare_mounts(op, inputs, step, &ids, scratch.path())
            .await?;
        if !self.settings.inputs.authorities.is_empty() {
            let taken = |name: &str| op.env.iter().any(|own| own.name == name);
            let given = &self.settings.inputs.authorities;
            let (mount, variables) = authorities::offer(given, self.store(), &ids, &taken)?;
            prepared.mounts.push(mount);
            prepared.env.extend(variables);
        }
        let devices = self.devices(&op.devices)?;
        let mut env: Vec<String> = Vec::new();
        // Proxy settings of the build stand above those of the image.
        let is_proxy = |name: &str| op.proxy_env.iter().any(|(n, _)| n == name);
        let own = op.env.iter().filter(|own| !is_proxy(&own.name));
        let own = own.map(|own| (&own.name, &own.value));
        let others = op.proxy_env.iter().chain(&prepared.env);
        for (name, value) in own.chain(others.map(|(name, value)| (name, value))) {
            env.push(format!("{name}={value}"));
        }
        // Those of devices stand above those of the image, too.
        let name = |entry: &str| entry.split('=').next().map(str::to_owned);
        env.retain(|own| !devices.env.iter().any(|of| name(of) == name(own)));
        env.extend(devices.env);
        let launch = kiln_sandbox::describe(Request {
            argv: op.command.argv(),
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
                cgroup: self.settings.inputs.limits.clone(),
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
        if let Some(caches) = &self.settings.caches {
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
                let error = script::blame_line_ends(error, op, self.store(), &ids, &upper);
                return Err(self.blame_disk(error));
            }
        };
        let store = self.store().clone();
        let id = blocking(move || {
            let upper = scratch.path().join("upper");
            stubs::clean(&store, &ids, &upper, &stubs)?;
            let id = store.adopt_layer(&upper)?;
            // Removing takes longer than the next step wants to wait.
            scratch.discard()?;
            Ok(id)
        })
        .await?;
        Ok(NewLayer::made(self.layers.space(), below, id, op.epoch))
    }

    /// A command that failed on a full disk says so somewhere in its output, at best.
    fn blame_disk(&self, error: Error) -> Error {
        let free = kiln_sys::system::free_bytes(self.store().root());
        match error {
            Error::Command { text, code } if free.is_ok_and(|free| free < FULL_DISK_BYTES) => {
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
        let log = self.settings.logs.for_step(step.vertex.index());
        let (send, read) = tokio::sync::oneshot::channel();
        let reader = std::thread::Builder::new().name("output".into());
        let of = step.clone();
        let reader = reader.spawn(move || {
            pump::pump(streams, &of, &log);
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
            Some(Err(_)) => Err(kiln_sandbox::Error::SpawnerGone.into()),
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    Ok(rustix::pipe::pipe_with(flags).map_err(|e| FsError::new("make", "pipe", e))?)
}

/// Turns a bad end into an error; a good one gives the mount points that were made.
fn check(op: &Exec, event: Event) -> Result<Vec<std::path::PathBuf>> {
    if let Some(error) = Report::failure_in(&event.reports) {
        return Err(Error::Command {
            text: error.to_string(),
            code: event.exit.code(),
        });
    }
    let command = op.command.argv().join(" ");
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
