//! Room in the store while a build runs: the cap holds at the start of every step.
//!
//! What steps have written is known when their layers are hashed. So while the store is more than
//! half full, a step first waits for the layers that are not measured yet; if they do not fit below
//! the cap, what is worth least is removed, and only then does the step begin. The store is thus never
//! larger than its cap and what the steps that run at the moment write, unless images and running
//! processes hold more than that.
//!
//! A layer of a remote cache says beforehand how large it is. Room for it is made before it is fetched,
//! and kept while it comes; one that the disk has no room for does not come.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_cache::{Policy, Removed, Store};
use tokio::sync::watch;

use crate::engine::Engine;
use crate::error::{Result, blocking};

/// How room is made.
type Collect = fn(&Store, &Policy, bool) -> kiln_cache::Result<Removed>;

/// How long nothing is tried after nothing could be removed.
const PAUSE: Duration = Duration::from_secs(1);

/// The layers that are not measured yet, and what became of the last attempt to make room.
#[derive(Debug)]
pub(crate) struct Room {
    unmeasured: watch::Sender<usize>,
    /// Bytes that layers on their way will take.
    incoming: watch::Sender<u64>,
    /// Who asks for room for a layer: one after the other.
    turn: tokio::sync::Mutex<()>,
    futile: Mutex<Option<Instant>>,
    /// What went so far.
    removed: Mutex<Removed>,
}

impl Room {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            unmeasured: watch::Sender::new(0),
            incoming: watch::Sender::new(0),
            turn: tokio::sync::Mutex::default(),
            futile: Mutex::new(None),
            removed: Mutex::default(),
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

/// Room for a layer that is on its way, until this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    room: Arc<Room>,
    bytes: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.room.incoming.send_modify(|n| *n -= self.bytes);
    }
}

impl Engine {
    /// Makes room for so many bytes from a remote and keeps it; none if the disk has not so much, even
    /// without what nobody holds. What is beyond the store's limits comes, as what a step makes stays.
    pub(crate) async fn room_for(&self, bytes: u64) -> Result<Option<Reserved>> {
        self.room(bytes, true).await
    }

    /// Keeps room for so many bytes if the disk has it as it is: nothing is removed for a claim that is
    /// hard to believe.
    pub(crate) async fn room_left_for(&self, bytes: u64) -> Result<Option<Reserved>> {
        self.room(bytes, false).await
    }

    async fn room(&self, bytes: u64, removing: bool) -> Result<Option<Reserved>> {
        let _turn = self.room.turn.lock().await;
        let mut others = self.room.incoming.subscribe();
        loop {
            let incoming = *others.borrow_and_update();
            let Some(needed) = incoming.checked_add(bytes) else {
                return Ok(None);
            };
            let store = &self.s.store;
            let free = || kiln_sys::system::free_bytes(store.root());
            let mut possible = free()?;
            if removing && possible < needed {
                let store = store.clone();
                let removable = blocking(move || Ok(store.removable()?)).await?;
                possible = possible.saturating_add(removable);
            }
            let mut excess = 0;
            // Nothing is removed for the sake of what would not fit even then, and no image for what can
            // be made here.
            if removing && needed <= possible {
                let made = self.make_room_of(needed, Store::collect_unused);
                excess = made.await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "nothing is removed from the store");
                    0
                });
            }
            if free()? >= needed {
                if excess > 0 {
                    self.note_futile(&self.s.gc);
                }
                self.room.incoming.send_modify(|n| *n += bytes);
                let room = self.room.clone();
                return Ok(Some(Reserved { room, bytes }));
            }
            if incoming == 0 {
                return Ok(None);
            }
            // What is on its way counts in full, though a part of it may have come. The sender lives
            // as long as the engine.
            let _ = others.changed().await;
        }
    }

    /// Waits until the store keeps to its policy, as far as that is possible. Trouble with that is
    /// no reason to fail a step.
    pub(crate) async fn make_room(&self) {
        match self.make_room_of(0, Store::collect).await {
            Ok(0) => {}
            Ok(_) => self.note_futile(&self.s.gc),
            Err(error) => tracing::warn!(%error, "nothing is removed from the store"),
        }
    }

    /// Removes what is worth least until the store keeps to its policy with so many bytes more in
    /// it. Returns how many bytes there still are too many, as far as that is known now.
    async fn make_room_of(&self, more: u64, collect: Collect) -> Result<u64> {
        let limits = self.s.gc;
        let policy = Policy {
            // What is larger than the whole store finds room in no store.
            max_size: (limits.max_size).map(|most| most.checked_sub(more).unwrap_or(most)),
            keep_free: limits.keep_free.map(|free| free.saturating_add(more)),
            ..limits
        };
        if policy.max_size.is_none() && policy.keep_free.is_none() {
            return Ok(0);
        }
        let store = self.s.store.clone();
        if let Some(most) = policy.max_size
            && store.total()? + store.own_bytes() > most / 2
        {
            // The sender lives as long as the engine.
            let _ = self.room.unmeasured.subscribe().wait_for(|n| *n == 0).await;
            let store = store.clone();
            blocking(move || Ok(store.measure_mounts()?)).await?;
        }
        if store.excess(&policy)? == 0 || self.is_futile() {
            return Ok(0);
        }
        let own = store.clone();
        let removed = blocking(move || Ok(collect(&own, &policy, true)?)).await?;
        tracing::debug!(
            bytes = removed.bytes(),
            things = removed.items.len(),
            "made room"
        );
        let mut all = (self.room.removed.lock()).unwrap_or_else(PoisonError::into_inner);
        all.cause = all.cause.or(removed.cause);
        all.items.extend(removed.items);
        drop(all);
        Ok(store.excess(&policy)?)
    }

    /// What was removed to make room since this was last asked.
    pub fn take_removed(&self) -> Removed {
        let mut removed = (self.room.removed.lock()).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut removed)
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

#[cfg(test)]
mod tests {
    use kiln_cache::{LayerId, Store};

    use super::*;
    use crate::engine::Settings;
    use crate::source::layers::{Wanted, unpack_layer};
    use crate::testing;

    /// A layer of this size that nobody uses, in the store at `root`.
    fn unused_layer(root: &std::path::Path, bytes: usize) -> LayerId {
        let store = Store::open(root).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes as u64);
        header.set_mode(0o644);
        let file = vec![1_u8; bytes];
        tar.append_data(&mut header, "file", file.as_slice())
            .unwrap();
        let tar = std::io::Cursor::new(tar.into_inner().unwrap());
        let (id, _) = unpack_layer(&store, Box::new(tar), Wanted::default(), &[]).unwrap();
        id
    }

    fn engine(max_size: u64) -> (Engine, tempfile::TempDir) {
        let (engine, dir) = testing::engine();
        let gc = Policy {
            max_size: Some(max_size),
            ..Policy::default()
        };
        let settings = Settings {
            gc,
            ..Settings::clone(&engine.s)
        };
        (Engine::new(settings), dir)
    }

    #[tokio::test]
    #[ignore = "needs root"]
    async fn a_layer_that_comes_has_room_made_for_it() {
        let (engine, dir) = engine(6_000_000);
        let root = dir.path().join("store");
        let id = unused_layer(&root, 2_000_000);
        drop(engine.room_for(500_000).await.unwrap().unwrap());
        assert!(root.join("layers-v1").join(id.as_str()).exists());
        drop(engine.room_for(2_000_000).await.unwrap().unwrap());
        assert!(!root.join("layers-v1").join(id.as_str()).exists());
    }

    #[tokio::test]
    #[ignore = "needs root"]
    async fn nothing_goes_for_a_layer_that_cannot_come() {
        let (engine, dir) = engine(6_000_000);
        let root = dir.path().join("store");
        let id = unused_layer(&root, 2_000_000);
        for bytes in [u64::MAX, u64::MAX / 2, 1 << 60] {
            assert!(engine.room_for(bytes).await.unwrap().is_none());
        }
        assert!(root.join("layers-v1").join(id.as_str()).exists());
    }

    #[tokio::test]
    async fn layers_that_come_together_do_not_take_the_same_room() {
        let (engine, dir) = testing::engine();
        let free = kiln_sys::system::free_bytes(dir.path()).unwrap();
        let most = free / 3 * 2;
        let first = engine.room_for(most).await.unwrap().unwrap();
        let mut second = std::pin::pin!(engine.room_for(most));
        let early = tokio::time::timeout(Duration::from_millis(50), &mut second);
        assert!(early.await.is_err());
        drop(first);
        assert!(second.await.unwrap().is_some());
    }
}
