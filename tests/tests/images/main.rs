//! Images: names, metadata, archives, registries.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod annotations;
mod commands;
mod export;
mod found;
mod metadata;
mod prune;
mod push;
