//! Why credentials cannot be looked up: a file of its own, for errors and those who give them.

use std::io;

/// Why credentials cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file is not what `docker login` writes. The parser's own words could quote a secret.
    #[error("Docker's config file is not JSON of its kind: line {line}, column {column}")]
    Json {
        /// Where it stops being that, counted from 1; 0 where only its form is wrong.
        line: usize,
        /// The column.
        column: usize,
    },
    /// The file is absurdly large.
    #[error("Docker's config file has more than {0} bytes")]
    TooLarge(usize),
    /// The name of a helper is no plain word.
    #[error("credential helper `{0}` has an invalid name")]
    HelperName(String),
    /// A helper cannot be run.
    #[error("credential helper `{helper}` cannot be run")]
    HelperRun {
        /// Which one.
        helper: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A helper failed or answered nonsense.
    #[error("credential helper `{helper}` failed: {problem}")]
    Helper {
        /// Which one.
        helper: String,
        /// What it said.
        problem: String,
    },
}
