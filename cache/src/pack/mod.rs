//! From a layer's directory to its tar, diff id and tree digest, in one pass.
//!
//! One thread writes the tar. Of layers that are worth it, others look at the files ahead of it, read
//! small ones and hash them ([`ahead`]), and one more hashes the tar that comes out ([`tar_out`]).

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod ahead;
mod entry;
mod load;
mod names;
mod tar_out;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use kiln_image::layer::{LayerWriter, Output};
use kiln_image::{DiffId, Digest, Entry, EntryKind};
use kiln_solver::key::TreeDigest;
use kiln_sys::{HoleReader, RootDir};

use crate::error::{Error, Result};
use crate::image_xattr::is_opaque;
use crate::tree::TreeHasher;
pub use entry::tar_entry;
use load::{Batch, Data, Loaded};
use names::Names;
use tar_out::ChunkWriter;

/// What a pass over a layer found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Digest of the tar.
    pub diff_id: DiffId,
    /// Digest of the content, without times.
    pub tree: TreeDigest,
    /// Bytes of the tar.
    pub tar_size: u64,
    /// Bytes of file contents.
    pub bytes: u64,
    /// The clamp of times, in seconds since 1970, that the tar was written with.
    pub epoch: Option<u64>,
}

/// Reads the layer at `dir`, clamps times to `epoch` (seconds since 1970), and writes its tar to
/// `sink` as it goes.
///
/// # Errors
/// A file cannot be read, or `sink` failed.
pub fn pack(dir: &Path, epoch: Option<u64>, sink: &mut (dyn Write + Send)) -> Result<Packed> {
    let mut tree = TreeHasher::new();
    let (digest, tar_size, bytes) = write(dir, epoch, sink, Some(&mut tree))?;
    Ok(Packed {
        diff_id: DiffId::from(digest),
        tree: tree.finish(),
        tar_size,
        bytes,
        epoch,
    })
}

/// As [`pack`], for callers that want the tar and its diff id only.
///
/// # Errors
/// A file cannot be read, or `sink` failed.
pub fn pack_tar(dir: &Path, epoch: Option<u64>, sink: &mut (dyn Write + Send)) -> Result<DiffId> {
    let (digest, _, _) = write(dir, epoch, sink, None)?;
    Ok(DiffId::from(digest))
}

/// The digest and size of a layer's tar, and the bytes of its files.
fn write(
    dir: &Path,
    epoch: Option<u64>,
    sink: &mut (dyn Write + Send),
    tree: Option<&mut TreeHasher>,
) -> Result<(Digest, u64, u64)> {
    let root = RootDir::open_trusted(dir)?;
    std::thread::scope(|scope| {
        let mut layer = LayerPacker::new(LayerWriter::new(ChunkWriter::new(scope, sink)), tree);
        layer
            .tar
            .set_epoch_clamp(epoch.and_then(|e| i64::try_from(e).ok()));
        let written = |e| Error::io("write layer", e);
        let done = layer
            .all_below(root)
            .and_then(|()| layer.tar.end().map_err(written));
        let LayerPacker { tar, bytes, .. } = layer;
        let out = tar.into_output();
        if let Err(error) = done {
            // The sink's error is the cause if this thread only saw a closed channel.
            return match out.join() {
                Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => Err(written(cause)),
                _ => Err(error),
            };
        }
        let (digest, tar_size) = out.finish().map_err(written)?;
        Ok((digest, tar_size, bytes))
    })
}

/// Writes `first` and then everything below `dir` to `out`, as a plain tar with fine times. What
/// would remove something in a layer means nothing there and is left out.
///
/// # Errors
/// A file cannot be read, or `out` failed.
pub(crate) fn pack_below(dir: &Path, first: &Entry, out: &mut (dyn Write + Send)) -> Result<()> {
    let mut layer = LayerPacker::new(LayerWriter::new(out), None);
    layer.tar.set_whiteouts(false);
    layer.tar.set_fine_times(true);
    layer.plain = true;
    layer.put(first, Data::None, &[])?;
    layer.all_below(RootDir::open_trusted(dir)?)?;
    let out = layer
        .tar
        .finish()
        .map_err(|e| Error::io("write archive", e))?;
    out.flush().map_err(|e| Error::io("write archive", e))
}

/// A layer that is being written.
struct LayerPacker<'t, W: Output> {
    tar: LayerWriter<W>,
    tree: Option<&'t mut TreeHasher>,
    /// First name of files with several.
    links: HashMap<(u64, u64), Vec<u8>>,
    bytes: u64,
    /// A plain archive, in which nothing is removed.
    plain: bool,
}

/// Reads a file and hashes what passes, if that is wanted.
struct HashingReader {
    file: HoleReader,
    hasher: Option<blake3::Hasher>,
}

impl Read for HashingReader {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(out)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(out.get(..n).unwrap_or_default());
        }
        Ok(n)
    }
}

impl<'t, W: Output> LayerPacker<'t, W> {
    fn new(tar: LayerWriter<W>, tree: Option<&'t mut TreeHasher>) -> Self {
        Self {
            tar,
            tree,
            links: HashMap::new(),
            bytes: 0,
            plain: false,
        }
    }

    fn all_below(&mut self, root: RootDir) -> Result<()> {
        let hashed = self.tree.is_some();
        self.opaque(is_opaque(&root)?, Vec::new())?;
        ahead::batches(Names::below(root)?, hashed, |batch| self.batch(batch))
    }

    fn batch(&mut self, batch: &mut Batch) -> Result<()> {
        for loaded in batch.loaded.drain(..) {
            self.object(loaded, &batch.space)?;
        }
        Ok(())
    }

    fn object(&mut self, loaded: Loaded, space: &[u8]) -> Result<()> {
        let Loaded {
            mut entry,
            opaque,
            shared,
            mut data,
        } = loaded;
        if entry.is_removal() && self.plain {
            return Ok(());
        }
        if let Some(inode) = shared {
            match self.links.entry(inode) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    let target = first.get().clone();
                    entry.kind = EntryKind::Hardlink { target };
                    entry.xattrs.clear();
                    data = Data::None;
                }
                std::collections::hash_map::Entry::Vacant(new) => {
                    new.insert(entry.path.clone());
                }
            }
        }
        self.put(&entry, data, space)?;
        self.opaque(opaque, entry.path)
    }

    /// The mark of a directory that hides what is below.
    fn opaque(&mut self, is_opaque: bool, path: Vec<u8>) -> Result<()> {
        if !is_opaque || self.plain {
            return Ok(());
        }
        let mark = Entry::new(path, EntryKind::Opaque, 0);
        self.put(&mark, Data::None, &[])
    }

    fn put(&mut self, entry: &Entry, data: Data, space: &[u8]) -> Result<()> {
        let content = match data {
            Data::None => {
                self.append(entry, &mut std::io::empty())?;
                None
            }
            Data::Held(at, digest) => {
                self.append(entry, &mut space.get(at).unwrap_or_default())?;
                digest
            }
            Data::Open(fd) => self.read(entry, fd)?,
        };
        self.bytes += entry.data_len();
        if let Some(tree) = &mut self.tree {
            tree.entry(entry, content.as_ref());
        }
        Ok(())
    }

    fn read(&mut self, entry: &Entry, fd: OwnedFd) -> Result<Option<blake3::Hash>> {
        let mut reader = HashingReader {
            file: File::from(fd).into(),
            hasher: self.tree.as_ref().map(|_| blake3::Hasher::new()),
        };
        self.append(entry, &mut reader)?;
        Ok(reader.hasher.map(|hasher| hasher.finalize()))
    }

    fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.tar.append(entry, data).map_err(|e| {
            let path = String::from_utf8_lossy(&entry.path);
            Error::io(format!("read `{path}`"), e)
        })
    }
}
