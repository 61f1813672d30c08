//! The command line, what programs read, the corpus, and the project itself.

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
