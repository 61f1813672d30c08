//! Leaves results on remotes, in the background, while the build goes on.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_cache::{LayerId, StoredResult};
use kiln_image::Compression;
use kiln_remote::{Anew, Held, Mode, RemoteRecord};
use kiln_solver::event::WarningCode;
use kiln_solver::explain::{InputKind, LabelledInput};
use kiln_solver::key::{Fingerprint, Key};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::claims::HeldClaim;
use super::mounts::LeftMounts;
use super::{Share, Target};
use crate::engine::Engine;
use crate::error::{Result, blocking};
use crate::output::LayerRef;

/// Questions to remotes at once. They take a round trip each and nothing else.
const ASKING: usize = 64;
/// Layers that are compressed and sent at once: each is compressed by all cores.
const SENDING: usize = 3;

/// What is on its way to remotes.
#[derive(Debug)]
pub(super) struct Leaving {
    tasks: Mutex<JoinSet<()>>,
    /// Keys of the results of this build by layer, for remotes that only get those of the image.
    pub(super) seen: Mutex<HashMap<LayerId, Vec<(Key, bool)>>>,
    asking: Arc<Semaphore>,
    sending: Arc<Semaphore>,
    counts: Arc<Counts>,
}

impl Default for Leaving {
    fn default() -> Self {
        Self {
            tasks: Mutex::default(),
            seen: Mutex::default(),
            asking: Arc::new(Semaphore::new(ASKING)),
            sending: Arc::new(Semaphore::new(SENDING)),
            counts: Arc::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    bytes: AtomicU64,
    there: AtomicU64,
    failed: AtomicU64,
}

/// What became of the results that were to be left on remotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Results that were stored.
    pub sent: u64,
    /// Bytes of layers that were sent for them.
    pub bytes: u64,
    /// Results that were there already.
    pub there: u64,
    /// Results that could not be stored.
    pub failed: u64,
    /// The same of cache mounts.
    pub mounts: LeftMounts,
}

impl Engine {
    /// Has a result of this build left on the remotes. `ran` tells a step that ran from one that
    /// was found in the store.
    pub(crate) fn leave(&self, key: Key, layer: &LayerId, ran: bool, claim: Option<&HeldClaim>) {
        let leaves = |s: &&Share| !s.0.to.is_empty() || s.0.inline.is_some();
        let Some(share) = self.s.share.as_ref().filter(leaves) else {
            return;
        };
        if share.0.inline.is_some() || share.0.to.iter().any(|t| t.mode == Mode::Min) {
            let mut seen = share
                .0
                .leaving
                .seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            seen.entry(layer.clone()).or_default().push((key, ran));
        }
        for target in share.0.to.iter().filter(|t| t.mode == Mode::Max) {
            self.send(share, target.clone(), key, ran, claim.cloned());
        }
    }

    /// Has the results whose layers are in the image left on the remotes that get only those.
    pub fn leave_result(&self, layers: &[LayerRef]) {
        let Some(share) = &self.s.share else { return };
        let seen = std::mem::take(
            &mut *share
                .0
                .leaving
                .seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let keys = layers.iter().filter_map(|l| seen.get(l.id()?)).flatten();
        for (key, ran) in keys {
            for target in share.0.to.iter().filter(|t| t.mode == Mode::Min) {
                self.send(share, target.clone(), *key, *ran, None);
            }
        }
    }

    fn send(&self, share: &Share, target: Target, key: Key, ran: bool, claim: Option<HeldClaim>) {
        let (engine, share) = (self.clone(), share.clone());
        share.clone().in_background(async move {
            let counts = &share.0.leaving.counts;
            match engine.put(&share, &target, key, ran).await {
                Ok(Some(bytes)) => {
                    counts.sent.fetch_add(1, Ordering::Relaxed);
                    counts.bytes.fetch_add(bytes, Ordering::Relaxed);
                }
                Ok(None) => {
                    counts.there.fetch_add(1, Ordering::Relaxed);
                }
                Err(why) => {
                    counts.failed.fetch_add(1, Ordering::Relaxed);
                    if let Some(why) = why {
                        share.tell(WarningCode::RemoteCache, target.remote.label(), &why);
                    }
                }
            }
            // Now others find the result.
            drop(claim);
        });
    }

    /// Puts one result on one remote; none if it was there. An error without words was told of.
    async fn put(
        &self,
        share: &Share,
        target: &Target,
        key: Key,
        ran: bool,
    ) -> Result<Option<u64>, Option<String>> {
        let leaving = &share.0.leaving;
        let remote = &target.remote;
        let told = |error| {
            share.warn(remote, &error);
            None
        };
        let doubts = &share.0.doubts;
        if !ran && doubts.has_written(remote, key) {
            return Ok(None);
        }
        // What is wrong there is written over. What ran is new, so nobody is asked; but a record
        // that this host itself would not believe takes the place of nothing.
        if (!ran && !doubts.is_lost(remote, key)) || !remote.accepts_own() {
            let _turn = leaving.asking.acquire().await.map_err(|_| None)?;
            match remote.holds(key).await.map_err(told)? {
                Held::Record => return Ok(None),
                Held::Refused => doubts.refuse(remote, key),
                Held::Nothing => {}
            }
        }
        if !remote.is_usable() {
            return Err(None);
        }
        let _turn = leaving.sending.acquire().await.map_err(|_| None)?;
        let words = |e: crate::Error| Some(e.to_string());
        let store = self.store();
        let stored = store.result(key).map_err(|e| words(e.into()))?;
        // It was thrown away meanwhile.
        let Some(stored) = stored else {
            return Err(None);
        };
        let StoredResult {
            layer,
            made,
            ran_at,
            took,
            name,
            inputs,
        } = stored;
        let (engine, form) = (self.clone(), target.form);
        let of_store = LayerRef::stored(layer.id.clone(), Some(made));
        let of_store_too = of_store.clone();
        let blob = blocking(move || engine.layer_blob_file(&of_store, form));
        let mut blob = blob.await.map_err(words)?;
        let mut anew = doubts.anew(remote, key, &blob.digest);
        if anew.blob && !remote.replaces_blobs() {
            let engine = self.clone();
            let other = blocking(move || engine.layer_blob_anew(&of_store_too, form));
            blob = other.await.map_err(words)?;
            anew = Anew {
                blob: false,
                record: true,
            };
        }
        // Only saves the bytes.
        let elsewhere = store.repositories_with(&layer.diff_id, &blob.digest);
        let elsewhere = elsewhere.unwrap_or_default();
        let (digest, size) = (blob.digest.clone(), blob.size);
        let file = store.blob_path(&digest);
        let diff_id = layer.diff_id.clone();
        let record = RemoteRecord {
            key,
            tree: layer.tree,
            diff_id: layer.diff_id,
            tar_size: layer.tar_size,
            bytes: layer.bytes,
            epoch: layer.epoch,
            created: made,
            ran_at,
            took,
            name,
            // Digests of short values could be guessed; what is not there is not explained.
            inputs: inputs.into_iter().filter(|i| !carries_value(i)).collect(),
            blob,
        };
        let sent = remote.put(&record, &file, &elsewhere, anew).await;
        let sent = sent.map_err(told)?;
        doubts.wrote(remote, key);
        if let Some(repository) = remote.repository()
            && let Err(error) = store.note_sent(&diff_id, &digest, repository)
        {
            tracing::debug!(%error, "where a layer was sent is not remembered");
        }
        Ok(Some(if sent { size } else { 0 }))
    }
}

/// Whether an input is a value that somebody gave to the build.
fn carries_value(input: &LabelledInput) -> bool {
    matches!(input.kind, InputKind::Arg | InputKind::Env)
}

impl Share {
    /// How the layer of a new result will be compressed, if it is sent to a remote in the usual form. As
    /// many are compressed at once as layers are sent: the turn is kept until it is done.
    pub(crate) fn compresses_new(&self) -> Option<(Compression, OwnedSemaphorePermit)> {
        let gets_all = |t: &&Target| t.mode == Mode::Max && t.remote.is_usable();
        let form = self.0.to.iter().find(gets_all)?.form;
        if form.level.is_some() || form.compression == Compression::None {
            return None;
        }
        let turn = self.0.leaving.sending.clone().try_acquire_owned().ok()?;
        Some((form.compression, turn))
    }

    /// Whether results are left anywhere.
    pub fn leaves(&self) -> bool {
        !self.0.to.is_empty()
    }

    /// Has the fingerprint of selected paths of a result left on the remotes that get all.
    pub(crate) fn leave_fingerprint(
        &self,
        identity: &str,
        selection: &str,
        fingerprint: Fingerprint,
    ) {
        for target in self.0.to.iter().filter(|t| t.mode == Mode::Max) {
            let (share, remote) = (self.clone(), target.remote.clone());
            let (identity, selection) = (identity.to_owned(), selection.to_owned());
            self.in_background(async move {
                let again = (share.0.doubts).refuses_fingerprint(&remote, &identity, &selection);
                let put = remote.put_fingerprint(&identity, &selection, fingerprint, again);
                if let Err(error) = put.await {
                    share.warn(&remote, &error);
                }
            });
        }
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        let tasks = self.0.leaving.tasks.lock();
        tasks.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for what is done beside the build, also for what begins meanwhile.
    async fn background(&self) {
        // The set stays where it is: one that is dropped stops all that is in it.
        while poll_fn(|cx| self.tasks().poll_join_next(cx))
            .await
            .is_some()
        {}
    }

    /// Does something beside the build; [`Share::drain`] waits for it.
    pub(crate) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks().spawn(work);
    }

    /// Waits until all that was to be left is left, and the claims of this build are given back. After
    /// an interruption nothing more is left, and only the claims are waited for. Whoever does not wait
    /// to the end may call this again.
    pub async fn drain(&self) -> Left {
        tokio::select! {
            () = self.background() => {}
            () = self.0.stop.cancelled() => {
                self.tasks().abort_all();
                // They hold claims until they are gone.
                self.background().await;
            }
        }
        self.0.claims.given_back().await;
        if !self.0.stop.is_cancelled() {
            self.tell_rest();
        }
        let counts = &self.0.leaving.counts;
        Left {
            sent: counts.sent.load(Ordering::Relaxed),
            bytes: counts.bytes.load(Ordering::Relaxed),
            there: counts.there.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            mounts: self.0.mounts.left(),
        }
    }
}
