//! The engine: the store, the sandbox and the registries that all work is done with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use kiln_cache::{LayerId, Policy, Removed, Scratch, SpaceGuard, Store};
use kiln_registry::Client;
use kiln_remote::RemoteCaches;
use kiln_runtime::Spawner;
use kiln_solver::event::Events;
use kiln_sys::RootDir;
use kiln_sys::cgroup::CgroupLimits;

use crate::error::{Error, Result};
use crate::exec::{Common, StepLogs};
use crate::output::{DirTree, LayerRef, Output};
use crate::owners::Shown;

/// Where a secret comes from.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// A file, read when a step needs it.
    File(PathBuf),
    /// A value, such as that of a variable.
    Value(Vec<u8>),
}

/// An SSH agent: the socket of one that runs.
#[derive(Clone, Debug)]
pub struct SshAgent {
    /// Path of the socket.
    pub socket: PathBuf,
}

/// A context that steps may copy from.
#[derive(Clone, Debug)]
pub struct Context {
    /// Its files.
    pub tree: Arc<DirTree>,
    /// When it was last changed.
    pub changed: Changed,
}

/// When a context was last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Nobody can say: a directory of this machine.
    Unknown,
    /// At this time, in seconds since 1970.
    At(i64),
    /// When the newest of its files was: those of an archive.
    WithFiles,
}

/// What a build was given beside its Dockerfile.
#[derive(Clone, Debug, Default)]
pub struct BuildInputs {
    /// Contexts by name.
    pub contexts: BTreeMap<String, Context>,
    /// Secrets by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// SSH agents by id.
    pub ssh: BTreeMap<String, SshAgent>,
    /// Devices that steps may use.
    pub devices: AllowedDevices,
    /// Certificates, as PEM, of authorities that programs of steps are to trust; empty for none.
    pub authorities: Vec<u8>,
    /// Bytes of one download at most, where another number counts than that of the settings.
    pub max_download: Option<u64>,
    /// Memory and processors that each step may use. As with BuildKit they are in no key.
    pub limits: CgroupLimits,
}

/// `--allow device`: the devices that steps may use beside those whose files allow it to everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedDevices {
    /// No others.
    #[default]
    None,
    /// These: kinds such as `vendor.com/class`, or names of devices.
    Named(BTreeSet<String>),
    /// All.
    All,
}

impl AllowedDevices {
    pub(crate) fn has(&self, device: &str) -> bool {
        let kind = device.split('=').next().unwrap_or_default();
        match self {
            Self::None => false,
            Self::Named(names) => names.contains(device) || names.contains(kind),
            Self::All => true,
        }
    }
}

/// What an engine is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The store.
    pub store: Store,
    /// Starts sandboxes; none where nothing is run.
    pub spawner: Option<Spawner>,
    /// Talks to registries.
    pub registry: Client,
    /// What the build was given.
    pub inputs: BuildInputs,
    /// Base images are looked up in their registry even if they are here.
    pub always_pull: bool,
    /// Images that are looked up get into the list of images.
    pub lists_images: bool,
    /// Text of the host's resolver configuration.
    pub resolv_conf: String,
    /// Where the output of steps is kept.
    pub logs: StepLogs,
    /// Where files describe the devices of this machine (CDI).
    pub device_dirs: Vec<PathBuf>,
    /// Cache mounts are made here, and not taken from the store.
    pub own_mounts: Option<Arc<Scratch>>,
    /// Bytes of a file from the web, or of what is fetched of a repository, at most.
    pub max_download: u64,
    /// How much the store may hold.
    pub gc: Policy,
    /// Remote caches, if there are any.
    pub share: Option<RemoteCaches>,
    /// Where what users should know goes that belongs to no step.
    pub events: Events,
}

/// Carries out ops.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) s: Arc<Settings>,
    pub(crate) common: Arc<Common>,
    pub(crate) space: SpaceGuard,
    pub(crate) shown: Arc<Shown>,
}

impl Engine {
    /// An engine of these parts.
    pub fn new(settings: Settings) -> Self {
        let Settings {
            store, gc, events, ..
        } = &settings;
        Self {
            space: SpaceGuard::new(store.clone(), *gc, events.clone()),
            s: Arc::new(settings),
            common: Arc::default(),
            shown: Arc::default(),
        }
    }

    /// An engine like this one that has seen nothing: its cache mounts are empty, and go with it; it
    /// knows of no remote caches.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn without_mounts(&self) -> Result<Self> {
        let mut settings = Settings::clone(&self.s);
        settings.share = None;
        settings.own_mounts = Some(Arc::new(self.s.store.scratch()?));
        Ok(Self::new(settings))
    }

    /// The same engine with remote caches.
    #[must_use]
    pub fn with_share(self, share: RemoteCaches) -> Self {
        let settings = Settings {
            share: Some(share),
            ..Settings::clone(&self.s)
        };
        Self::new(settings)
    }

    /// The same engine, which only looks: the images that it asks registries for do not get into the
    /// list of images, and names in it stay as they are.
    #[must_use]
    pub fn looking_only(self) -> Self {
        let settings = Settings {
            lists_images: false,
            ..Settings::clone(&self.s)
        };
        Self::new(settings)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.s.store
    }

    /// The registry client.
    pub fn registry(&self) -> &Client {
        &self.s.registry
    }

    /// The remote caches, if there are any.
    pub fn share(&self) -> Option<&RemoteCaches> {
        self.s.share.as_ref()
    }

    /// The file that keeps the output of a step, by the number of its vertex.
    pub fn step_log(&self, vertex: usize) -> PathBuf {
        self.s.logs.path(vertex)
    }

    /// What was removed to make room since this was last asked.
    pub fn take_removed(&self) -> Removed {
        self.space.take_removed()
    }

    /// Has the results whose layers are in the image exported to the remotes that get only those.
    pub fn leave_result(&self, layers: &[LayerRef]) {
        if let Some(caches) = &self.s.share {
            caches.export_image(&self.s.store, layers.iter().filter_map(LayerRef::id));
        }
    }

    /// Has the cache mounts that this build has used and changed exported.
    pub fn leave_mounts(&self) {
        if let Some(caches) = &self.s.share {
            caches.export_mounts(&self.s.store);
        }
    }

    pub(crate) fn spawner(&self) -> Result<&Spawner> {
        self.s
            .spawner
            .as_ref()
            .ok_or_else(|| Error::Other("nothing can be run here".into()))
    }

    /// The layers of `layers` in the store, fetched and unpacked where they are not there.
    ///
    /// # Errors
    /// A layer cannot be had.
    pub async fn ready(&self, layers: &[LayerRef]) -> Result<Vec<LayerId>> {
        if layers.iter().all(|l| l.id().is_some()) {
            return Ok(layers.iter().filter_map(|l| l.id().cloned()).collect());
        }
        match self.fetch_layers(layers).await {
            // Both mean something to who asked.
            Err(error @ (Error::Cancelled | Error::Lost { .. })) => Err(error),
            Err(error) => Err(Error::Inputs(Box::new(error))),
            fetched => fetched,
        }
    }

    /// A tree that can be read, whatever kind of output it is.
    pub(crate) async fn open(&self, output: &Output) -> Result<OpenTree> {
        match output {
            Output::Dir(dir) => {
                let root = RootDir::open_trusted(&dir.path)?;
                Ok(OpenTree::Dir {
                    root,
                    dir: dir.clone(),
                })
            }
            Output::Layers(layers) => {
                let ids = self.ready(layers).await?;
                Ok(OpenTree::View(self.s.store.view(&ids)?))
            }
        }
    }
}

/// An output that is open for reading.
#[derive(Debug)]
pub(crate) enum OpenTree {
    Dir { root: RootDir, dir: Arc<DirTree> },
    View(kiln_cache::View),
}

impl OpenTree {
    pub(crate) fn root(&self) -> &RootDir {
        match self {
            Self::Dir { root, .. } => root,
            Self::View(view) => view.root(),
        }
    }

    pub(crate) fn dir(&self) -> Option<&DirTree> {
        match self {
            Self::Dir { dir, .. } => Some(dir),
            Self::View(_) => None,
        }
    }
}
