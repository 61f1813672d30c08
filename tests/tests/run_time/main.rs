//! Containers in the foreground.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod run;
