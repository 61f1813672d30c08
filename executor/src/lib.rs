//! Carries out ops: commands, file changes, sources, exports.
//!
//! [`Worker`] is the solver's worker: it is put together of parts that each do one thing, such as running
//! commands or bringing layers in. They know the store, the sandbox and the registry; they know
//! neither Dockerfiles nor the terminal.
#![forbid(unsafe_code)]

mod clamp;
mod compare;
mod error;
mod exec;
pub mod export;
mod file;
mod fingerprints;
mod id_maps;
mod images;
mod layers;
mod logs;
mod new_layer;
mod output;
mod results;
mod run_dirs;
mod settings;
pub mod source;
#[cfg(test)]
mod testing;
mod tree;
mod worker;

pub use compare::{Comparer, Difference};
pub use error::{Error, Result};
pub use export::Exporter;
pub use images::Images;
pub use kiln_remote::{ExportSummary, MountSummary, RemoteCaches, Remotes, SharedLayer};
pub use kiln_solver::Watch;
pub use kiln_sys::cgroup::CgroupLimits;
pub use layers::LayerFetcher;
pub use logs::StepLogs;
pub use new_layer::NewLayer;
pub use output::{DirTree, LayerRef, LazyLayer, Output};
pub use results::StepFlight;
pub use settings::{
    AllowedDevices, BuildInputs, Changed, Context, SecretSource, Settings, SshAgent,
};
pub use source::SourceFetcher;
pub use worker::Worker;
