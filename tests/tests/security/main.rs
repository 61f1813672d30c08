//! What must not leave its place.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod archives;
mod endless;
mod files;
mod mounts;
mod network;
mod outputs;
mod sandbox;
mod sources;
mod terminal;
