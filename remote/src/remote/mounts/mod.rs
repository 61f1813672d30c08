//! Cache mounts on remotes: a record for each, which names an index of pieces.
//!
//! Pieces come first and are never rewritten, the index then, the record last. So hosts that write
//! at once do not disturb each other: the last record wins, and all that it names is there. The
//! record is signed as others are, and has the digest of the index, which has those of the pieces.

mod fetch;
mod index;
mod pieces;
mod send;

use std::collections::HashSet;
use std::sync::PoisonError;

use futures_util::{StreamExt as _, stream};
use kiln_image::{Descriptor, Digest};
use kiln_solver::key::Key;
use serde::{Deserialize, Serialize};

use super::{LOOK_UP, Remote, STORE};
use crate::backend::Backend;
use crate::error::RemoteError;
use crate::limits::{ANSWER_TIMEOUT, MAX_QUESTIONS, transfer_time};
use crate::pace::Pace;
use kiln_cache::mount_chunks::{MountChunk, salt};

pub use index::RemoteMount;
use index::different;

const FETCH: &str = "fetch a cache mount";
const SEND: &str = "send a cache mount";
/// Version of record and index. Others are refused.
const VERSION: u32 = 1;
const INDEX: &str = "application/vnd.kiln.mount.v1+zstd";
const CHUNK: &str = "application/vnd.kiln.chunk.v1+zstd";
/// The largest index, compressed.
const MAX_INDEX: u64 = 8 << 20;

/// The record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MountJson {
    version: u32,
    /// The mount's id, as in `RUN --mount`.
    mount: String,
    /// 0, or the number of a further one of `sharing=private`.
    number: u32,
    index: Descriptor,
}

fn mount_key(id: &str, number: u32) -> Key {
    let mut hasher = blake3::Hasher::new_derive_key("kiln remote cache 2026 cache mount");
    hasher.update(id.as_bytes());
    hasher.update(&number.to_le_bytes());
    Key::from(hasher.finalize())
}

fn descriptor(chunk: &MountChunk) -> Descriptor {
    Descriptor::new(CHUNK, chunk.digest.clone(), chunk.size)
}

impl Remote {
    /// Tells places apart: the same for every host that would find the same there.
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// What the remote has of a cache mount.
    ///
    /// # Errors
    /// The remote failed, or what it has is refused.
    pub async fn mount(&self, id: &str, number: u32) -> Result<Option<RemoteMount>, RemoteError> {
        let Some(sealed) = self.read(&self.name(mount_key(id, number))).await? else {
            return Ok(None);
        };
        let text = self.inner.trust.open(&self.inner.namespace, &sealed);
        let text = text.map_err(RemoteError::Refused)?;
        let refused = |why: String| RemoteError::Refused(format!("cache mount `{id}`: {why}"));
        let wire: MountJson = serde_json::from_str(text).map_err(|e| refused(e.to_string()))?;
        if wire.version != VERSION {
            return Err(refused(format!("it has version {}", wire.version)));
        }
        if (wire.mount.as_str(), wire.number) != (id, number) {
            return Err(refused("it is that of another mount".into()));
        }
        if wire.index.size > MAX_INDEX {
            return Err(refused("its index is too large".into()));
        }
        let pace = Pace::default();
        let fetching = self.fetch_small(LOOK_UP, &wire.index, &pace);
        let bytes = self.paced(LOOK_UP, &pace, fetching).await?;
        let decoded = tokio::task::spawn_blocking(move || RemoteMount::from_bytes(&bytes)).await;
        let decoded = decoded.map_err(|e| e.to_string()).flatten();
        decoded.map(Some).map_err(refused)
    }

    /// Which of the pieces the remote has.
    ///
    /// # Errors
    /// The remote failed.
    pub async fn has_chunks(&self, chunks: &[MountChunk]) -> Result<HashSet<Digest>, RemoteError> {
        let ask = |chunk: MountChunk| async move {
            let blob = descriptor(&chunk);
            let there = !self.is_damaged(&chunk.digest) && self.has_blob(&blob).await?;
            Ok::<_, RemoteError>(there.then_some(chunk.digest))
        };
        let pieces: Vec<MountChunk> = different(chunks).cloned().collect();
        let mut answers = stream::iter(pieces)
            .map(ask)
            .buffer_unordered(MAX_QUESTIONS);
        let mut there = HashSet::new();
        while let Some(answer) = answers.next().await {
            there.extend(answer?);
        }
        Ok(there)
    }

    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, RemoteError> {
        self.guarded(SEND, ANSWER_TIMEOUT, async {
            match &self.inner.backend {
                Backend::Registry(registry) => registry.has_blob(blob).await,
                Backend::Objects(objects) => objects.has_blob(blob).await,
            }
        })
        .await
    }

    /// Makes pieces that are there the content of a cache mount; `again` writes a record that may be
    /// there already, and damaged.
    ///
    /// # Errors
    /// The remote failed.
    pub async fn put_mount(
        &self,
        (id, number): (&str, u32),
        mount: RemoteMount,
        again: bool,
    ) -> Result<(), RemoteError> {
        let packing = tokio::task::spawn_blocking(move || (mount.to_bytes(), mount.chunks));
        let packed = packing.await.map_err(std::io::Error::other);
        let (bytes, chunks) = packed.map_err(|e| kiln_cache::Error::io("pack cache mount", e))?;
        let mut bytes = bytes.map_err(RemoteError::failed(STORE))?;
        let mut index = Descriptor::of(INDEX, &bytes);
        if !self.replaces_blobs() && self.is_damaged(&index.digest) {
            bytes.extend(salt()?);
            index = Descriptor::of(INDEX, &bytes);
        }
        self.guarded(STORE, transfer_time(index.size), async {
            match &self.inner.backend {
                Backend::Registry(registry) => registry.put_small(&index, bytes).await,
                Backend::Objects(objects) => objects.put_small(&index, bytes).await,
            }
        })
        .await?;
        let mut blobs = vec![index.clone()];
        blobs.extend(different(&chunks).map(descriptor));
        let wire = MountJson {
            version: VERSION,
            mount: id.to_owned(),
            number,
            index,
        };
        let text = serde_json::to_string(&wire);
        let text = text.map_err(|e| RemoteError::failed(STORE)(e.to_string()))?;
        let name = self.name(mount_key(id, number));
        self.write(&name, text, blobs, again).await
    }

    /// A blob that fits into memory: whoever calls this has bounded its size, and keeps the pace.
    async fn fetch_small(
        &self,
        action: &'static str,
        blob: &Descriptor,
        pace: &Pace,
    ) -> Result<Vec<u8>, RemoteError> {
        let meter = pace.meter();
        let progress = |done: u64| meter.note(done);
        let fetched = match &self.inner.backend {
            Backend::Registry(registry) => registry.fetch_small(action, blob, &progress).await,
            Backend::Objects(objects) => objects.fetch_small(action, blob, &progress).await,
        };
        if fetched.is_err() {
            let mut damaged = self.inner.damaged.lock();
            let damaged = damaged.as_mut().unwrap_or_else(|e| e.get_mut());
            damaged.insert(blob.digest.clone());
        }
        fetched
    }

    /// Whether a blob could not be had, so that it is sent again though it may be there.
    pub fn is_damaged(&self, digest: &Digest) -> bool {
        let damaged = self.inner.damaged.lock();
        damaged
            .unwrap_or_else(PoisonError::into_inner)
            .contains(digest)
    }
}
