//! What a build tells while it runs: plain values that a front end makes into text or JSON.

use std::sync::Arc;
use std::time::Duration;

use crate::explain::{Found, Reason};
use crate::plan::{Lines, VertexId};

/// What became of a vertex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A result of an earlier build was used; where it was found.
    Cached(Found),
    /// A source that was transferred.
    Fetched,
    /// A directory of this machine, which is read in place. It counts as nothing.
    InPlace,
    /// It was carried out.
    Ran,
    /// It failed.
    Failed,
    /// Another step failed or the build was interrupted while it ran.
    Cancelled,
    /// Another step failed or the build was interrupted before it began.
    NotReached,
}

/// Numbers of vertices by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken from the store of this machine.
    pub cached: usize,
    /// Taken from a remote cache.
    pub remote: usize,
    /// Sources that were transferred.
    pub fetched: usize,
    /// Carried out.
    pub ran: usize,
    /// Failed.
    pub failed: usize,
    /// Stopped while they ran.
    pub cancelled: usize,
    /// Never begun.
    pub not_reached: usize,
    /// Steps of stages that the target does not need.
    pub skipped: usize,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::InPlace => return,
            Outcome::Cached(Found::Local) => &mut self.cached,
            Outcome::Cached(Found::Remote(_)) => &mut self.remote,
            Outcome::Fetched => &mut self.fetched,
            Outcome::Ran => &mut self.ran,
            Outcome::Failed => &mut self.failed,
            Outcome::Cancelled => &mut self.cancelled,
            Outcome::NotReached => &mut self.not_reached,
        } += 1;
    }
}

/// Which stream a line of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A vertex will be needed; sent once for each, before anything else about it.
    Planned {
        /// The vertex.
        vertex: VertexId,
        /// Its line for progress.
        name: Arc<str>,
        /// Where it comes from.
        lines: Option<Lines>,
    },
    /// Work on a vertex began.
    Started {
        /// The vertex.
        vertex: VertexId,
    },
    /// A vertex has waited for all that it needs, and its own work begins.
    Began {
        /// The vertex.
        vertex: VertexId,
    },
    /// Nothing is done for a vertex until something needs it: then a transfer begins, or it is finished.
    Waiting {
        /// The vertex.
        vertex: VertexId,
    },
    /// A step that no vertex was made for, since the target does not need it.
    Skipped {
        /// Its line for progress.
        name: Arc<str>,
        /// Where it comes from.
        lines: Lines,
    },
    /// Why a step ran or did not. It comes when that is known, which may be after the step is
    /// done with.
    Explained {
        /// The vertex.
        vertex: VertexId,
        /// Why.
        reason: Reason,
    },
    /// A vertex is done with, or will not be begun.
    Finished {
        /// The vertex.
        vertex: VertexId,
        /// How.
        outcome: Outcome,
        /// How long it took.
        took: Duration,
        /// The error, if it failed.
        error: Option<String>,
        /// Its key in hexadecimal, where known.
        key: Option<String>,
    },
    /// Output of a command.
    Log {
        /// The vertex.
        vertex: VertexId,
        /// Which stream.
        stream: Stream,
        /// Raw bytes.
        bytes: Vec<u8>,
    },
    /// A transfer goes on.
    Progress {
        /// The vertex.
        vertex: VertexId,
        /// What is moved.
        label: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all, if known.
        total: Option<u64>,
    },
    /// Something to know that is no error.
    Warning(Warning),
}

/// Something to know that is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What kind of thing it is about, for programs.
    pub code: WarningCode,
    /// The text, for people.
    pub text: String,
    /// The vertex, if it concerns one.
    pub vertex: Option<VertexId>,
    /// The place that it concerns, such as the name of a remote cache, if there is one.
    pub place: Option<Arc<str>>,
}

impl Warning {
    /// A warning that concerns no vertex and no place.
    pub fn new(code: WarningCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            vertex: None,
            place: None,
        }
    }

    /// The same about a vertex.
    #[must_use]
    pub fn of(self, vertex: VertexId) -> Self {
        Self {
            vertex: Some(vertex),
            ..self
        }
    }

    /// The same about a place.
    #[must_use]
    pub fn at(self, place: &str) -> Self {
        Self {
            place: Some(place.into()),
            ..self
        }
    }
}

/// Declares the codes with their names, so that none is without.
macro_rules! warning_codes {
    ($($(#[doc = $doc:literal])+ $code:ident = $name:literal,)+) => {
        /// What a warning is about. Its name is for programs and keeps its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum WarningCode {
            $($(#[doc = $doc])+ $code,)+
        }

        impl WarningCode {
            /// All that there are.
            pub const ALL: &[Self] = &[$(Self::$code,)+];

            /// Its name: lower case, with hyphens.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)+
                }
            }
        }
    };
}

warning_codes! {
    /// A remote cache failed, was too slow, or has something that is not believed.
    RemoteCache = "remote-cache",
    /// A remote cache is not asked any more.
    RemoteCacheUnused = "remote-cache-unused",
    /// A remote cache could not give a result that it promised: it is made here.
    RemoteResultLost = "remote-result-lost",
    /// Other hosts were waited for long enough.
    RemoteWait = "remote-wait",
    /// A cache mount is not brought in or not sent.
    CacheMount = "cache-mount",
    /// The store grows beyond its limit.
    StoreLimit = "store-limit",
    /// Nothing could be removed from the store.
    StoreNotCollected = "store-not-collected",
    /// The store was damaged and is repaired, or waits for that.
    StoreDamaged = "store-damaged",
    /// A blob was damaged and is removed.
    DamagedBlob = "damaged-blob",
    /// An image is for another platform than was asked for.
    PlatformMismatch = "platform-mismatch",
    /// A name that an archive has for an image is not taken.
    ImageName = "image-name",
    /// Files of a context changed while they were read.
    ContextChanged = "context-changed",
    /// The image has no such user or group.
    UnknownOwner = "unknown-owner",
    /// The output of a step is not kept.
    StepOutput = "step-output",
    /// Docker's config file cannot be used.
    Credentials = "credentials",
    /// A mirror of a registry could not be used.
    Mirror = "mirror",
    /// Findings of build checks beyond what is shown.
    ChecksOmitted = "checks-omitted",
    /// Annotations of an image are not kept.
    Annotations = "annotations",
}

/// Takes events from any thread.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Sends every event to `sink`. A sink that blocks slows down what sends events.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Drops every event.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Writes warnings to the log and drops all else.
    pub fn logged() -> Self {
        Self::new(|event| {
            if let Event::Warning(warning) = event {
                tracing::warn!("{}", warning.text);
            }
        })
    }

    /// Sends a warning.
    pub fn warn(&self, warning: Warning) {
        self.send(Event::Warning(warning));
    }

    /// Sends one event.
    pub fn send(&self, event: Event) {
        (self.0)(event);
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}
