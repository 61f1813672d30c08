//! What can go wrong while a step is carried out.

use kiln_image::with_causes;
use kiln_registry::RegistryError;
use kiln_remote::FetchError;
use kiln_solver::Hint;
use kiln_solver::ports::{PortError, PortErrorKind};

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
    Runtime(#[from] kiln_sandbox::Error),
    /// A registry failed.
    #[error("{what}{}", with_causes(.source.as_ref()))]
    Registry {
        /// What was wanted of it, with a colon behind; empty where its own words say that.
        what: String,
        /// Why.
        source: Box<RegistryError>,
        /// What to do.
        hint: Option<Hint>,
    },
    /// An image does not make sense.
    #[error("{0}")]
    Image(String),
    /// A path that is to be copied is not there.
    #[error("`{path}` not found in {place}{reason}")]
    SourceNotFound {
        /// The path as written.
        path: String,
        /// Where it was looked for, in words.
        place: String,
        /// Why, as the end of a sentence; empty where there is simply nothing.
        reason: String,
        /// What may have been meant.
        hint: Option<Hint>,
    },
    /// A command failed.
    #[error("{text}")]
    Command {
        /// What happened.
        text: String,
        /// Its exit code.
        code: i32,
    },
    /// A command was killed, or lost a process, for want of memory.
    #[error(
        "process `{command}` ran out of memory: it needed more than its limit, and the kernel killed it (exit code: {code})"
    )]
    OutOfMemory {
        /// The command.
        command: String,
        /// Its exit code.
        code: i32,
    },
    /// A script has line ends of Windows, so that its interpreter was not found.
    #[error("{text}")]
    CarriageReturn {
        /// What happened.
        text: String,
        /// Its exit code.
        code: i32,
        /// The script.
        script: String,
    },
    /// The files of an image cannot be had that a step needs.
    #[error("cannot bring in the files that it needs: {0}")]
    Inputs(#[source] Box<Error>),
    /// A command failed on a full disk.
    #[error("{text}")]
    CommandNoSpace {
        /// What happened.
        text: String,
        /// Its exit code.
        code: i32,
    },
    /// The work was stopped.
    #[error("canceled")]
    Cancelled,
    /// Something that is asked for is not there, or not what it must be.
    #[error("{text}")]
    Missing {
        /// What.
        text: String,
        /// What to do.
        hint: Hint,
    },
    /// What a server sends is larger than it may be.
    #[error("{what}: it has more than {limit} bytes")]
    DownloadTooLarge {
        /// What cannot be had.
        what: String,
        /// Bytes at most.
        limit: u64,
    },
    /// A command that fetches something gets too little of it.
    #[error("{what}: nothing to speak of came from the server in {seconds} s")]
    Stalled {
        /// What cannot be had.
        what: String,
        /// For how long it was waited for.
        seconds: u64,
    },
    /// A remote cache promised a layer and cannot give it. The same build works without it.
    #[error("cache {remote}: {why}")]
    Lost {
        /// The remote.
        remote: String,
        /// What happened.
        why: String,
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

    /// Whether a full disk or quota is the reason.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::CommandNoSpace { .. } => true,
            Self::Inputs(inner) => inner.is_no_space(),
            other => kiln_cache::is_no_space(other),
        }
    }
}

/// Result of the executor.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether another way to fetch the same thing would end like this.
    pub(crate) fn ends_all_tries(&self) -> bool {
        matches!(
            self,
            Self::Cancelled | Self::DownloadTooLarge { .. } | Self::Stalled { .. }
        )
    }
}

impl From<FetchError> for Error {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Cancelled => Self::Cancelled,
            FetchError::Lost { remote, why } => Self::Lost { remote, why },
            FetchError::Store(error) => Self::Store(error),
        }
    }
}

impl Error {
    /// What has to be told apart.
    fn kind(&self) -> PortErrorKind {
        let no_space = self.is_no_space();
        match self {
            Self::Command { code, .. }
            | Self::CommandNoSpace { code, .. }
            | Self::OutOfMemory { code, .. }
            | Self::CarriageReturn { code, .. } => PortErrorKind::Command {
                code: *code,
                no_space,
            },
            Self::Inputs(_) => PortErrorKind::Inputs { no_space },
            Self::Cancelled => PortErrorKind::Cancelled,
            Self::Lost { .. } => PortErrorKind::Lost,
            _ if no_space => PortErrorKind::NoSpace,
            _ => PortErrorKind::Failed,
        }
    }

    /// What to do.
    pub fn hint(&self) -> Option<Hint> {
        use kiln_cache::Error as Stored;
        match self {
            Self::CarriageReturn { script, .. } => Some(Hint::UnixLineEnds {
                script: script.clone(),
            }),
            Self::Missing { hint, .. } => Some(hint.clone()),
            Self::Store(Stored::LayerGone(_) | Stored::LayerNotRepeatable { .. }) => {
                Some(Hint::BuildOrPullAgain)
            }
            Self::Store(Stored::LayerLost(_)) => Some(Hint::BuildAgain),
            Self::DownloadTooLarge { .. } => Some(Hint::RaiseMaxDownload),
            Self::Registry { hint, .. } | Self::SourceNotFound { hint, .. } => hint.clone(),
            _ => None,
        }
    }
}

impl From<Error> for PortError {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind(),
            hint: error.hint(),
            message: error.to_string(),
        }
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
