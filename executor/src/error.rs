//! What can go wrong while a step is carried out.

use kiln_solver::ports::PortError;

/// An error of the executor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] kiln_cache::Error),
    /// A file operation failed.
    #[error(transparent)]
    System(#[from] kiln_sys::FsError),
    /// The sandbox failed.
    #[error(transparent)]
    Runtime(#[from] kiln_runtime::Error),
    /// A registry failed.
    #[error("{0}")]
    Registry(String),
    /// An image does not make sense.
    #[error("{0}")]
    Image(String),
    /// A path that is to be copied is not there.
    #[error("`{path}` not found{}", if *.ignored { ": .dockerignore leaves it out" } else { "" })]
    SourceNotFound {
        /// The path as written.
        path: String,
        /// It exists and is left out.
        ignored: bool,
    },
    /// A command failed.
    #[error("{text}")]
    Command {
        /// What happened.
        text: String,
        /// Its exit code.
        code: i32,
    },
    /// The work was stopped.
    #[error("cancelled")]
    Cancelled,
    /// The build asks for something that it was not given.
    #[error("{text}")]
    Missing {
        /// What.
        text: String,
        /// What to do.
        hint: String,
    },
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }
}

/// Result of the executor.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<Error> for PortError {
    fn from(error: Error) -> Self {
        let mut out = Self::new(error.to_string());
        match error {
            Error::Command { code, .. } => out.exit_code = Some(code),
            Error::Cancelled => out.cancelled = true,
            Error::Missing { hint, .. } => out.hint = Some(hint),
            Error::Store(e) if e.is_no_space() => {
                out.hint =
                    Some("the disk is full: free some space and run the same command again".into());
            }
            Error::System(e) if e.is_no_space() => {
                out.hint =
                    Some("the disk is full: free some space and run the same command again".into());
            }
            _ => {}
        }
        out
    }
}

/// Runs blocking work on the pool of blocking threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::Other(format!(
            "a worker thread ended unexpectedly: {e}"
        ))),
    }
}
