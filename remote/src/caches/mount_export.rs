//! Cache mounts that hosts share: what this build has of them, and how they are exported when it
//! is over.
//!
//! A mount is packed only while nobody uses it, and what was packed is sent afterwards: steps of
//! other builds wait for the packing and not for the network.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_cache::{
    CacheMountDir, Idle, IdleMount, MountChunk, MountStore, PackedMount, Store, blocking,
};
use kiln_image::Digest;
use kiln_solver::event::{Warning, WarningCode};
use tokio::sync::{OnceCell, Semaphore};

use super::RemoteCaches;
use crate::error::RemoteError;
use crate::remote::{Remote, RemoteMount};

/// Mounts that are packed and sent at once.
const MAX_SENDERS: usize = 2;
/// How long a mount that another build uses is waited for.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A cache mount of the store: its id, and its number among those of that id.
pub(super) type Name = (String, u32);

/// Cache mounts on remotes.
#[derive(Debug)]
pub(super) struct Mounts {
    pub(super) from: Vec<Remote>,
    pub(super) to: Vec<Remote>,
    /// Mounts that were looked for: each is once in a build.
    pub(super) brought: Mutex<HashMap<Name, Arc<OnceCell<()>>>>,
    /// Places where a mount is, or may be, that could not be had: what began empty instead is not to
    /// replace it.
    pub(super) missed: Mutex<HashMap<Name, HashSet<String>>>,
    /// Mounts that steps have used, and whether one was stopped in the middle of it.
    used: Mutex<BTreeMap<Name, bool>>,
    sending: Semaphore,
    pub(super) counts: MountCounts,
}

#[derive(Debug, Default)]
pub(super) struct MountCounts {
    pub(super) brought: AtomicU64,
    sent: AtomicU64,
    bytes: AtomicU64,
    there: AtomicU64,
    failed: AtomicU64,
}

/// What became of the cache mounts that are shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountSummary {
    /// Mounts whose content was brought in.
    pub brought: u64,
    /// Mounts that were sent, counted for each remote.
    pub sent: u64,
    /// Bytes that were sent for them.
    pub bytes: u64,
    /// Mounts that remotes had as they are.
    pub there: u64,
    /// Mounts that could not be sent.
    pub failed: u64,
}

/// One of the places that a mount is sent to.
struct MountTarget {
    remote: Remote,
    /// What is there now.
    found: Option<RemoteMount>,
    /// Which pieces of that are really there.
    present: HashSet<Digest>,
    /// What is there is not believed: it is replaced, even by the same.
    refused: bool,
}

impl MountTarget {
    /// Digests of pieces, as they are packed, that need not be sent.
    fn known(&self) -> HashSet<Digest> {
        let found = self.found.as_ref();
        found.map_or_else(HashSet::new, |f| f.packed_digests(&self.present))
    }

    /// The mount in the form that the place is to have.
    fn form(&self, packed: &PackedMount) -> kiln_cache::Result<RemoteMount> {
        let keeps = !self.remote.replaces_blobs();
        let known = |d: &Digest| self.present.contains(d);
        let before = self.found.as_ref().map_or(&[][..], RemoteMount::chunks);
        let before: HashSet<&Digest> = before.iter().map(|c| &c.digest).collect();
        // What its index names and it does not have whole.
        let lacks = |d: &Digest| before.contains(d) && !known(d);
        let damaged = |d: &Digest| keeps && (lacks(d) || self.remote.is_damaged(d));
        let again = |c: &MountChunk| packed.again(c);
        RemoteMount::of(&packed.chunks, self.found.as_ref(), damaged, again)
    }
}

/// Whether a remote has what this host does not believe and could not replace by anything better. Where
/// it believes its own records, hosts that always begin with empty mounts would otherwise never have any.
pub(super) fn is_refused(remote: &Remote, error: &RemoteError) -> bool {
    matches!(error, RemoteError::Refused(_)) && !remote.accepts_own()
}

impl Mounts {
    pub(super) fn new(from: Vec<Remote>, to: Vec<Remote>) -> Self {
        Self {
            from,
            to,
            brought: Mutex::default(),
            missed: Mutex::default(),
            used: Mutex::default(),
            sending: Semaphore::new(MAX_SENDERS),
            counts: MountCounts::default(),
        }
    }

    pub(super) fn summary(&self) -> MountSummary {
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        MountSummary {
            brought: count(&self.counts.brought),
            sent: count(&self.counts.sent),
            bytes: count(&self.counts.bytes),
            there: count(&self.counts.there),
            failed: count(&self.counts.failed),
        }
    }
}

/// Why a mount was not exported.
enum ExportError {
    /// The build was interrupted.
    Cancelled,
    /// In words.
    Failed(String),
}

impl From<kiln_cache::Error> for ExportError {
    fn from(error: kiln_cache::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl RemoteCaches {
    /// Notes that a step has used cache mounts. `stopped` tells one that was killed: what it left
    /// may be half written, and is for this host alone.
    pub fn note_mounts<'a>(
        &self,
        mounts: impl Iterator<Item = (&'a str, &'a CacheMountDir)>,
        stopped: bool,
    ) {
        if !self.exports_mounts() {
            return;
        }
        let used = self.0.mounts.used.lock();
        let mut used = used.unwrap_or_else(PoisonError::into_inner);
        for (id, mount) in mounts.filter(|(_, m)| m.is_kept()) {
            *used.entry((id.to_owned(), mount.number)).or_default() |= stopped;
        }
    }

    /// Has the cache mounts that this build has used and changed exported, unless it was interrupted;
    /// [`RemoteCaches::drain`] waits for it.
    pub fn export_mounts(&self, store: &Store) {
        if self.0.stop.is_cancelled() {
            return;
        }
        let used = std::mem::take(
            &mut *self
                .0
                .mounts
                .used
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let missed = self.0.mounts.missed.lock();
        let missed = std::mem::take(&mut *missed.unwrap_or_else(PoisonError::into_inner));
        for (name, stopped) in used {
            if stopped {
                tracing::debug!(mount = name.0, "a step that used it was killed: not sent");
                continue;
            }
            let none = HashSet::new();
            let missed = missed.get(&name).unwrap_or(&none);
            let to = self.0.mounts.to.iter();
            let (kept, to): (Vec<_>, Vec<_>) = to
                .cloned()
                .partition(|remote| missed.contains(remote.place()));
            for remote in kept {
                let failed = &self.0.mounts.counts.failed;
                failed.fetch_add(1, Ordering::Relaxed);
                let what = format!(
                    "the cache mount `{}` is not sent: it began without what is there",
                    name.0
                );
                self.tell(WarningCode::CacheMount, remote.label(), &what);
            }
            if to.is_empty() {
                continue;
            }
            let (caches, store) = (self.clone(), store.clone());
            self.in_background(async move {
                let Ok(_turn) = caches.0.mounts.sending.acquire().await else {
                    return;
                };
                if let Err(error) = caches.export_mount(&store, (&name.0, name.1), &to).await {
                    caches
                        .0
                        .mounts
                        .counts
                        .failed
                        .fetch_add(1, Ordering::Relaxed);
                    if let ExportError::Failed(why) = error {
                        let text = format!("the cache mount `{}` is not sent: {why}", name.0);
                        let warning = Warning::new(WarningCode::CacheMount, text);
                        caches.0.events.warn(warning);
                    }
                }
            });
        }
    }
}

impl RemoteCaches {
    /// Whether cache mounts are exported anywhere.
    pub fn exports_mounts(&self) -> bool {
        !self.0.mounts.to.is_empty()
    }

    /// Sends a mount to those places that do not have it as it is.
    async fn export_mount(
        &self,
        store: &Store,
        (id, number): (&str, u32),
        to: &[Remote],
    ) -> Result<(), ExportError> {
        let Some(mount) = self.idle(store, id, number).await? else {
            return Ok(());
        };
        let state = blocking(move || mount.state()).await?;
        let counts = &self.0.mounts.counts;
        let to = to.iter().map(|remote| async {
            let (found, refused) = match remote.mount(id, number).await {
                Ok(found) => (found, false),
                Err(error) if is_refused(remote, &error) => {
                    self.warn(remote, &error);
                    counts.failed.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
                // It is written anew, and if it cannot be, that is told.
                Err(error) => {
                    self.warn(remote, &error);
                    let refused = matches!(error, RemoteError::Refused(_));
                    (None, refused)
                }
            };
            let same = store
                .cache_mounts()
                .is_synced(id, number, remote.place(), &state);
            if found.is_some() && same {
                counts.there.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            let chunks = found.as_ref().map_or(&[][..], RemoteMount::chunks);
            match remote.has_chunks(chunks).await {
                Ok(present) => Some(MountTarget {
                    remote: remote.clone(),
                    found,
                    present,
                    refused,
                }),
                Err(error) => {
                    self.warn(remote, &error);
                    counts.failed.fetch_add(1, Ordering::Relaxed);
                    None
                }
            }
        });
        let targets = futures_util::future::join_all(to).await;
        let targets: Vec<Arc<MountTarget>> = targets.into_iter().flatten().map(Arc::new).collect();
        let mut known: Option<HashSet<Digest>> = None;
        for target in &targets {
            known = Some(match known {
                None => target.known(),
                Some(known) => known.intersection(&target.known()).cloned().collect(),
            });
        }
        let (Some(known), Some(mount)) = (known, self.idle(store, id, number).await?) else {
            return Ok(());
        };
        let (own, stop) = (store.clone(), self.0.stop.clone());
        let stopped = stop.clone();
        let packed = blocking(move || mount.pack(&own, &known, &stop)).await;
        let packed = packed.map_err(|error| match stopped.is_cancelled() {
            true => ExportError::Cancelled,
            false => error.into(),
        })?;
        let packed = Arc::new(packed);
        for target in &targets {
            match self.send_mount(target, &packed, (id, number)).await {
                Ok(sent) => {
                    let counter = if sent { &counts.sent } else { &counts.there };
                    counter.fetch_add(1, Ordering::Relaxed);
                    let place = target.remote.place();
                    let noted = store
                        .cache_mounts()
                        .note_synced(id, number, place, &packed.state);
                    if let Err(error) = noted {
                        // The mount is gone; otherwise it is compared again.
                        tracing::debug!(%error, "cache mount {id}");
                    }
                }
                Err(error) => {
                    self.warn(&target.remote, &error);
                    counts.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Sends what one place does not have; whether there was anything.
    async fn send_mount(
        &self,
        target: &Arc<MountTarget>,
        packed: &Arc<PackedMount>,
        name: (&str, u32),
    ) -> Result<bool, RemoteError> {
        let (to, from) = (target.clone(), packed.clone());
        // It reads and writes the pieces that are damaged there.
        let form = blocking(move || to.form(&from)).await?;
        self.send_form(target, packed, form, name).await
    }

    async fn send_form(
        &self,
        target: &MountTarget,
        packed: &PackedMount,
        mount: RemoteMount,
        (id, number): (&str, u32),
    ) -> Result<bool, RemoteError> {
        let mut seen = HashSet::new();
        let missing: Vec<MountChunk> = mount
            .chunks()
            .iter()
            .filter(|c| !target.present.contains(&c.digest) && seen.insert(&c.digest))
            .cloned()
            .collect();
        if missing.is_empty() && target.found.as_ref() == Some(&mount) {
            return Ok(false);
        }
        let remote = &target.remote;
        let told = |bytes| {
            let counter = &self.0.mounts.counts.bytes;
            counter.fetch_add(bytes, Ordering::Relaxed);
        };
        let file = |chunk: &MountChunk| packed.file(chunk);
        remote.put_chunks(missing, file, told).await?;
        let again = target.refused;
        remote.put_mount((id, number), mount, again).await?;
        Ok(true)
    }

    /// A mount of the store when nobody uses it; none if it is gone.
    async fn idle(
        &self,
        store: &Store,
        id: &str,
        number: u32,
    ) -> Result<Option<IdleMount>, ExportError> {
        let begun = Instant::now();
        loop {
            let (store, own) = (store.clone(), id.to_owned());
            match blocking(move || store.cache_mounts().idle_mount(&own, number)).await? {
                Idle::Free(mount) => return Ok(Some(mount)),
                Idle::Gone => return Ok(None),
                Idle::Busy if self.0.stop.is_cancelled() => return Err(ExportError::Cancelled),
                Idle::Busy if begun.elapsed() > IDLE_TIMEOUT => {
                    return Err(ExportError::Failed("another build uses it".into()));
                }
                Idle::Busy => tokio::time::sleep(MountStore::pause()).await,
            }
        }
    }
}
