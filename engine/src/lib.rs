//! Every capability of kiln as a library call: images are built, listed, moved, run.
//!
//! An [`Engine`] is opened with a plain [`Config`]. Calls take plain requests, tell what happens through
//! [`Events`], end early when their token is cancelled, and fail with one [`Error`], whose kind and hint are data.
//! Nothing here reads the environment, prints, or knows a terminal.
#![forbid(unsafe_code)]

pub mod build;
mod cancel;
mod config;
mod context;
mod credentials;
mod engine;
mod error;
mod event;
pub mod host;
mod images;
mod mounts;
mod outputs;
pub mod peek;
mod run;
mod system;
mod units;

pub use build::{Build, BuildRequest, Built, Look, RemoteCachesRequest, Solved};
pub use config::{Config, RemoteCachesConfig};
pub use context::{
    BuildFile, DockerfileAt, IgnoreFile, Input, MAX_DOCKERFILE_BYTES, NamedSource, Place,
    SourceText, ignore_file, read_dockerfile, read_whole,
};
pub use engine::Engine;
pub use error::{Error, ErrorKind, Hint, Result};
pub use event::{Event, Events};
pub use images::{
    CHANGE_INSTRUCTIONS, ImageDetails, ImageFilter, ImageHistory, ImageHistoryLine, ImageSummary,
    Images, ImportRequest, ImportSource, LoadSource, PrunedImages, PullPolicy, RemovedImage,
    image_name,
};
pub use mounts::{CacheMounts, RemovedMounts};
pub use outputs::{Annotations, Dest, Destination, Output, OutputKind, Outputs};
pub use run::{Container, RunRequest};
pub use system::{DiskUsage, System, SystemInfo, UsageRow};
pub use units::human_bytes;

pub use kiln_cache::{
    Cause, Class, Fate, Held, HurtImage, Item, MountRow, Part, Policy as GcPolicy, Prune, Removed,
    Report, is_no_space,
};
pub use kiln_executor::export::{ArchiveForm, Assembled, LayerForm, Pushed};
pub use kiln_executor::source::{Loaded, Pulled};
pub use kiln_executor::{
    AllowedDevices, CgroupLimits, Difference, Left, Running, SecretSource, SshAgent,
};
pub use kiln_image::{
    Compression, Descriptor, Digest, ImageConfig, Platform, PlatformError, Reference,
    ReferenceError, SafeUrl, with_causes,
};
pub use kiln_registry::{RegistryConfig, TlsConfig};
pub use kiln_remote::{RemoteKind, RemoteSpec, SigningKey, SpecError, TrustError, VerifyingKey};
pub use kiln_runtime::sandbox::Network as ContainerNetwork;
pub use kiln_runtime::{Spawner, Stdio};
/// Builds as data: plans, events of steps, explanations, findings of checks.
pub use kiln_solver as solver;
