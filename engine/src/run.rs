//! Runs a container in the foreground.

use std::path::PathBuf;

use kiln_cache::{LayerId, Store};
use kiln_executor::BuildInputs;
use kiln_image::{ImageConfig, Platform};
use kiln_runtime::{Running, Runtime};
use kiln_sandbox::{Network, Stdio};
use kiln_sys::process::Exit;
use kiln_sys::system;
use tokio_util::sync::CancellationToken;

use crate::cancel::unless_cancelled;
use crate::engine::{Engine, host_resolv_conf};
use crate::error::{Error, Result};
use crate::event::Events;
use crate::images::PullPolicy;
use crate::images::find_or_pull;

/// A container that runs until its command has ended. What it wrote is not kept.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The image, by name or id.
    pub image: String,
    /// Platform of the image, if it was asked for; else this machine's.
    pub platform: Option<Platform>,
    /// When the image is looked up in its registry.
    pub pull: PullPolicy,
    /// Replaces the image's `ENTRYPOINT`, and drops its `CMD`.
    pub entrypoint: Option<String>,
    /// Command and arguments; none is the image's `CMD`.
    pub command: Vec<String>,
    /// Variables as `NAME=value`, over the image's.
    pub env: Vec<String>,
    /// Working directory, an absolute path.
    pub workdir: Option<String>,
    /// User, by name or number, with an optional group.
    pub user: Option<String>,
    /// Paths of the host with their places in the container, and whether they are read-only.
    pub volumes: Vec<(PathBuf, PathBuf, bool)>,
    /// Its network.
    pub network: Network,
    /// Names with addresses in `/etc/hosts`.
    pub extra_hosts: Vec<(String, String)>,
    /// Host name; none is a random one.
    pub hostname: Option<String>,
}

impl RunRequest {
    /// A container of this image that runs the image's own command.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            platform: None,
            pull: PullPolicy::Missing,
            entrypoint: None,
            command: Vec::new(),
            env: Vec::new(),
            workdir: None,
            user: None,
            volumes: Vec::new(),
            network: Network::Shared,
            extra_hosts: Vec::new(),
            hostname: None,
        }
    }
}

/// A container whose image is here.
#[derive(Debug)]
pub struct Container {
    store: Store,
    runtime: Runtime,
    request: RunRequest,
    config: ImageConfig,
    layers: Vec<LayerId>,
    running: Running,
}

impl Engine {
    /// Makes a container ready to run: its image is pulled where that is needed.
    ///
    /// # Errors
    /// The image cannot be had, nothing can be run here, or the token was cancelled.
    pub async fn prepare_run(
        &self,
        request: RunRequest,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Container> {
        let worker = self.worker(BuildInputs::default(), false, events)?;
        let asked = request.platform.is_some();
        let platform = request.platform.clone().unwrap_or_else(Platform::host);
        let wanted = (&platform, asked);
        let (name, policy) = (&request.image, request.pull);
        let image = find_or_pull(&worker, name, wanted, policy, events, cancel).await?;
        let (images, from) = (worker.images(), image.name.reference());
        let layers = images.image_layers(from, &image.id, None)?;
        let layers = unless_cancelled(cancel, worker.layers().materialise(&layers)).await??;
        let store = worker.store().clone();
        let spawner = self.config().spawner.clone();
        let spawner = spawner.ok_or_else(|| Error::failed("nothing can be run here"))?;
        let runtime = Runtime::new(store.clone(), spawner, host_resolv_conf());
        Ok(Container {
            running: runtime.running(),
            store,
            runtime,
            request,
            config: image.config,
            layers,
        })
    }
}

impl Container {
    /// Sends signals to its first process once it runs.
    pub fn running(&self) -> Running {
        self.running.clone()
    }

    /// Runs it until it ends. `stdio` are its streams.
    ///
    /// # Errors
    /// It cannot be started: [`crate::ErrorKind::Command`] has the exit code that `docker run` has then.
    pub async fn run(self, stdio: Stdio) -> Result<Exit> {
        let asked = self.request;
        let hostname = asked.hostname.unwrap_or_else(|| {
            let mut random = [0; 6];
            // Without random bytes the name is all zeros, which is a name too.
            let _ = system::random(&mut random);
            random.iter().map(|b| format!("{b:02x}")).collect()
        });
        let request = kiln_runtime::RunRequest {
            config: self.config,
            layers: self.layers,
            entrypoint: asked.entrypoint.map(|e| vec![e]),
            command: asked.command,
            env: asked.env,
            workdir: asked.workdir,
            user: asked.user,
            volumes: asked.volumes,
            network: asked.network,
            extra_hosts: asked.extra_hosts,
            hostname,
            stdio,
        };
        let exit = self.runtime.run(request, &self.running).await;
        // Not worth a failed container.
        if let Err(error) = self.store.maintenance().note_uses() {
            tracing::debug!(%error, "the last use of layers is not noted");
        }
        Ok(exit?)
    }
}
