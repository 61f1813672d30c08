//! Exports results to remotes, in the background, while the build goes on.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_cache::{LayerId, Store, StoredLayer, StoredResult, blocking};
use kiln_image::Compression;
use kiln_solver::event::WarningCode;
use kiln_solver::explain::{InputKind, LabelledInput};
use kiln_solver::key::{Fingerprint, Key};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::held_claims::HeldClaim;
use super::mount_export::MountSummary;
use super::{ExportTarget, RemoteCaches};
use crate::limits::SMALL_BLOB;
use crate::record::RemoteRecord;
use crate::remote::{Held, Rewrite};
use crate::spec::Mode;

/// Questions to remotes at once. They take a round trip each and nothing else.
const MAX_QUESTIONS: usize = 64;
/// Large layers that are compressed and sent at once: each is compressed by all cores.
const MAX_SENDERS: usize = 3;
/// Bytes of small layers that are sent at once. The slowest line that is put up with takes ten seconds for them.
const SMALL_BYTES: usize = 1 << 20;
/// What each of them counts for at least: no more than so many are under way.
const LEAST_BYTES: u64 = (SMALL_BYTES / 32) as u64;

/// What is on its way to remotes.
#[derive(Debug)]
pub(super) struct Exports {
    tasks: Mutex<JoinSet<()>>,
    /// Keys of the results of this build by layer, for remotes that only get those of the image.
    pub(super) seen: Mutex<HashMap<LayerId, Vec<(Key, bool)>>>,
    asking: Arc<Semaphore>,
    sending: Arc<Semaphore>,
    /// Bytes of small layers that may be sent.
    sending_small: Arc<Semaphore>,
    counts: Arc<Counts>,
}

impl Default for Exports {
    fn default() -> Self {
        Self {
            tasks: Mutex::default(),
            seen: Mutex::default(),
            asking: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            sending: Arc::new(Semaphore::new(MAX_SENDERS)),
            sending_small: Arc::new(Semaphore::new(SMALL_BYTES)),
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

/// What became of the results that were to be exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportSummary {
    /// Results that were stored.
    pub sent: u64,
    /// Bytes of layers that were sent for them.
    pub bytes: u64,
    /// Results that were there already.
    pub there: u64,
    /// Results that could not be stored.
    pub failed: u64,
    /// The same of cache mounts.
    pub mounts: MountSummary,
}

impl RemoteCaches {
    /// Has a result of this build exported. `ran` tells a step that ran from one that was found in the
    /// store.
    pub fn export(
        &self,
        store: &Store,
        key: Key,
        layer: &LayerId,
        ran: bool,
        claim: Option<&HeldClaim>,
    ) {
        if self.0.inline.is_some() || self.0.to.iter().any(|t| t.mode == Mode::Min) {
            let mut seen = self.seen();
            seen.entry(layer.clone()).or_default().push((key, ran));
        }
        for target in self.0.to.iter().filter(|t| t.mode == Mode::Max) {
            self.send(store, target.clone(), key, ran, claim.cloned());
        }
    }

    /// Has the results whose layers are in the image exported to the remotes that get only those.
    pub fn export_image<'a>(&self, store: &Store, layers: impl Iterator<Item = &'a LayerId>) {
        let seen = std::mem::take(&mut *self.seen());
        for (key, ran) in layers.filter_map(|id| seen.get(id)).flatten() {
            for target in self.0.to.iter().filter(|t| t.mode == Mode::Min) {
                self.send(store, target.clone(), *key, *ran, None);
            }
        }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, HashMap<LayerId, Vec<(Key, bool)>>> {
        let seen = self.0.exports.seen.lock();
        seen.unwrap_or_else(PoisonError::into_inner)
    }

    fn send(
        &self,
        store: &Store,
        target: ExportTarget,
        key: Key,
        ran: bool,
        claim: Option<HeldClaim>,
    ) {
        let (caches, store) = (self.clone(), store.clone());
        // What the bundles have is known by the time that they are written.
        let remote = target.remote.clone();
        self.in_background(async move { remote.look_ahead().await });
        self.in_background(async move {
            let counts = &caches.0.exports.counts;
            match caches.put(&store, &target, key, ran).await {
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
                        caches.tell(WarningCode::RemoteCache, target.remote.label(), &why);
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
        store: &Store,
        target: &ExportTarget,
        key: Key,
        ran: bool,
    ) -> Result<Option<u64>, Option<String>> {
        let exports = &self.0.exports;
        let remote = &target.remote;
        let told = |error| {
            self.warn(remote, &error);
            None
        };
        let health = &self.0.health;
        if !ran && health.has_written(remote, key) {
            return Ok(None);
        }
        // What is wrong there is written over. What ran is new, so nobody is asked; but a record
        // that this host itself would not believe takes the place of nothing.
        if (!ran && !health.is_lost(remote, key)) || !remote.accepts_own() {
            let _turn = exports.asking.acquire().await.map_err(|_| None)?;
            match remote.holds(key).await.map_err(told)? {
                Held::Record => return Ok(None),
                Held::Refused => health.refuse(remote, key),
                Held::Nothing => {}
            }
        }
        if !remote.is_usable() {
            return Err(None);
        }
        let words = |e: kiln_cache::Error| Some(e.to_string());
        let stored = store.records().result(key).map_err(words)?;
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
        let form = target.form;
        let make = |new: bool| {
            let (store, id, diff_id) = (store.clone(), layer.id.clone(), layer.diff_id.clone());
            blocking(move || {
                let layer = StoredLayer {
                    diff_id,
                    id: Some(&id),
                    pulled: None,
                };
                match new {
                    true => store.new_layer_blob(&layer, form),
                    false => Ok(store.layer_blob(&layer, form)?.descriptor),
                }
            })
        };
        // What a small layer takes is the way, and not the work.
        let large = match layer.tar_size <= SMALL_BLOB {
            true => None,
            false => Some(exports.sending.acquire().await.map_err(|_| None)?),
        };
        let mut blob = make(false).await.map_err(words)?;
        let mut rewrite = health.rewrite(remote, key, &blob.digest);
        if rewrite.blob && !remote.replaces_blobs() {
            blob = make(true).await.map_err(words)?;
            rewrite = Rewrite {
                blob: false,
                record: true,
            };
        }
        let turn = match large {
            _ if blob.size <= SMALL_BLOB => {
                drop(large);
                let bytes = u32::try_from(blob.size.max(LEAST_BYTES)).unwrap_or(u32::MAX);
                exports.sending_small.acquire_many(bytes).await
            }
            Some(turn) => Ok(turn),
            None => exports.sending.acquire().await,
        };
        let _turn = turn.map_err(|_| None)?;
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
        let sent = remote.put(&record, &file, &elsewhere, rewrite).await;
        let sent = sent.map_err(told)?;
        health.note_written(remote, key);
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

impl RemoteCaches {
    /// How the layer of a new result will be compressed, if it is sent to a remote in the usual form. As
    /// many are compressed at once as layers are sent: the turn is kept until it is done.
    pub fn compresses_new(&self) -> Option<(Compression, OwnedSemaphorePermit)> {
        let gets_all = |t: &&ExportTarget| t.mode == Mode::Max && t.remote.is_usable();
        let form = self.0.to.iter().find(gets_all)?.form;
        if form.level.is_some() || form.compression == Compression::None {
            return None;
        }
        let turn = self.0.exports.sending.clone().try_acquire_owned().ok()?;
        Some((form.compression, turn))
    }

    /// Whether results are exported anywhere.
    pub fn exports_results(&self) -> bool {
        !self.0.to.is_empty()
    }

    /// Has the fingerprint of selected paths of a result exported to the remotes that get all.
    pub fn export_fingerprint(&self, identity: &str, selection: &str, fingerprint: Fingerprint) {
        for target in self.0.to.iter().filter(|t| t.mode == Mode::Max) {
            let (caches, remote) = (self.clone(), target.remote.clone());
            let (identity, selection) = (identity.to_owned(), selection.to_owned());
            self.in_background(async move {
                let again = (caches.0.health).refuses_fingerprint(&remote, &identity, &selection);
                caches.note_fingerprint(&identity, &selection);
                let put = remote.put_fingerprint(&identity, &selection, fingerprint, again);
                if let Err(error) = put.await {
                    caches.warn(&remote, &error);
                }
            });
        }
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        let tasks = self.0.exports.tasks.lock();
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

    /// Does something beside the build; [`RemoteCaches::drain`] waits for it.
    pub(super) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks().spawn(work);
    }

    /// Waits until all that was to be exported is, and the claims of this build are given back. After
    /// an interruption nothing more is exported, and only the claims are waited for. Whoever does not wait
    /// to the end may call this again.
    pub async fn drain(&self) -> ExportSummary {
        tokio::select! {
            () = async {
                self.background().await;
                self.put_bundles().await;
            } => {}
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
        let counts = &self.0.exports.counts;
        ExportSummary {
            sent: counts.sent.load(Ordering::Relaxed),
            bytes: counts.bytes.load(Ordering::Relaxed),
            there: counts.there.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            mounts: self.0.mounts.summary(),
        }
    }
}
