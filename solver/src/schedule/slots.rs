//! Where vertices wait for each other.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::event::Outcome;
use crate::ports::{Committed, FetchProgress, PortError, Solved};

/// A value that arrives once, for many.
#[derive(Clone, Debug)]
pub(super) struct SharedResult<T>(
    pub(super) tokio::sync::watch::Receiver<Option<Result<T, PortError>>>,
);

impl<T: Clone + Send + Sync> SharedResult<T> {
    pub(super) fn now(value: T) -> Self {
        Self(tokio::sync::watch::channel(Some(Ok(value))).1)
    }

    pub(super) async fn wait(&self) -> Result<T, PortError> {
        let mut from = self.0.clone();
        match from.wait_for(Option::is_some).await {
            Ok(value) => value.clone().unwrap_or_else(|| Err(PortError::cancelled())),
            Err(_) => Err(PortError::cancelled()),
        }
    }
}

/// A vertex that has its result.
#[derive(Clone)]
pub(super) struct VertexResult<O> {
    pub(super) solved: Solved<O>,
    /// The result as the cache holds it, once it does.
    pub(super) committed: SharedResult<Committed<O>>,
    pub(super) outcome: Outcome,
    /// A source whose files are not here: whether it is fetched is not known yet.
    pub(super) arrival: Option<FetchProgress>,
}

/// A vertex that may still need the results of others, or whoever uses the targets.
pub(super) struct PendingGuard(Arc<tokio::sync::watch::Sender<usize>>);

impl PendingGuard {
    pub(super) fn new(all: &Arc<tokio::sync::watch::Sender<usize>>) -> Self {
        all.send_modify(|n| *n += 1);
        Self(all.clone())
    }
}

impl Drop for PendingGuard {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n = n.saturating_sub(1));
    }
}

pub(super) struct VertexSlot<O> {
    pub(super) done: OnceCell<VertexResult<O>>,
    pub(super) ready: tokio::sync::Notify,
}

impl<O> Default for VertexSlot<O> {
    fn default() -> Self {
        Self {
            done: OnceCell::new(),
            ready: tokio::sync::Notify::new(),
        }
    }
}
