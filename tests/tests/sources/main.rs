//! What builds are made from: contexts, files of the web, repositories.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod bases;
mod context;
mod downloads;
mod odd_places;
mod oracle;
mod writers;
