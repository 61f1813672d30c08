//! Builds: the language, steps, files, and what a change makes run again.

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
