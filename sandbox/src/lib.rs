//! The sandbox of build steps and containers: what is isolated, how it starts, how it ends.
//!
//! A process with threads cannot safely run code between fork and exec. So [`Spawner::start`]
//! forks a small helper at the start of `main`, while there is one thread; the helper clones a
//! child into new namespaces for each [`Launch`] that it is sent, and the child sets itself up
//! ([`Launch`]) and executes the command. Every mount of a step lives in the child's own mount
//! namespace, so nothing can be left mounted.
#![forbid(unsafe_code)]

pub mod cdi;
mod describe;
mod error;
mod filter;
mod init;
mod launch;
mod mounts;
pub mod names;
mod prepare;
mod spawner;
pub mod user;

pub use describe::{DeviceAccess, Limits, Network, Request, Security, describe};
pub use error::{Error, Result};
pub use launch::{Launch, Mount, MountFlags, MountSource, Report, Rootfs};
pub use prepare::MountPoints;
pub use spawner::{Event, Spawner, Stdio};
