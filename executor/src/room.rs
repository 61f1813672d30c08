//! Room in the store while a build runs: the cap holds at the start of every step.
//!
//! What steps have written is known when their layers are hashed. So while the store is more than
//! half full, a step first waits for the layers that are not measured yet; if they do not fit below
//! the cap, what is worth least is removed, and only then does the step begin. The store is thus never
//! larger than its cap and what the steps that run at the moment write, unless images and running
//! processes hold more than that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_cache::Policy;
use tokio::sync::watch;

use crate::engine::Engine;
use crate::error::{Result, blocking};

/// How long nothing is tried after nothing could be removed.
const PAUSE: Duration = Duration::from_secs(1);

/// The layers that are not measured yet, and what became of the last attempt to make room.
#[derive(Debug)]
pub(crate) struct Room {
    unmeasured: watch::Sender<usize>,
    futile: Mutex<Option<Instant>>,
}

impl Room {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            unmeasured: watch::Sender::new(0),
            futile: Mutex::new(None),
        })
    }

    /// Counts a layer until the value is dropped.
    pub(crate) fn unmeasured(self: &Arc<Self>) -> Unmeasured {
        self.unmeasured.send_modify(|n| *n += 1);
        Unmeasured(self.clone())
    }
}

/// A layer whose size is not known yet.
#[derive(Debug)]
pub(crate) struct Unmeasured(Arc<Room>);

impl Drop for Unmeasured {
    fn drop(&mut self) {
        self.0.unmeasured.send_modify(|n| *n -= 1);
    }
}

impl Engine {
    /// Waits until the store keeps to its policy, as far as that is possible. Trouble with that is
    /// no reason to fail a step.
    pub(crate) async fn make_room(&self) {
        if let Err(error) = self.try_make_room().await {
            tracing::warn!(%error, "nothing is removed from the store");
        }
    }

    async fn try_make_room(&self) -> Result<()> {
        let policy = self.s.gc;
        if policy.max_size.is_none() && policy.keep_free.is_none() {
            return Ok(());
        }
        let store = self.s.store.clone();
        if let Some(most) = policy.max_size
            && store.total()? > most / 2
        {
            // The sender lives as long as the engine.
            let _ = self.room.unmeasured.subscribe().wait_for(|n| *n == 0).await;
            let store = store.clone();
            blocking(move || Ok(store.measure_mounts()?)).await?;
        }
        if store.excess(&policy)? == 0 || self.is_futile() {
            return Ok(());
        }
        let own = store.clone();
        let removed = blocking(move || Ok(own.collect(&policy, true)?)).await?;
        tracing::debug!(
            bytes = removed.bytes(),
            things = removed.items.len(),
            "made room"
        );
        if store.excess(&policy)? > 0 {
            self.note_futile(&policy);
        }
        Ok(())
    }

    fn is_futile(&self) -> bool {
        let futile = self.room.futile.lock();
        let futile = futile.unwrap_or_else(PoisonError::into_inner);
        futile.is_some_and(|at| at.elapsed() < PAUSE)
    }

    fn note_futile(&self, policy: &Policy) {
        let mut futile = (self.room.futile.lock()).unwrap_or_else(PoisonError::into_inner);
        if futile.replace(Instant::now()).is_none() {
            tracing::warn!(
                max_size = policy.max_size,
                keep_free = policy.keep_free,
                "images and running builds hold more than the store should: it grows beyond its limit"
            );
        }
    }
}
