//! What can go wrong in a call of the engine.

use std::path::PathBuf;

use kiln_image::{Platform, with_causes};
use kiln_parser::Diagnostic;
use kiln_solver::lower::LowerError;
use kiln_solver::plan::VertexId;
use kiln_solver::ports::{PortError, PortErrorKind};

use crate::source_text::SourceText;

/// An error of the engine. [`Error::kind`] says of which kind it is, [`Error::hint`] what may help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for makes no sense; nothing was begun.
    #[error("{message}")]
    Request {
        /// What is wrong with it.
        message: String,
        /// What may help.
        hint: Option<Hint>,
    },
    /// Something could not be done.
    #[error("{message}")]
    Failed {
        /// What, and why.
        message: String,
        /// What may help.
        hint: Option<Hint>,
    },
    /// The caller's token was cancelled.
    #[error("canceled")]
    Cancelled,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] kiln_cache::Error),
    /// A source, an output or a container failed.
    #[error(transparent)]
    Work(#[from] kiln_executor::Error),
    /// A file operation failed.
    #[error(transparent)]
    Files(#[from] kiln_sys::FsError),
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] kiln_sandbox::Error),
    /// A container failed.
    #[error(transparent)]
    Container(#[from] kiln_runtime::Error),
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// JSON of the store or of an image cannot be read.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Something went wrong with what `what` names.
    #[error("{what}: {source}")]
    About {
        /// What was worked on.
        what: String,
        /// What went wrong.
        source: Box<Error>,
    },
    /// A Dockerfile does not make sense.
    #[error("{}", .error.message)]
    Dockerfile {
        /// The Dockerfile.
        file: Box<SourceText>,
        /// What is wrong, and where.
        error: Box<LowerError>,
    },
    /// The parser found errors.
    #[error("the Dockerfile has errors")]
    Syntax {
        /// The Dockerfile.
        file: Box<SourceText>,
        /// All that the parser found.
        diagnostics: Vec<Diagnostic>,
    },
    /// Build checks found what the Dockerfile's options make an error.
    #[error("checks failed: {}", .rules.join(", "))]
    Checks {
        /// Names of the rules that were broken.
        rules: Vec<String>,
    },
    /// A step of a build failed.
    #[error("failed to build: {}", .error.message)]
    Step {
        /// The step; none where something failed that belongs to no single one.
        vertex: Option<VertexId>,
        /// The file that keeps its whole output, if it is kept.
        log: Option<PathBuf>,
        /// Why.
        error: Box<PortError>,
    },
    /// A second build gave something else. The differences are in the events.
    #[error("the build is not reproducible")]
    NotReproducible {
        /// What may help; none where nothing is known.
        hint: Option<Hint>,
    },
}

/// Kinds of errors, for callers that choose an exit code or a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was asked for makes no sense.
    Request,
    /// What was asked for is not there.
    NotFound,
    /// It was cancelled.
    Cancelled,
    /// A disk or quota is full.
    NoSpace,
    /// A Dockerfile does not make sense.
    Dockerfile,
    /// A command ended with this code.
    Command {
        /// The exit code.
        code: i32,
    },
    /// Two builds differ.
    NotReproducible,
    /// Anything else.
    Failed,
}

/// What may help against an error: data, which a front puts into words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// What the build itself found.
    Build(kiln_solver::Hint),
    /// The Dockerfile has to be named.
    NameDockerfile,
    /// Only comments of a Dockerfile may be in another encoding than UTF-8.
    ConvertToUtf8,
    /// Findings of checks are errors because the Dockerfile's options say so.
    ChecksAreErrors,
    /// What was meant may be this.
    DidYouMean(String),
    /// The list of images shows what there is.
    ListImages,
    /// The list of cache mounts shows what there is.
    ListCacheMounts,
    /// A check of the store with repair puts a damaged database aside.
    RepairStore,
    /// Another directory may do for the store; whether this one may not be written to.
    OtherRoot {
        /// Another user may write there.
        denied: bool,
    },
    /// What uses it now will be over.
    TryLater,
    /// Remote caches are read-only by the settings of this host.
    ReadOnlyCaches,
    /// Where hosts wait for each other, results have to be looked for as well.
    AddCacheFrom,
    /// Only outputs that are images take records of the cache along.
    InlineNeedsImage,
    /// An image needs a name for that.
    NameImage,
    /// What is said of layers is for images that are pushed, and for archives.
    PushOrArchive,
    /// An image has several names.
    ManyNames,
    /// These are the names of an image.
    Names(Vec<String>),
    /// The image has no command: one has to be given.
    GiveCommand,
    /// Times are those of the build, unless a time is given (`SOURCE_DATE_EPOCH`).
    GiveEpoch,
    /// What steps write differs, and so do times unless a time is given (`SOURCE_DATE_EPOCH`).
    StepsAndTimesDiffer,
    /// The destination is a directory, and a file is wanted.
    NameFile,
    /// A privilege is missing: root has it.
    NeedsRoot,
    /// Instructions that can be used here.
    Instructions(&'static [&'static str]),
}

impl Error {
    /// An error of the request.
    pub fn request(message: impl Into<String>) -> Self {
        Self::Request {
            message: message.into(),
            hint: None,
        }
    }

    /// Something that could not be done.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what may help, to errors that have room for it.
    #[must_use]
    pub fn with_hint(mut self, new: Hint) -> Self {
        if let Self::Request { hint, .. } | Self::Failed { hint, .. } = &mut self {
            *hint = Some(new);
        }
        self
    }

    /// The same, with what was worked on in front.
    #[must_use]
    pub fn about(self, what: impl Into<String>) -> Self {
        match self {
            Self::Cancelled => Self::Cancelled,
            error => Self::About {
                what: what.into(),
                source: Box::new(error),
            },
        }
    }

    /// An error of reading or writing.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    pub(crate) fn about_windows(platform: &Platform) -> Self {
        Self::failed(format!("an image for {platform} cannot be made here"))
            .with_hint(Hint::Build(kiln_solver::Hint::BuildOnWindows))
    }

    /// Of which kind it is.
    pub fn kind(&self) -> ErrorKind {
        if self.is_no_space() {
            return ErrorKind::NoSpace;
        }
        match self {
            Self::Request { .. } => ErrorKind::Request,
            Self::Cancelled | Self::Work(kiln_executor::Error::Cancelled) => ErrorKind::Cancelled,
            Self::Store(error) | Self::Work(kiln_executor::Error::Store(error)) => match error {
                kiln_cache::Error::NoImage { .. } | kiln_cache::Error::NoMount(_) => {
                    ErrorKind::NotFound
                }
                _ => ErrorKind::Failed,
            },
            Self::Work(kiln_executor::Error::Command { code, .. }) => {
                ErrorKind::Command { code: *code }
            }
            Self::About { source, .. } => source.kind(),
            Self::Dockerfile { .. } | Self::Syntax { .. } | Self::Checks { .. } => {
                ErrorKind::Dockerfile
            }
            Self::Step { error, .. } => match error.kind {
                PortErrorKind::Cancelled => ErrorKind::Cancelled,
                PortErrorKind::Command { code, .. } => ErrorKind::Command { code },
                _ => ErrorKind::Failed,
            },
            Self::Container(kiln_runtime::Error::NotStarted { code, .. }) => {
                ErrorKind::Command { code: *code }
            }
            Self::NotReproducible { .. } => ErrorKind::NotReproducible,
            Self::Failed { .. }
            | Self::Work(_)
            | Self::Files(_)
            | Self::Sandbox(_)
            | Self::Container(_)
            | Self::Io { .. }
            | Self::Json(_) => ErrorKind::Failed,
        }
    }

    /// What may help.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Request { hint, .. }
            | Self::Failed { hint, .. }
            | Self::NotReproducible { hint } => hint.clone(),
            Self::Store(error) => of_store(error),
            Self::Work(kiln_executor::Error::Store(error)) => of_store(error),
            Self::Work(error) => error.hint().map(Hint::Build),
            Self::About { source, .. } => source.hint(),
            Self::Dockerfile { error, .. } => error.hint.clone().map(Hint::Build),
            Self::Checks { .. } => Some(Hint::ChecksAreErrors),
            Self::Step { error, .. } => error.hint.clone().map(Hint::Build),
            Self::Container(kiln_runtime::Error::NoCommand) => Some(Hint::GiveCommand),
            Self::Container(kiln_runtime::Error::Store(error)) => of_store(error),
            Self::Cancelled
            | Self::Files(_)
            | Self::Sandbox(_)
            | Self::Container(_)
            | Self::Io { .. }
            | Self::Json(_)
            | Self::Syntax { .. } => None,
        }
    }

    /// Whether a full disk or quota is the reason.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Step { error, .. } => error.kind.is_no_space(),
            Self::Work(error) => error.is_no_space(),
            Self::About { source, .. } => source.is_no_space(),
            error => kiln_cache::is_no_space(error),
        }
    }

    /// The message with the causes that it does not name itself.
    pub fn full(&self) -> String {
        match self {
            Self::About { what, source } => format!("{what}: {}", source.full()),
            Self::Io { .. } => self.to_string(),
            error => with_causes(error),
        }
    }
}

fn of_store(error: &kiln_cache::Error) -> Option<Hint> {
    match error {
        kiln_cache::Error::NoImage {
            near: Some(near), ..
        } => Some(Hint::DidYouMean(near.clone())),
        kiln_cache::Error::NoImage { .. } => Some(Hint::ListImages),
        kiln_cache::Error::NoMount(_) => Some(Hint::ListCacheMounts),
        kiln_cache::Error::LayerGone(_) | kiln_cache::Error::LayerNotRepeatable { .. } => {
            Some(Hint::Build(kiln_solver::Hint::BuildOrPullAgain))
        }
        kiln_cache::Error::LayerLost(_) => Some(Hint::Build(kiln_solver::Hint::BuildAgain)),
        e if e.is_damaged_database() => Some(Hint::RepairStore),
        // What helps against a full disk depends on the store, which is asked at the end.
        e if e.is_no_space() => None,
        kiln_cache::Error::Open { why, .. } => Some(Hint::OtherRoot {
            denied: matches!(
                why.kind(),
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
            ),
        }),
        _ => None,
    }
}

/// Result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;
