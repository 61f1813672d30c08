//! The command line, what programs read, the corpus, and the project itself.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod checks;
mod cli;
mod completions;
mod corpus;
mod docs_pages;
mod fmt;
mod glossary;
mod json;
mod pages;
mod structure;
