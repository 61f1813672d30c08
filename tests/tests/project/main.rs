//! The command line, what programs read, the corpus, and the project itself.

mod checks;
mod cli;
mod completions;
mod corpus;
mod fmt;
mod json;
mod structure;
