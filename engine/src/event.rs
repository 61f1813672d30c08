//! What a call tells while it works: one stream of plain values.

use std::sync::Arc;

use kiln_cache::Removed;
use kiln_executor::Difference;
use kiln_executor::export::Pushed;
use kiln_image::{Digest, Reference};
use kiln_parser::Diagnostic;
use kiln_solver::event::{self as solver, Warning, WarningCode};
use kiln_solver::lint::Finding;
use kiln_solver::lower::LowerWarning;

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// In a step or a transfer; also every warning that is not about the Dockerfile's text.
    Step(solver::Event),
    /// The Dockerfile makes sense, but perhaps not the one that was meant.
    Dockerfile(LowerWarning),
    /// The parser found something in the Dockerfile. Sent by [`Engine::build`](crate::Engine::build) alone; who takes
    /// a build step by step asks [`Build::diagnostics`](crate::Build::diagnostics).
    Diagnostic(Diagnostic),
    /// A check found something in the Dockerfile. Sent by [`Engine::build`](crate::Engine::build) alone; who takes a
    /// build step by step asks [`Build::findings`](crate::Build::findings).
    Finding(Finding),
    /// Things were removed from the cache to make room.
    Removed(Removed),
    /// An image is not in the store, and is asked for in its registry.
    NotFoundHere(Reference),
    /// An image was pulled, or the store had it as the registry has it.
    Pulled {
        /// Its name, as it was asked for.
        name: Reference,
        /// Digest of what the registry has under this name.
        digest: Digest,
        /// Nothing had to be transferred.
        up_to_date: bool,
    },
    /// An image is pushed under this name from now on.
    Pushing(Reference),
    /// A layer is in the registry now.
    PushedLayer {
        /// Digest of its blob.
        digest: Digest,
        /// How it came there.
        became: Pushed,
    },
    /// An image is in the registry now.
    Pushed {
        /// Under this name.
        name: Reference,
        /// Digest of its manifest.
        digest: Digest,
        /// Bytes of its manifest.
        size: u64,
    },
    /// A second build of a step gave something else.
    Difference {
        /// The step, as progress calls it.
        step: String,
        /// The first difference.
        difference: Difference,
    },
}

/// Takes events from any thread. A sink that blocks slows down what sends events.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Sends every event to `sink`.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Drops every event.
    pub fn none() -> Self {
        Self::new(drop)
    }

    /// Sends one event.
    pub fn send(&self, event: Event) {
        (self.0)(event);
    }

    /// Sends a warning that concerns no step.
    pub(crate) fn warn(&self, code: WarningCode, text: impl Into<String>) {
        let warning = Warning::new(code, text);
        self.send(Event::Step(solver::Event::Warning(warning)));
    }

    /// The same for the solver and its workers.
    pub(crate) fn of_steps(&self) -> solver::Events {
        let own = self.clone();
        solver::Events::new(move |event| own.send(Event::Step(event)))
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}
