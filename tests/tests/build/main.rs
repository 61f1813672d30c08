//! Builds: the language, steps, files, and what a change makes run again.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod devices;
mod docker_habits;
mod epoch;
mod explain;
mod explain_context;
mod files;
mod instructions;
mod language;
mod layers;
mod real;
mod reproducible;
mod rerun;
mod steps;
