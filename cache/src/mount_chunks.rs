//! Cache mounts in pieces: the archive of a mount, cut where its content says so, each piece
//! compressed and named by its digest. A small change makes few new pieces.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use fastcdc::v2020::FastCDC;
use kiln_image::compression::padding;
use kiln_image::{Compression, Digest};
use rayon::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::mount_archive::pack_mount;
use crate::mount_sync::{IdleMount, MountState};
use crate::scratch::Scratch;
use crate::store::Store;

/// The largest archive of a mount, in bytes.
pub const MAX_ARCHIVE: u64 = 64 << 30;
/// The most pieces of an archive.
pub const MAX_CHUNKS: usize = 64 << 10;
/// The most different pieces: a registry takes manifests of 4 MiB, and each piece is named there.
pub const MAX_DIFFERENT: usize = 20_000;
/// The longest piece, in plain bytes.
pub const MAX_LENGTH: u64 = 16 << 20;
/// The longest piece, in compressed bytes: what cannot be compressed grows a little.
pub const MAX_SIZE: u64 = MAX_LENGTH + (1 << 20);
/// Bytes of files from which on pieces are larger.
const LARGE: u64 = 4 << 30;
/// Plain bytes that are compressed at once.
const BATCH: usize = 16 << 20;
/// Bytes of the disk that are left to others.
const SPARE: u64 = 64 << 20;

/// A piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountChunk {
    /// Digest of its compressed bytes.
    pub digest: Digest,
    /// The number of those.
    pub size: u64,
    /// The number of its plain bytes.
    pub length: u64,
}

/// A mount that was packed. Dropping it removes the files of its pieces.
#[derive(Debug)]
pub struct PackedMount {
    /// The pieces of its archive, in order.
    pub chunks: Vec<MountChunk>,
    /// What the mount looked like.
    pub state: MountState,
    scratch: Scratch,
}

impl PackedMount {
    /// The file of a piece, if it is none of those that were said to be known.
    pub fn file(&self, chunk: &MountChunk) -> PathBuf {
        self.scratch.path().join(chunk.digest.hex())
    }

    /// The same piece under another digest, with a file of its own: for a place that keeps the bytes
    /// that it has, though they are damaged.
    ///
    /// # Errors
    /// The file of the piece cannot be read, or that of the other cannot be written.
    pub fn again(&self, chunk: &MountChunk) -> Result<MountChunk> {
        let failed = |e| Error::io("pack cache mount", e);
        let mut bytes = std::fs::read(self.file(chunk)).map_err(failed)?;
        bytes.extend(salt()?);
        let again = MountChunk {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            length: chunk.length,
        };
        std::fs::write(self.file(&again), bytes).map_err(failed)?;
        Ok(again)
    }
}

/// How long pieces are: least, about, most.
#[derive(Clone, Copy, Debug)]
struct Lengths(usize, usize, usize);

impl Lengths {
    fn of(bytes: u64) -> Self {
        match bytes {
            0..LARGE => Self(128 << 10, 512 << 10, 2 << 20),
            _ => Self(1 << 20, 4 << 20, 16 << 20),
        }
    }
}

impl IdleMount {
    /// Packs the mount. Files are written for pieces that are not `known`.
    ///
    /// # Errors
    /// It is too large, it cannot be read, there is no room, or `stop` was cancelled.
    pub fn pack(
        &self,
        store: &Store,
        known: &HashSet<Digest>,
        stop: &CancellationToken,
    ) -> Result<PackedMount> {
        let free = || Ok(kiln_sys::system::free_bytes(store.root())?);
        self.pack_while(store, known, stop, &free)
    }

    fn pack_while(
        &self,
        store: &Store,
        known: &HashSet<Digest>,
        stop: &CancellationToken,
        free: &(dyn Fn() -> Result<u64> + Sync),
    ) -> Result<PackedMount> {
        let state = self.state()?;
        let scratch = store.scratch()?;
        let mut chunker = Chunker {
            dir: scratch.path(),
            known,
            stop,
            free,
            lengths: Lengths::of(state.bytes),
            total: 0,
            buffer: Vec::new(),
            batch: Vec::new(),
            chunks: Vec::new(),
            different: HashSet::new(),
            failure: None,
        };
        let packed = pack_mount(&self.path, &mut chunker).and_then(|()| {
            let ended = chunker.cut(true).and_then(|()| chunker.compress());
            ended.map_err(|e| Error::io("pack cache mount", e))
        });
        if let Some(error) = chunker.failure.take() {
            return Err(error);
        }
        packed?;
        let chunks = chunker.chunks;
        Ok(PackedMount {
            chunks,
            state,
            scratch,
        })
    }
}

/// Takes an archive and makes pieces of it.
struct Chunker<'a> {
    dir: &'a Path,
    known: &'a HashSet<Digest>,
    stop: &'a CancellationToken,
    /// Free bytes of the disk.
    free: &'a (dyn Fn() -> Result<u64> + Sync),
    lengths: Lengths,
    total: u64,
    buffer: Vec<u8>,
    batch: Vec<Vec<u8>>,
    chunks: Vec<MountChunk>,
    different: HashSet<Digest>,
    /// Why a write failed, in words that the writer's caller could not know.
    failure: Option<Error>,
}

impl Chunker<'_> {
    fn fail(&mut self, error: Error) -> std::io::Error {
        self.failure = Some(error);
        std::io::ErrorKind::Other.into()
    }

    /// Cuts what does not depend on bytes to come, and in the end the rest.
    fn cut(&mut self, last: bool) -> std::io::Result<()> {
        let Lengths(least, about, most) = self.lengths;
        let chunker = FastCDC::new(&self.buffer, least, about, most);
        let mut at = 0;
        while let Some(left) = self.buffer.len().checked_sub(at)
            && left > 0
            && (last || left >= most)
        {
            let (_, end) = chunker.cut(at, left);
            let end = if end > at { end } else { self.buffer.len() };
            self.batch.push(self.buffer[at..end].to_vec());
            at = end;
        }
        self.buffer.drain(..at);
        if self.batch.iter().map(Vec::len).sum::<usize>() >= BATCH {
            self.compress()?;
        }
        Ok(())
    }

    fn compress(&mut self) -> std::io::Result<()> {
        if self.stop.is_cancelled() {
            return Err(std::io::Error::other("canceled"));
        }
        let batch = std::mem::take(&mut self.batch);
        let compressed = batch.par_iter().map(|plain| compress(plain));
        let compressed: std::io::Result<Vec<_>> = compressed.collect();
        let mut new = Vec::new();
        for (chunk, bytes) in compressed? {
            if self.different.insert(chunk.digest.clone()) && !self.known.contains(&chunk.digest) {
                new.push((self.dir.join(chunk.digest.hex()), bytes));
            }
            self.chunks.push(chunk);
        }
        self.write_new(&new)?;
        if self.chunks.len() > MAX_CHUNKS || self.different.len() > MAX_DIFFERENT {
            return Err(self.fail(Error::MountTooLarge(MAX_ARCHIVE)));
        }
        Ok(())
    }
}

impl Chunker<'_> {
    /// Writes the files of new pieces, unless the disk is almost full: steps go first.
    fn write_new(&mut self, new: &[(PathBuf, Vec<u8>)]) -> std::io::Result<()> {
        let bytes: u64 = new.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        if bytes == 0 {
            return Ok(());
        }
        match (self.free)() {
            Ok(free) if free >= bytes + SPARE => {}
            Ok(_) => {
                let full = std::io::ErrorKind::StorageFull.into();
                return Err(self.fail(Error::io("pack cache mount", full)));
            }
            Err(error) => return Err(self.fail(error)),
        }
        for (file, bytes) in new {
            std::fs::write(file, bytes)?;
        }
        Ok(())
    }
}

impl Write for Chunker<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = 4 * self.lengths.2;
        if self.buffer.len() >= room {
            self.cut(false)?;
        }
        let n = bytes.len().min(room - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..n]);
        self.total += n as u64;
        if self.total > MAX_ARCHIVE {
            return Err(self.fail(Error::MountTooLarge(MAX_ARCHIVE)));
        }
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn compress(plain: &[u8]) -> std::io::Result<(MountChunk, Vec<u8>)> {
    let bytes = zstd::bulk::compress(plain, zstd::DEFAULT_COMPRESSION_LEVEL)?;
    let chunk = MountChunk {
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
        length: plain.len() as u64,
    };
    Ok((chunk, bytes))
}

/// Bytes that zstd passes over, and that were never there before.
///
/// # Errors
/// There are no random numbers.
pub fn salt() -> Result<Vec<u8>> {
    let mut salt = [0; 16];
    kiln_sys::system::random(&mut salt)?;
    Ok(padding(Compression::Zstd, salt).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount_sync::Idle;
    use crate::mounts::MountUse;

    #[test]
    fn a_mount_is_packed_only_with_room_for_its_new_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let used = store
            .cache_mounts()
            .try_cache_mount(None, "m", MountUse::Shared, &mut |_| Ok(()));
        let used = used.unwrap().unwrap();
        std::fs::write(used.path.join("file"), "content").unwrap();
        drop(used);
        let Idle::Free(mount) = store.cache_mounts().idle_mount("m", 0).unwrap() else {
            panic!("it is used");
        };
        let stop = CancellationToken::new();
        let pack = |known: &HashSet<Digest>, free: u64| {
            mount.pack_while(&store, known, &stop, &|| Ok(free))
        };
        let packed = pack(&HashSet::new(), u64::MAX).unwrap();
        assert!(packed.chunks.iter().all(|c| packed.file(c).is_file()));
        let error = pack(&HashSet::new(), SPARE).unwrap_err();
        assert!(error.is_no_space(), "{error}");
        // What is sent already takes no room.
        let known = packed.chunks.iter().map(|c| c.digest.clone()).collect();
        assert_eq!(pack(&known, 0).unwrap().chunks, packed.chunks);
    }

    #[test]
    fn a_piece_under_another_digest_has_the_same_content() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let scratch = store.scratch().unwrap();
        let (chunk, bytes) = compress(b"content").unwrap();
        let state = MountState {
            stamp: String::new(),
            bytes: 7,
        };
        let chunks = vec![chunk.clone()];
        let packed = PackedMount {
            chunks,
            state,
            scratch,
        };
        std::fs::write(packed.file(&chunk), &bytes).unwrap();
        let again = packed.again(&chunk).unwrap();
        assert!(again.digest != chunk.digest && again.length == chunk.length);
        let found = std::fs::read(packed.file(&again)).unwrap();
        assert_eq!(Digest::of(&found), again.digest);
        assert_eq!(zstd::bulk::decompress(&found, 7).unwrap(), b"content");
    }
}
