//! What a worker is made of, and what a build was given.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use kiln_cache::{Policy, Scratch, Store};
use kiln_registry::Client;
use kiln_remote::RemoteCaches;
use kiln_sandbox::Spawner;
use kiln_solver::event::Events;
use kiln_sys::cgroup::CgroupLimits;

use crate::logs::StepLogs;
use crate::output::DirTree;

/// Where a secret comes from.
#[derive(Clone)]
pub enum SecretSource {
    /// A file, read when a step needs it.
    File(PathBuf),
    /// A value, such as that of a variable.
    Value(Vec<u8>),
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(..)"),
        }
    }
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

/// What a worker is made of.
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
    pub caches: Option<RemoteCaches>,
    /// Where what users should know goes that belongs to no step.
    pub events: Events,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let shown = format!("{:?}", SecretSource::Value(b"s3cret".to_vec()));
        assert_eq!(shown, "Value(..)");
    }
}
