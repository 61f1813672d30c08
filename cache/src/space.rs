//! The space of the store while a build runs: the cap holds at the start of every step.
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

use kiln_solver::event::{Events, Warning, WarningCode};
use tokio::sync::watch;

use crate::error::{Error, Result, blocking};
use crate::gc::{Policy, Removed};
use crate::store::Store;

/// How room is made.
type Collect = fn(&Store, &Policy, bool) -> Result<Removed>;

/// How long nothing is tried after nothing could be removed.
const FUTILE_PAUSE: Duration = Duration::from_secs(1);

/// Sees to it that a store keeps below its limits. Cloning shares it.
#[derive(Clone, Debug)]
pub struct SpaceGuard {
    store: Store,
    limits: Policy,
    events: Events,
    state: Arc<State>,
}

/// The layers that are not measured yet, and what became of the last attempt to make room.
#[derive(Debug, Default)]
struct State {
    unmeasured: watch::Sender<usize>,
    /// Bytes that layers on their way will take.
    incoming: watch::Sender<u64>,
    /// Who asks for room for a layer: one after the other.
    turn: tokio::sync::Mutex<()>,
    /// When nothing could be removed.
    futile: Mutex<Option<Instant>>,
    /// What went so far.
    removed: Mutex<Removed>,
}

/// A layer whose size is not known yet, until this is dropped.
#[derive(Debug)]
pub struct Unmeasured(Arc<State>);

impl Drop for Unmeasured {
    fn drop(&mut self) {
        self.0.unmeasured.send_modify(|n| *n -= 1);
    }
}

/// Room for a layer that is on its way, until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    state: Arc<State>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.state.incoming.send_modify(|n| *n -= self.bytes);
    }
}

impl SpaceGuard {
    /// Of a store, with what it may hold; what users should know goes to `events`.
    pub fn new(store: Store, limits: Policy, events: Events) -> Self {
        Self {
            store,
            limits,
            events,
            state: Arc::default(),
        }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Counts a layer until the value is dropped.
    pub fn unmeasured(&self) -> Unmeasured {
        self.state.unmeasured.send_modify(|n| *n += 1);
        Unmeasured(self.state.clone())
    }

    /// Makes room for so many bytes from a remote and keeps it; none if the disk has not so much, even
    /// without what nobody holds. What is beyond the store's limits comes, as what a step makes stays.
    ///
    /// # Errors
    /// The store or its disk cannot be looked at.
    pub async fn reserve(&self, bytes: u64) -> Result<Option<Reservation>> {
        self.room(bytes, true).await
    }

    /// Keeps room for so many bytes if the disk has it as it is: nothing is removed for a claim that is
    /// hard to believe.
    ///
    /// # Errors
    /// The store or its disk cannot be looked at.
    pub async fn reserve_free(&self, bytes: u64) -> Result<Option<Reservation>> {
        self.room(bytes, false).await
    }

    async fn room(&self, bytes: u64, removing: bool) -> Result<Option<Reservation>> {
        let _turn = self.state.turn.lock().await;
        let mut others = self.state.incoming.subscribe();
        loop {
            let incoming = *others.borrow_and_update();
            let Some(needed) = incoming.checked_add(bytes) else {
                return Ok(None);
            };
            let store = &self.store;
            let free = || kiln_sys::system::free_bytes(store.root());
            let mut possible = free()?;
            if removing && possible < needed {
                let store = store.clone();
                let removable = blocking(move || store.maintenance().removable()).await?;
                possible = possible.saturating_add(removable);
            }
            let mut excess = 0;
            // Nothing is removed for the sake of what would not fit even then, and no image for what can
            // be made here.
            if removing && needed <= possible {
                let made = self.make_room_of(needed, |store, policy, own| {
                    store.maintenance().collect_unused(policy, own)
                });
                excess = made.await.unwrap_or_else(|error| {
                    self.tell_not_collected(&error);
                    0
                });
            }
            if free()? >= needed {
                if excess > 0 {
                    self.note_futile();
                }
                self.state.incoming.send_modify(|n| *n += bytes);
                let state = self.state.clone();
                return Ok(Some(Reservation { state, bytes }));
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
    pub async fn make_room(&self) {
        match self
            .make_room_of(0, |store, policy, own| {
                store.maintenance().collect(policy, own)
            })
            .await
        {
            Ok(0) => {}
            Ok(_) => self.note_futile(),
            Err(error) => self.tell_not_collected(&error),
        }
    }

    /// Removes what is worth least until the store keeps to its policy with so many bytes more in
    /// it. Returns how many bytes there still are too many, as far as that is known now.
    async fn make_room_of(&self, more: u64, collect: Collect) -> Result<u64> {
        let limits = self.limits;
        let policy = Policy {
            // What is larger than the whole store finds room in no store.
            max_size: (limits.max_size).map(|most| most.checked_sub(more).unwrap_or(most)),
            keep_free: limits.keep_free.map(|free| free.saturating_add(more)),
            ..limits
        };
        if policy.max_size.is_none() && policy.keep_free.is_none() {
            return Ok(0);
        }
        let store = self.store.clone();
        if let Some(most) = policy.max_size
            && store.maintenance().total()? + store.maintenance().own_bytes() > most / 2
        {
            // The sender lives as long as the engine.
            let _ = self
                .state
                .unmeasured
                .subscribe()
                .wait_for(|n| *n == 0)
                .await;
            let store = store.clone();
            blocking(move || store.cache_mounts().measure_mounts()).await?;
        }
        if store.maintenance().excess(&policy)? == 0 || self.is_futile() {
            return Ok(0);
        }
        let own = store.clone();
        let removed = blocking(move || collect(&own, &policy, true)).await?;
        tracing::debug!(
            bytes = removed.bytes(),
            things = removed.items.len(),
            "made room"
        );
        let mut all = (self.state.removed.lock()).unwrap_or_else(PoisonError::into_inner);
        all.cause = all.cause.or(removed.cause);
        all.items.extend(removed.items);
        drop(all);
        store.maintenance().excess(&policy)
    }

    /// What was removed to make room since this was last asked.
    pub fn take_removed(&self) -> Removed {
        let mut removed = (self.state.removed.lock()).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut removed)
    }

    fn tell_not_collected(&self, error: &Error) {
        let text = format!("nothing is removed from the store: {error}");
        (self.events).warn(Warning::new(WarningCode::StoreNotCollected, text));
    }

    fn is_futile(&self) -> bool {
        let futile = self.state.futile.lock();
        let futile = futile.unwrap_or_else(PoisonError::into_inner);
        futile.is_some_and(|at| at.elapsed() < FUTILE_PAUSE)
    }

    fn note_futile(&self) {
        let mut futile = (self.state.futile.lock()).unwrap_or_else(PoisonError::into_inner);
        if futile.replace(Instant::now()).is_none() {
            let limits = [
                ("max size", self.limits.max_size),
                ("keep free", self.limits.keep_free),
            ];
            let limits = limits
                .iter()
                .filter_map(|(name, n)| Some(format!("{name}: {}", (*n)?)));
            let limits = limits.collect::<Vec<_>>().join(", ");
            let text = format!(
                "images and running builds hold more than the store should: it grows beyond its limit \
                 ({limits})"
            );
            self.events
                .warn(Warning::new(WarningCode::StoreLimit, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;
    use crate::layers::LayerId;
    use crate::pack::pack;

    /// A layer of this size that nobody uses, in the store at `root`.
    fn unused_layer(root: &Path, bytes: usize) -> LayerId {
        let store = Store::open(root).unwrap();
        let scratch = store.scratch().unwrap();
        let dir = scratch.path().join("diff");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("file"), vec![1_u8; bytes]).unwrap();
        let packed = pack(&dir, None, &mut std::io::sink()).unwrap();
        let id = store.adopt_layer(&dir).unwrap();
        store.record_layer(&id, &packed, SystemTime::now()).unwrap();
        id
    }

    fn guard(limits: Policy) -> (SpaceGuard, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        (SpaceGuard::new(store, limits, Events::none()), dir)
    }

    fn guard_of(max_size: u64) -> (SpaceGuard, tempfile::TempDir) {
        guard(Policy {
            max_size: Some(max_size),
            ..Policy::default()
        })
    }

    #[tokio::test]
    #[ignore = "needs root"]
    async fn a_layer_that_comes_has_room_made_for_it() {
        let (guard, dir) = guard_of(6_000_000);
        let root = dir.path().join("store");
        let id = unused_layer(&root, 2_000_000);
        drop(guard.reserve(500_000).await.unwrap().unwrap());
        assert!(root.join("layers-v1").join(id.as_str()).exists());
        drop(guard.reserve(2_000_000).await.unwrap().unwrap());
        assert!(!root.join("layers-v1").join(id.as_str()).exists());
    }

    #[tokio::test]
    #[ignore = "needs root"]
    async fn nothing_goes_for_a_layer_that_cannot_come() {
        let (guard, dir) = guard_of(6_000_000);
        let root = dir.path().join("store");
        let id = unused_layer(&root, 2_000_000);
        for bytes in [u64::MAX, u64::MAX / 2, 1 << 60] {
            assert!(guard.reserve(bytes).await.unwrap().is_none());
        }
        assert!(root.join("layers-v1").join(id.as_str()).exists());
    }

    #[tokio::test]
    async fn layers_that_come_together_do_not_take_the_same_room() {
        let (guard, dir) = guard(Policy::default());
        let free = kiln_sys::system::free_bytes(dir.path()).unwrap();
        let most = free / 3 * 2;
        let first = guard.reserve(most).await.unwrap().unwrap();
        let mut second = std::pin::pin!(guard.reserve(most));
        let early = tokio::time::timeout(Duration::from_millis(50), &mut second);
        assert!(early.await.is_err());
        drop(first);
        assert!(second.await.unwrap().is_some());
    }
}
