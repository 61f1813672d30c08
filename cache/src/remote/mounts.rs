//! Cache mounts on remotes: a record for each, which names an index of pieces.
//!
//! Pieces come first and are never rewritten, the index then, the record last. So hosts that write
//! at once do not disturb each other: the last record wins, and all that it names is there. The
//! record is signed as others are, and has the digest of the index, which has those of the pieces.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use futures_util::{StreamExt as _, stream};
use kiln_image::{Algorithm, Descriptor, Digest};
use kiln_solver::key::Key;
use kiln_sys::RootDir;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::pace::Pace;
use super::sending::Sending;
use super::{ASKING, Backend, LOOK_UP, Remote, RemoteError, STORE, transfer_time};
use crate::mount_chunks::{
    MAX_ARCHIVE, MAX_CHUNKS, MAX_DIFFERENT, MAX_LENGTH, MAX_SIZE, MountChunk, Pieces, salt,
};
use crate::scratch::Scratch;
use crate::unpack::{UnpackOptions, unpack};

const FETCH: &str = "fetch a cache mount";
const SEND: &str = "send a cache mount";
/// Version of record and index. Others are refused.
const VERSION: u32 = 1;
const INDEX: &str = "application/vnd.kiln.mount.v1+zstd";
const CHUNK: &str = "application/vnd.kiln.chunk.v1+zstd";
/// The largest index, compressed.
const MAX_INDEX: u64 = 8 << 20;
/// The largest index, plain.
const MAX_PLAIN_INDEX: usize = 16 << 20;
/// Pieces that are fetched at once.
const FETCHING: usize = 6;
/// Pieces that are sent at once.
const SENDING: usize = 8;

/// What a remote has of a cache mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteMount {
    chunks: Vec<MountChunk>,
    /// By their digests, pieces that others of the same content are there for: they are damaged there.
    instead: HashMap<Digest, MountChunk>,
}

/// The record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    version: u32,
    /// The mount's id, as in `RUN --mount`.
    mount: String,
    /// 0, or the number of a further one of `sharing=private`.
    number: u32,
    index: Descriptor,
}

/// The index: SHA-256 in hexadecimal digits, bytes and plain bytes of each piece, in order.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    version: u32,
    chunks: Vec<(String, u64, u64)>,
    /// Digest of a piece that is damaged there, and of the one with the same content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    instead: Vec<(String, String)>,
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

impl RemoteMount {
    /// The pieces of its archive, in order.
    pub fn chunks(&self) -> &[MountChunk] {
        &self.chunks
    }

    /// Bytes of its different pieces.
    pub fn size(&self) -> u64 {
        different(&self.chunks).map(|c| c.size).sum()
    }

    /// Bytes of its archive.
    pub fn length(&self) -> u64 {
        self.chunks.iter().map(|c| c.length).sum()
    }

    /// A mount of these pieces, in the form in which a place is to have them: as one that has some of them
    /// already, as `found` tells, or of `again` where it is damaged there.
    ///
    /// # Errors
    /// What `again` says.
    pub fn of<E>(
        packed: &[MountChunk],
        found: Option<&Self>,
        is_damaged: impl Fn(&Digest) -> bool,
        mut again: impl FnMut(&MountChunk) -> Result<MountChunk, E>,
    ) -> Result<Self, E> {
        let mut mount = Self {
            chunks: Vec::with_capacity(packed.len()),
            instead: HashMap::new(),
        };
        for chunk in packed {
            let before = found.and_then(|f| f.instead.get(&chunk.digest));
            let made = match (mount.instead.get(&chunk.digest), before) {
                (Some(made), _) => made.clone(),
                (None, Some(before)) if !is_damaged(&before.digest) => before.clone(),
                (None, None) if !is_damaged(&chunk.digest) => chunk.clone(),
                (None, _) => again(chunk)?,
            };
            if made != *chunk {
                mount.instead.insert(chunk.digest.clone(), made.clone());
            }
            mount.chunks.push(made);
        }
        Ok(mount)
    }

    /// The digests that pieces have where nothing is damaged, of those that are `present` in any form.
    pub fn packed_digests(&self, present: &HashSet<Digest>) -> HashSet<Digest> {
        let there = |(packed, other): (&Digest, &MountChunk)| {
            present.contains(&other.digest).then(|| packed.clone())
        };
        let replaced = self.instead.iter().filter_map(there);
        replaced.chain(present.iter().cloned()).collect()
    }

    fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let row = |c: &MountChunk| (c.digest.hex().to_owned(), c.size, c.length);
        let instead = |(packed, other): (&Digest, &MountChunk)| {
            (packed.hex().to_owned(), other.digest.hex().to_owned())
        };
        let mut instead: Vec<_> = self.instead.iter().map(instead).collect();
        instead.sort();
        let index = Index {
            version: VERSION,
            chunks: self.chunks.iter().map(row).collect(),
            instead,
        };
        let json = serde_json::to_vec(&index).map_err(|e| e.to_string())?;
        zstd::bulk::compress(&json, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(|e| e.to_string())
    }

    /// Reads an index, whose digest is right, and refuses one of what kiln would not have written.
    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let json = zstd::bulk::decompress(bytes, MAX_PLAIN_INDEX).map_err(|e| e.to_string())?;
        let index: Index = serde_json::from_slice(&json).map_err(|e| e.to_string())?;
        if index.version != VERSION {
            return Err(format!("it has version {}", index.version));
        }
        if index.chunks.len() > MAX_CHUNKS {
            return Err(format!("it has {} pieces", index.chunks.len()));
        }
        let mut chunks = Vec::with_capacity(index.chunks.len());
        let mut total = 0_u64;
        for (hex, size, length) in index.chunks {
            let digest = sha256(&hex)?;
            if size > MAX_SIZE || length > MAX_LENGTH || length == 0 {
                return Err(format!("a piece has {size} bytes for {length}"));
            }
            total = total.saturating_add(length);
            chunks.push(MountChunk {
                digest,
                size,
                length,
            });
        }
        if total > MAX_ARCHIVE || different(&chunks).count() > MAX_DIFFERENT {
            return Err("it is too large".into());
        }
        let mut others = HashMap::new();
        if !index.instead.is_empty() {
            let by_digest: HashMap<&Digest, &MountChunk> =
                chunks.iter().map(|c| (&c.digest, c)).collect();
            for (packed, other) in &index.instead {
                let other = by_digest.get(&sha256(other)?);
                let other = other.ok_or("a piece is missing")?;
                others.insert(sha256(packed)?, (*other).clone());
            }
        }
        Ok(Self {
            chunks,
            instead: others,
        })
    }

    /// Pieces in order, with how often each comes in a row.
    fn runs(&self) -> Vec<(MountChunk, u64)> {
        let mut runs: Vec<(MountChunk, u64)> = Vec::new();
        for chunk in &self.chunks {
            match runs.last_mut() {
                Some((last, times)) if last == chunk => *times += 1,
                _ => runs.push((chunk.clone(), 1)),
            }
        }
        runs
    }
}

fn sha256(hex: &str) -> Result<Digest, String> {
    let digest = format!("{}:{hex}", Algorithm::Sha256).parse();
    digest.map_err(|_| "a digest is malformed".into())
}

/// Every piece once.
fn different(chunks: &[MountChunk]) -> impl Iterator<Item = &MountChunk> {
    let mut seen = HashSet::new();
    chunks.iter().filter(move |c| seen.insert(&c.digest))
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
        let Some(text) = self.read(&self.name(mount_key(id, number))).await? else {
            return Ok(None);
        };
        let refused = |why: String| RemoteError::Refused(format!("cache mount `{id}`: {why}"));
        let wire: Wire = serde_json::from_str(&text).map_err(|e| refused(e.to_string()))?;
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

    /// Brings the content of a cache mount into the folder `data` of a directory, which is made. Where a
    /// piece is damaged, nothing comes of it; then `find_all` has the other pieces looked at all the
    /// same, so that all that are damaged are known. `progress` is told the bytes that have come.
    ///
    /// # Errors
    /// The remote failed or was too slow, a piece is damaged, or the archive is refused.
    pub async fn bring_mount(
        &self,
        mount: &RemoteMount,
        to: Arc<Scratch>,
        find_all: bool,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RemoteError> {
        let (give, from) = tokio::sync::mpsc::channel(1);
        // Ends the unpacking also where this is dropped.
        let stop = CancellationToken::new();
        let unneeded = stop.clone().drop_guard();
        let pieces = Pieces {
            from,
            stop,
            left: mount.length(),
            plain: Vec::new(),
            at: 0,
            again: 0,
        };
        let unpacking = tokio::task::spawn_blocking(move || {
            let data = to.path().join("data");
            std::fs::create_dir(&data).map_err(|e| crate::Error::io("make cache mount", e))?;
            let options = UnpackOptions {
                sparse: true,
                no_devices: true,
                ..UnpackOptions::default()
            };
            unpack(pieces, &RootDir::open_trusted(&data)?, &options)
        });
        // Pieces come in turns of their own, so they have one pace together.
        let pace = Pace::default();
        let fetch = |(chunk, times): (MountChunk, u64)| {
            let pace = &pace;
            async move {
                let blob = descriptor(&chunk);
                let bytes = self.counted(self.fetch_small(FETCH, &blob, pace)).await?;
                Ok::<_, RemoteError>((bytes, chunk.length, times))
            }
        };
        let mut fetched = stream::iter(mount.runs()).map(fetch).buffered(FETCHING);
        let (mut give, mut unneeded) = (Some(give), Some(unneeded));
        let (mut done, mut outcome) = (0, Ok(()));
        loop {
            // What is damaged is known when its turn comes; the unpacking takes the time that it takes.
            let next = match pace.keep(FETCH, fetched.next()).await {
                Ok(None) => break,
                Ok(Some(_)) if !pace.is_fast() => Err(RemoteError::Trickles { action: FETCH }),
                Ok(Some(piece)) => piece,
                Err(error) => Err(error),
            };
            match next {
                Ok(piece) => {
                    done += piece.0.len() as u64;
                    progress(done);
                    // Whoever does not take it any more says why below.
                    if let Some(give) = &give
                        && give.send(piece).await.is_err()
                    {
                        break;
                    }
                }
                Err(error) => {
                    (give, unneeded) = (None, None);
                    let damaged = matches!(error, RemoteError::Wrong { .. });
                    if matches!(error, RemoteError::Trickles { .. }) {
                        self.inner.breaker.failed();
                    }
                    outcome = outcome.and(Err(error));
                    if !damaged || !find_all {
                        break;
                    }
                }
            }
        }
        drop(give);
        // Once everything was given, the repeated pieces at the end are still unpacked.
        let unpacked = unpacking.await;
        drop(unneeded);
        outcome?;
        match unpacked.map_err(std::io::Error::other) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error @ (crate::Error::Layer(_) | crate::Error::Entry { .. }))) => {
                Err(RemoteError::Refused(format!("a cache mount: {error}")))
            }
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(crate::Error::io("unpack a cache mount", error).into()),
        }
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
            .buffer_unordered(super::AT_ONCE);
        let mut there = HashSet::new();
        while let Some(answer) = answers.next().await {
            there.extend(answer?);
        }
        Ok(there)
    }

    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, RemoteError> {
        self.guarded(SEND, ASKING, async {
            match &self.inner.backend {
                Backend::Registry(registry) => registry.has_blob(blob).await,
                Backend::Objects(objects) => objects.has_blob(blob).await,
            }
        })
        .await
    }

    /// Sends pieces that the remote does not have, of the files that `file` names. `sent` is told the
    /// bytes of each that was sent.
    ///
    /// # Errors
    /// The remote failed or was too slow.
    pub async fn put_chunks(
        &self,
        chunks: Vec<MountChunk>,
        file: impl Fn(&MountChunk) -> PathBuf,
        sent: impl Fn(u64),
    ) -> Result<(), RemoteError> {
        // One pace for all of them: each is so small that it could take its time.
        let pace = Arc::new(Pace::of_sending());
        let put = |chunk: MountChunk| {
            let file = Sending::piece(file(&chunk), pace.clone());
            let pace = pace.clone();
            async move {
                let sent = self.put_chunk(&chunk, &file).await?;
                if !sent {
                    pace.moved(chunk.size);
                }
                Ok::<_, RemoteError>(if sent { chunk.size } else { 0 })
            }
        };
        let mut sending = stream::iter(chunks).map(put).buffer_unordered(SENDING);
        loop {
            let next = match pace.keep(SEND, sending.next()).await {
                Ok(_) if !pace.is_fast() => Err(RemoteError::TakesLittle { action: SEND }),
                other => other,
            };
            match next {
                Ok(None) => return Ok(()),
                Ok(Some(bytes)) => sent(bytes?),
                Err(slow) => {
                    self.inner.breaker.failed();
                    return Err(slow);
                }
            }
        }
    }

    /// Sends a piece, unless the remote has it. Returns whether bytes were sent.
    async fn put_chunk(&self, chunk: &MountChunk, file: &Sending) -> Result<bool, RemoteError> {
        let (blob, damaged) = (descriptor(chunk), self.is_damaged(&chunk.digest));
        self.guarded(SEND, transfer_time(blob.size), async {
            match &self.inner.backend {
                Backend::Registry(registry) => registry.put_blob(SEND, &blob, file, &[]).await,
                Backend::Objects(objects) => objects.put_blob(SEND, &blob, file, damaged).await,
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
        let (bytes, chunks) = packed.map_err(|e| crate::Error::io("pack cache mount", e))?;
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
        let wire = Wire {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str, size: u64, length: u64) -> MountChunk {
        let digest = Digest::of(text.as_bytes());
        MountChunk {
            digest,
            size,
            length,
        }
    }

    fn of(chunks: &[MountChunk]) -> RemoteMount {
        let never = |_: &MountChunk| Err("nothing is damaged");
        RemoteMount::of(chunks, None, |_| false, never).unwrap()
    }

    #[test]
    fn what_is_damaged_has_another_form_until_that_is_damaged_too() {
        let packed = [chunk("a", 5, 9), chunk("b", 5, 9), chunk("a", 5, 9)];
        let (first, second) = (chunk("a again", 6, 9), chunk("a once more", 6, 9));
        let bad = HashSet::from([packed[0].digest.clone()]);
        let with = |found: Option<&RemoteMount>, bad: &HashSet<Digest>, other: &MountChunk| {
            let mut made = 0;
            let mount = RemoteMount::of(
                &packed,
                found,
                |d| bad.contains(d),
                |_| {
                    made += 1;
                    Ok::<_, ()>(other.clone())
                },
            );
            let bytes = mount.unwrap().to_bytes().unwrap();
            (RemoteMount::from_bytes(&bytes).unwrap(), made)
        };
        let (mended, made) = with(None, &bad, &first);
        let form = |a: &MountChunk| [a.clone(), packed[1].clone(), a.clone()];
        assert_eq!((mended.chunks(), made), (&form(&first)[..], 1));
        let present = HashSet::from([first.digest.clone()]);
        assert!(mended.packed_digests(&present).contains(&packed[0].digest));
        assert!(mended.packed_digests(&HashSet::new()).is_empty());
        // Who knows nothing of the damage keeps what was put in its place.
        let (kept, made) = with(Some(&mended), &HashSet::new(), &second);
        assert_eq!((&kept, made), (&mended, 0));
        let (other, made) = with(Some(&mended), &present, &second);
        assert_eq!((other.chunks(), made), (&form(&second)[..], 1));
    }

    #[test]
    fn an_index_comes_back_and_repeated_pieces_are_fetched_once() {
        let chunks = [chunk("a", 5, 9), chunk("zero", 1, 8), chunk("zero", 1, 8)];
        let bytes = of(&chunks).to_bytes().unwrap();
        let mount = RemoteMount::from_bytes(&bytes).unwrap();
        assert_eq!(mount.chunks(), chunks);
        assert_eq!(mount.size(), 6);
        let times: Vec<u64> = mount.runs().iter().map(|r| r.1).collect();
        assert_eq!(times, [1, 2]);
    }

    #[test]
    fn an_index_that_asks_for_too_much_is_refused() {
        let too_many = vec![chunk("a", 1, 1); MAX_CHUNKS + 1];
        let too_long = vec![chunk("a", 1, MAX_LENGTH); 4097];
        let other: Vec<_> = (0..=MAX_DIFFERENT)
            .map(|n| chunk(&n.to_string(), 1, 1))
            .collect();
        for (chunks, why) in [
            (too_many, "pieces"),
            (too_long, "too large"),
            (other, "too large"),
            (vec![chunk("a", 1, MAX_LENGTH + 1)], "a piece has"),
            (vec![chunk("a", MAX_SIZE + 1, 1)], "a piece has"),
            (vec![chunk("a", 1, 0)], "a piece has"),
        ] {
            let bytes = of(&chunks).to_bytes().unwrap();
            let error = RemoteMount::from_bytes(&bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let pack = |text: &[u8]| zstd::bulk::compress(text, 3).unwrap();
        for bytes in [
            b"no zstd".to_vec(),
            pack(b"{}"),
            pack(br#"{"version":2,"chunks":[]}"#),
            pack(br#"{"version":1,"chunks":[["../../etc",1,1]]}"#),
            // A bomb.
            pack(&vec![b' '; MAX_PLAIN_INDEX + 1]),
        ] {
            assert!(RemoteMount::from_bytes(&bytes).is_err());
        }
    }
}
