//! Caches that hosts share.

mod cache;
mod claims;
mod hosts;
mod inline_cache;
mod leaving;
mod mount_trouble;
mod mounts;
mod secrets;
mod trouble;
