//! Containers in the foreground, and what commands cost.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod counts;
mod run;
