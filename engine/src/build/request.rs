//! What a build is asked to do: plain data.

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_executor::{AllowedDevices, CgroupLimits, SecretSource, SshAgent};
use kiln_image::{Platform, Reference};
use kiln_remote::RemoteSpec;
use kiln_solver::lower::NoCache;
use kiln_solver::plan::{Network, Ulimit};
use kiln_solver::policy::Policy;

use crate::context::{DockerfileAt, Input, NamedSource, Place};
use crate::outputs::Outputs;

/// A build. What is not set is as `kiln build` has it without options.
#[derive(Debug)]
pub struct BuildRequest {
    /// The context.
    pub context: Place,
    /// The Dockerfile.
    pub dockerfile: DockerfileAt,
    /// What [`Place::Input`] and [`DockerfileAt::Input`] read.
    pub input: Option<Input>,
    /// Names of the image.
    pub names: Vec<Reference>,
    /// Stage to build, by name or number; none is the last.
    pub target: Option<String>,
    /// Build arguments.
    pub build_args: BTreeMap<String, String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Further contexts by name.
    pub contexts: Vec<(String, NamedSource)>,
    /// Platform of the result, if it was asked for; else this machine's.
    pub platform: Option<Platform>,
    /// Which steps run whatever the cache holds.
    pub no_cache: NoCache,
    /// Cache mounts of the build are removed first.
    pub clear_cache_mounts: bool,
    /// Steps whose result is older run again.
    pub cache_ttl: Option<Duration>,
    /// A second build from scratch is compared with the first.
    pub check_reproducible: bool,
    /// Base images are looked up in their registries even if they are here.
    pub pull: bool,
    /// Secrets by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// SSH agents by id.
    pub ssh: BTreeMap<String, SshAgent>,
    /// Devices that steps may use.
    pub devices: AllowedDevices,
    /// Network of steps that do not say.
    pub network: Network,
    /// Names with addresses in `/etc/hosts` of steps.
    pub extra_hosts: Vec<(String, String)>,
    /// Resource limits of processes of steps.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm` in steps.
    pub shm_size: Option<u64>,
    /// `RUN --security=insecure` is allowed.
    pub allow_insecure: bool,
    /// Memory and processors that each step may use.
    pub limits: CgroupLimits,
    /// Bytes of one download at most, where another number counts than that of the config.
    pub max_download: Option<u64>,
    /// Which sources may be used, and what takes their place.
    pub policy: Policy,
    /// All that the build adds becomes one layer.
    pub squash: bool,
    /// Remote caches, beside those of the config.
    pub remote_caches: RemoteCachesRequest,
    /// Where the result goes.
    pub outputs: Outputs,
    /// The image is pushed under all its names.
    pub push: bool,
}

/// The remote caches of one build.
#[derive(Clone, Debug, Default)]
pub struct RemoteCachesRequest {
    /// Results are looked for here.
    pub from: Vec<RemoteSpec>,
    /// Results are exported here.
    pub to: Vec<RemoteSpec>,
    /// Cache mounts are fetched from here.
    pub mounts_from: Vec<RemoteSpec>,
    /// Cache mounts are exported here.
    pub mounts_to: Vec<RemoteSpec>,
    /// The image takes the records of its layers along.
    pub inline: bool,
}

impl BuildRequest {
    /// A build of this context.
    pub fn new(context: Place) -> Self {
        Self {
            context,
            dockerfile: DockerfileAt::Default,
            input: None,
            names: Vec::new(),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            contexts: Vec::new(),
            platform: None,
            no_cache: NoCache::default(),
            clear_cache_mounts: false,
            cache_ttl: None,
            check_reproducible: false,
            pull: false,
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            devices: AllowedDevices::None,
            network: Network::Default,
            extra_hosts: Vec::new(),
            ulimits: Vec::new(),
            shm_size: None,
            allow_insecure: false,
            limits: CgroupLimits::default(),
            max_download: None,
            policy: Policy::default(),
            squash: false,
            remote_caches: RemoteCachesRequest::default(),
            outputs: Outputs::default(),
            push: false,
        }
    }
}
