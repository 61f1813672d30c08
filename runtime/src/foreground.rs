//! A container in the foreground.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kiln_cache::{LayerId, Store};
use kiln_image::ImageConfig;
use kiln_sandbox::{
    Limits, Mount, MountFlags, MountPoints, MountSource, Network, Report, Request, Rootfs,
    Security, Spawner, Stdio, names,
};
use kiln_sys::process::Exit;

use crate::error::{Error, Result};

/// What to run, and how.
#[derive(Debug)]
pub struct RunRequest {
    /// Config of the image.
    pub config: ImageConfig,
    /// Its layers, which are in the store.
    pub layers: Vec<LayerId>,
    /// `--entrypoint`: replaces the image's, and drops its CMD.
    pub entrypoint: Option<Vec<String>>,
    /// Command and arguments; empty means the image's CMD.
    pub command: Vec<String>,
    /// `--env`, as `NAME=value`, over the image's.
    pub env: Vec<String>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--volume`: host path, path in the container, read-only.
    pub volumes: Vec<(PathBuf, PathBuf, bool)>,
    /// `--network`.
    pub network: Network,
    /// `--add-host`.
    pub extra_hosts: Vec<(String, String)>,
    /// Host name.
    pub hostname: String,
    /// Streams; `console` is set for a terminal.
    pub stdio: Stdio,
}

/// Sends signals to a running container.
#[derive(Clone, Debug)]
pub struct Running {
    spawner: Spawner,
    id: Arc<AtomicU64>,
}

impl Running {
    /// Sends a signal; before the start and after the end it has no effect.
    ///
    /// # Errors
    /// It cannot be passed on.
    pub fn signal(&self, signal: i32) -> Result<()> {
        match self.id.load(Ordering::Acquire) {
            0 => Ok(()),
            id => Ok(self.spawner.signal(id, signal)?),
        }
    }
}

/// The command line of a container: Docker's rules of ENTRYPOINT and CMD.
fn argv(request: &RunRequest) -> Result<Vec<String>> {
    let config = &request.config.config;
    let (entrypoint, cmd) = match &request.entrypoint {
        Some(given) => (given.clone(), Vec::new()),
        None => (config.entrypoint.clone(), config.cmd.clone()),
    };
    let rest = if request.command.is_empty() {
        cmd
    } else {
        request.command.clone()
    };
    let argv: Vec<String> = entrypoint
        .into_iter()
        .filter(|w| !w.is_empty())
        .chain(rest)
        .collect();
    if argv.is_empty() {
        return Err(Error::NoCommand);
    }
    Ok(argv)
}

fn environment(request: &RunRequest) -> Vec<String> {
    let mut env = request.config.config.env.clone();
    if !env.iter().any(|e| e.starts_with("PATH=")) {
        env.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    }
    let mut put = |entry: &str| {
        let name = entry.split('=').next().unwrap_or_default();
        let same = |e: &String| e.split('=').next() == Some(name);
        match env.iter_mut().find(|e| same(e)) {
            Some(old) => entry.clone_into(old),
            None => env.push(entry.to_owned()),
        }
    };
    put(&format!("HOSTNAME={}", request.hostname));
    if request.stdio.console.is_some() {
        put("TERM=xterm");
    }
    for entry in &request.env {
        put(entry);
    }
    env
}

/// Runs containers of images that are in a store.
#[derive(Clone, Debug)]
pub struct Runtime {
    store: Store,
    spawner: Spawner,
    /// Text of the host's resolver configuration.
    resolv_conf: String,
}

impl Runtime {
    /// A runtime of these parts.
    pub fn new(store: Store, spawner: Spawner, resolv_conf: String) -> Self {
        Self {
            store,
            spawner,
            resolv_conf,
        }
    }

    /// A handle that signals can be sent through once the container runs.
    pub fn running(&self) -> Running {
        Running {
            spawner: self.spawner.clone(),
            id: Arc::default(),
        }
    }

    /// Runs a container until it ends. What it wrote is thrown away.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn run(&self, request: RunRequest, running: &Running) -> Result<Exit> {
        let (scratch, mounts_on) = (self.store.scratch()?, self.store.scratch()?);
        let lowers = self.store.root_dirs(&request.layers)?;
        let points = MountPoints::make_in(mounts_on.path())?;
        let rootfs = Rootfs::writable(scratch.path(), &points, lowers)?;
        let argv = argv(&request)?;
        let env = environment(&request);
        let mut mounts = Vec::new();
        let resolv = match request.network {
            Network::None => String::new(),
            Network::Shared | Network::Host => names::resolv_conf(&self.resolv_conf),
        };
        let files = [
            ("resolv.conf", resolv),
            (
                "hosts",
                names::hosts(&request.hostname, &request.extra_hosts),
            ),
            ("hostname", format!("{}\n", request.hostname)),
        ];
        for (name, text) in files {
            let path = scratch.path().join(name);
            std::fs::write(&path, text).map_err(|source| Error::Io {
                what: format!("write {name}"),
                source,
            })?;
            let source = MountSource::Host {
                path,
                below: PathBuf::new(),
                recursive: false,
            };
            let target = PathBuf::from("/etc").join(name);
            mounts.push(Mount {
                target,
                source,
                read_only: false,
                flags: MountFlags::default(),
            });
        }
        for (path, target, read_only) in &request.volumes {
            let source = MountSource::Host {
                path: path.clone(),
                below: PathBuf::new(),
                recursive: true,
            };
            mounts.push(Mount {
                target: target.clone(),
                source,
                read_only: *read_only,
                flags: MountFlags::default(),
            });
        }
        let config = &request.config.config;
        let cwd = request
            .workdir
            .clone()
            .unwrap_or_else(|| config.working_dir.clone());
        let launch = kiln_sandbox::describe(Request {
            argv,
            env,
            cwd: if cwd.is_empty() { "/".into() } else { cwd },
            user: request.user.clone().unwrap_or_else(|| config.user.clone()),
            hostname: request.hostname.clone(),
            rootfs,
            mounts,
            network: request.network,
            security: Security::Sandbox,
            limits: Limits::default(),
            devices: Vec::new(),
            groups: Vec::new(),
            terminal: request.stdio.console.is_some(),
        })?;
        let (send, ended) = tokio::sync::oneshot::channel();
        let id = running
            .spawner
            .launch(&launch, request.stdio, move |event| {
                // The receiver lives until the container has ended.
                let _ = send.send(event);
            })?;
        running.id.store(id, Ordering::Release);
        let event = ended
            .await
            .map_err(|_| kiln_sandbox::Error::SpawnerGone)??;
        running.id.store(0, Ordering::Release);
        if let Some(source) = Report::failure_in(&event.reports) {
            let code = event.exit.code();
            return Err(Error::NotStarted { source, code });
        }
        Ok(event.exit)
    }
}
