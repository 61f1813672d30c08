//! `kiln run`: a container in the foreground.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kiln_image::ImageConfig;
use kiln_runtime::sandbox::{
    self, Limits, Mount, MountFlags, MountSource, Network, Request, Security,
};
use kiln_runtime::{Spawner, Stdio};
use kiln_sys::process::Exit;

use super::{failure, names, prepare_root};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::output::LayerRef;

/// What to run, and how.
#[derive(Debug)]
pub struct RunRequest {
    /// Config of the image.
    pub config: ImageConfig,
    /// Its layers.
    pub layers: Vec<LayerRef>,
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
        return Err(Error::Missing {
            text: "the image has no command".into(),
            hint: "give one: kiln run IMAGE COMMAND".into(),
        });
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

impl Engine {
    /// A handle that signals can be sent through once the container runs.
    ///
    /// # Errors
    /// This engine cannot run anything.
    pub fn running(&self) -> Result<Running> {
        Ok(Running {
            spawner: self.spawner()?.clone(),
            id: Arc::default(),
        })
    }

    /// Runs a container until it ends. What it wrote is thrown away.
    ///
    /// # Errors
    /// It cannot be started: the exit code is 127, 126 or 125 then, as `docker run` has it.
    pub async fn run(&self, request: RunRequest, running: &Running) -> Result<Exit> {
        let ids = self.ready(&request.layers).await?;
        let scratch = self.s.store.scratch()?;
        let lowers = self.s.store.root_dirs(&ids)?;
        let places = self.common.places(&self.s.store)?;
        let rootfs = prepare_root(scratch.path(), &places, lowers)?;
        let argv = argv(&request)?;
        let env = environment(&request);
        let mut mounts = Vec::new();
        let resolv = match request.network {
            Network::None => String::new(),
            Network::Shared | Network::Host => names::resolv_conf(&self.s.resolv_conf),
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
            std::fs::write(&path, text).map_err(|e| Error::io(format!("write {name}"), e))?;
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
        let launch = sandbox::describe(Request {
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
            .map_err(|_| kiln_runtime::Error::SpawnerGone)??;
        running.id.store(0, Ordering::Release);
        if let Some(error) = failure(&event.reports) {
            return Err(Error::Command {
                text: error.to_string(),
                code: event.exit.code(),
            });
        }
        Ok(event.exit)
    }
}
