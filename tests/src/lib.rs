//! The harness of the end to end tests: a [`Lab`] has a store and scratch space of its own, runs
//! kiln in them, and at its end checks that nothing is left behind.
//!
//! `cargo xtask test` gives the tests what they need by environment variables; without them a test
//! fails and says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "only tests use this crate: a panic is how they report"
)]

mod canary;
mod context;
pub mod corpus;
pub mod counts;
mod disk;
mod events;
mod git;
mod http;
mod kiln;
mod lab;
mod leaks;
mod maintenance;
mod network;
pub mod place;
mod proxy;
mod random;
mod registry;
pub mod repository;
mod rounds;
pub mod servers;
mod tarball;
mod tools;

pub use canary::Canary;
pub use context::Context;
pub use disk::SmallDisk;
pub use events::{Built, Outcome, SharedMounts, Step};
pub use git::Repository;
pub use http::{Answer, Server};
pub use kiln::{Kiln, Output, Running};
pub use lab::Lab;
pub use maintenance::{MAINTENANCE, wait_for_maintenance};
pub use network::{Host, Network, Relay};
pub use proxy::{Fault, Proxy};
pub use random::Random;
pub use registry::{StoredImage, image_in_registry, registry_of};
pub use rounds::Rounds;
pub use tarball::Tarball;
pub use tools::{holds, skopeo_inspect, tool};

/// A variable that `cargo xtask test` sets.
#[must_use]
pub fn setting(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run the tests with `cargo xtask test`"))
}
