//! Every capability of kiln as a library call: images are built, listed, moved, run.
//!
//! An [`Engine`] is opened with a plain [`Config`]. Calls take plain requests, tell what happens through
//! [`Events`], end early when their token is cancelled, and fail with one [`Error`], whose kind and hint are data.
//! Nothing here reads the environment, prints, or knows a terminal.
//!
//! A store is made by the first call that needs it:
//!
//! ```
//! use kiln_engine::{Config, Engine, ErrorKind, Hint};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let engine = Engine::open(Config::new(dir.path().join("store")));
//! assert!(engine.images().list(&[])?.is_empty());
//!
//! // Errors are of a kind, and say what may help.
//! let error = engine.images().inspect("debian:bookworm").unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::NotFound);
//! assert_eq!(error.hint(), Some(Hint::ListImages));
//! # Ok(())
//! # }
//! ```
//!
//! A build is one call, [`Engine::build`], or a few, for callers that look in between. Here a Dockerfile is read
//! and checked, and nothing is built:
//!
//! ```
//! use kiln_engine::{BuildRequest, Config, Engine, Events, Look, Place};
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let dockerfile = "from scratch AS app\nCOPY hello /\nCMD /hello\n";
//! std::fs::write(dir.path().join("Dockerfile"), dockerfile)?;
//!
//! let engine = Engine::open(Config::new(dir.path().join("store")));
//! let request = BuildRequest::new(Place::Directory(dir.path().to_owned()));
//! let (events, cancel) = (Events::none(), CancellationToken::new());
//! let mut build = engine.prepare_build(request, &events, cancel).await?;
//! let lowered = build.look(Look::EveryStage, &events).await?;
//! assert_eq!(lowered.plan.len(), 2); // the context, and COPY
//!
//! let broken = build.findings().broken();
//! let rules: Vec<&str> = broken.iter().map(|rule| rule.name()).collect();
//! assert!(rules.contains(&"JSONArgsRecommended"));
//! # Ok(())
//! # }
//! ```
//!
//! What runs commands (builds with `RUN`, containers) also needs a [`Spawner`], which
//! [`host::start_spawner`] forks before the process has threads.
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
mod source_text;
mod system;
mod units;

pub use build::{Build, BuildRequest, Built, Look, RemoteCachesRequest, Solved};
pub use config::{Config, RemoteCachesConfig};
pub use context::{
    BuildFile, DockerfileAt, IgnoreFile, Input, MAX_DOCKERFILE_BYTES, NamedSource, Place,
    ignore_file, read_dockerfile, read_whole,
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
pub use outputs::{Annotations, Dest, Destination, Output, OutputKind, Outputs, USUAL_LAYERS};
pub use run::{Container, RunRequest};
pub use source_text::SourceText;
pub use system::{DiskUsage, System, SystemInfo, UsageRow};
pub use units::human_bytes;

pub use kiln_cache::{
    Cause, Class, Fate, Held, HurtImage, Item, MountRow, Part, Policy as GcPolicy, Prune, Removed,
    Report, is_no_space,
};
pub use kiln_executor::export::{ArchiveForm, Assembled, LayerForm, Pushed};
pub use kiln_executor::source::{Loaded, Pulled};
pub use kiln_executor::{
    AllowedDevices, CgroupLimits, Difference, ExportSummary, SecretSource, SshAgent,
};
pub use kiln_image::{
    Compression, Descriptor, Digest, ImageConfig, Platform, PlatformError, Reference,
    ReferenceError, SafeUrl, with_causes,
};
/// Dockerfiles as syntax trees, with what is wrong in them.
pub use kiln_parser as parser;
pub use kiln_registry::{RegistryConfig, TlsConfig};
pub use kiln_remote::{
    BucketSettings, RemoteKind, RemoteSpec, SigningKey, SpecError, TrustError, VerifyingKey,
};
pub use kiln_runtime::Running;
pub use kiln_sandbox::Network as ContainerNetwork;
pub use kiln_sandbox::{Spawner, Stdio};
/// Builds as data: plans, events of steps, explanations, findings of checks.
pub use kiln_solver as solver;
pub use tokio_util::sync::CancellationToken;
