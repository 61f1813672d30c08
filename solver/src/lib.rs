//! From a Dockerfile's syntax tree to a plan, and from a plan to results.
//!
//! [`lower`] turns the tree into a [`plan::Plan`]: a graph of ops that know nothing of
//! Dockerfiles. [`schedule`] walks the graph in parallel, asks the cache by [`key`], and has
//! what is missing made by a [`ports::Worker`].

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![forbid(unsafe_code)]

pub mod event;
pub mod explain;
mod fetch_progress;
mod files_version;
mod hint;
pub mod key;
pub mod lint;
pub mod lower;
pub mod plan;
pub mod policy;
mod port_error;
pub mod ports;
pub mod schedule;
mod watch;

pub use files_version::FilesVersion;
pub use hint::Hint;
pub use watch::Watch;
