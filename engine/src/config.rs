//! What an engine works with: plain values, which the caller reads from wherever it likes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiln_cache::Policy;
use kiln_registry::RegistryConfig;
use kiln_remote::{BucketSettings, RemoteSpec, SigningKey, VerifyingKey};
use kiln_sandbox::Spawner;

use crate::event::Events;

/// What an engine works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the store. It is made where it is missing.
    pub root: PathBuf,
    /// Registries, their mirrors and certificates.
    pub registries: RegistryConfig,
    /// Docker's config file with credentials, if there may be one.
    pub docker_config: Option<PathBuf>,
    /// Steps of one build at once.
    pub parallelism: usize,
    /// Bytes of one download at most.
    pub max_download: u64,
    /// Bytes that are kept of one step's output.
    pub max_step_log: u64,
    /// Files with certificates, as PEM, of authorities that steps are to trust.
    pub authorities: Vec<PathBuf>,
    /// How much the store may hold.
    pub gc: Policy,
    /// Remote caches of every build.
    pub remote_caches: RemoteCachesConfig,
    /// Where files describe the devices of this machine (CDI).
    pub device_dirs: Vec<PathBuf>,
    /// Where warnings go that belong to no call, such as of a damaged store.
    pub events: Events,
    /// Starts sandboxes, for what runs commands; it is started before the process has threads.
    pub spawner: Option<Spawner>,
}

impl Config {
    /// Usual values for a store at `root`: no credentials, no limits but those of one download and of logs, no
    /// remote caches, nothing that runs commands.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            root: root.into(),
            registries: RegistryConfig::default(),
            docker_config: None,
            parallelism: (4 * cores).max(16),
            max_download: Self::MAX_DOWNLOAD,
            max_step_log: Self::MAX_STEP_LOG,
            authorities: Vec::new(),
            gc: Policy::default(),
            remote_caches: RemoteCachesConfig::default(),
            device_dirs: kiln_sandbox::cdi::DIRS.map(PathBuf::from).to_vec(),
            events: Events::none(),
            spawner: None,
        }
    }

    /// Bytes of one download at most, where nothing else is said: more than any release of a program, toolchain
    /// or data set that is put into an image has, and less than most disks.
    pub const MAX_DOWNLOAD: u64 = 20 << 30;

    /// Bytes that are kept of one step's output, where nothing else is said: what nobody reads to its end.
    pub const MAX_STEP_LOG: u64 = 64 << 20;
}

/// Remote caches of every build of a host.
#[derive(Clone, Debug)]
pub struct RemoteCachesConfig {
    /// Results are looked for here.
    pub from: Vec<RemoteSpec>,
    /// Results are exported here.
    pub to: Vec<RemoteSpec>,
    /// Cache mounts are fetched from here.
    pub mounts_from: Vec<RemoteSpec>,
    /// Cache mounts are exported here.
    pub mounts_to: Vec<RemoteSpec>,
    /// Nothing is written to any remote cache.
    pub read_only: bool,
    /// Keeps the records of one group of hosts from those of another.
    pub namespace: String,
    /// Signs what is written.
    pub sign: Option<Arc<SigningKey>>,
    /// Whose records are believed; none is everybody's.
    pub accept: Option<Vec<VerifyingKey>>,
    /// What buckets are opened with where their descriptions leave something open, such as credentials.
    pub bucket_settings: BucketSettings,
    /// How long a build waits for other hosts that run its steps, in all.
    pub wait_for_others: Duration,
}

impl RemoteCachesConfig {
    /// How long a build waits for other hosts where nothing else is said.
    pub const WAIT_FOR_OTHERS: Duration = Duration::from_secs(10 * 60);
}

impl Default for RemoteCachesConfig {
    fn default() -> Self {
        Self {
            from: Vec::new(),
            to: Vec::new(),
            mounts_from: Vec::new(),
            mounts_to: Vec::new(),
            read_only: false,
            namespace: String::new(),
            sign: None,
            accept: None,
            bucket_settings: BucketSettings::default(),
            wait_for_others: Self::WAIT_FOR_OTHERS,
        }
    }
}
