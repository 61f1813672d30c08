//! What a build tells while it runs: plain values that a front end makes into text or JSON.

use std::sync::Arc;
use std::time::Duration;

use crate::plan::{Lines, VertexId};

/// How a vertex was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A result of an earlier build was used.
    Cached,
    /// It was carried out.
    Ran,
    /// It failed.
    Failed,
    /// Another step failed or the build was interrupted while it ran.
    Cancelled,
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
    /// A vertex is done with.
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
    Warning {
        /// The vertex, if it concerns one.
        vertex: Option<VertexId>,
        /// The text.
        text: String,
    },
}

/// Takes events from any thread.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Sends every event to `sink`, which must not block.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Drops every event.
    pub fn none() -> Self {
        Self::new(|_| {})
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
