//! Caches that hosts share.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod cache;
mod claims;
mod hosts;
mod inline_cache;
mod leaving;
mod mount_trouble;
mod mounts;
mod rounds;
mod secrets;
mod trouble;
