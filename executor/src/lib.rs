//! Carries out ops: commands, file changes, sources, exports.
//!
//! [`Engine`] is the solver's worker. It knows the store, the sandbox and the registry; it knows
//! neither Dockerfiles nor the terminal.
#![forbid(unsafe_code)]

mod compare;
mod engine;
mod error;
mod exec;
pub mod export;
mod file;
mod output;
mod owners;
pub mod source;
#[cfg(test)]
mod testing;
mod worker;

pub use compare::Difference;
pub use engine::{
    AllowedDevices, BuildInputs, Changed, Context, Engine, SecretSource, Settings, SshAgent,
};
pub use error::{Error, Result};
pub use exec::{RunRequest, Running, StepLogs};
pub use kiln_remote::{
    ExportSummary as Left, MountSummary as LeftMounts, RemoteCaches as Share, Remotes, SharedLayer,
};
pub use kiln_solver::Watch;
pub use kiln_sys::cgroup::CgroupLimits;
pub use output::{DirTree, LayerRef, LazyLayer, Output};
pub use worker::{NewLayer, StepFlight};
