//! What tests need: real registries, servers with faults, tiny images.
//!
//! Nothing here reaches beyond this host.
#![forbid(unsafe_code)]

pub mod fault;
pub mod golden;
pub mod image;
pub mod port;
pub mod registry;

pub use fault::{FaultServer, Reply, Seen, Verdict};
pub use image::TinyImage;
pub use registry::RegistryProcess;
