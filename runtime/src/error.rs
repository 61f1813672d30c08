//! Why a container cannot be run.

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] kiln_cache::Error),
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] kiln_sandbox::Error),
    /// Neither the image nor the request says what to run.
    #[error("the image has no command")]
    NoCommand,
    /// The command could not be started.
    #[error("{source}")]
    NotStarted {
        /// Why.
        source: kiln_sandbox::Error,
        /// The exit code, as `docker run` has it: 127, 126 or 125.
        code: i32,
    },
    /// Writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// Result of the runtime.
pub type Result<T> = std::result::Result<T, Error>;
