//! From a layer's directory to its tar, diff id and tree digest, in one pass.
//!
//! One thread walks, reads and hashes file contents; another, for layers that are worth one, hashes
//! the tar that comes out.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{Scope, ScopedJoinHandle};

use kiln_image::layer::LayerWriter;
use kiln_image::{DiffId, Digest, Entry, EntryKind, Hasher, Timestamp};
use kiln_solver::key::TreeDigest;
use kiln_sys::{FileKind, RootDir, Stat, xattr};

use crate::error::{Error, Result};

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

/// Bytes that pass between the threads at once.
const CHUNK: usize = 1 << 20;
/// Chunks that may be on their way.
const IN_FLIGHT: usize = 6;
/// The largest reads.
const READ: usize = 256 << 10;
/// The smallest reads.
const SMALL_READ: usize = 4 << 10;

/// Whether an attribute is part of an image: not those of the overlay or of the host's policy.
pub fn is_image_xattr(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.")
        && !name.starts_with(b"user.overlay.")
        && name != b"security.selinux"
        && !name.starts_with(b"system.")
}

/// The digest of a tar and its bytes.
type Tar = (Digest, u64);

/// Hashes a tar and passes it on. What fits into one chunk is hashed at the end, the rest by a
/// thread of its own.
struct ChunkWriter<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    sink: Option<&'env mut (dyn Write + Send)>,
    thread: Option<HashingThread<'scope>>,
    chunk: Vec<u8>,
}

struct HashingThread<'scope> {
    full: mpsc::SyncSender<Vec<u8>>,
    empty: mpsc::Receiver<Vec<u8>>,
    handle: ScopedJoinHandle<'scope, std::io::Result<Tar>>,
}

impl<'scope> ChunkWriter<'scope, '_> {
    fn pass_on(&mut self) -> std::io::Result<()> {
        let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        if self.thread.is_none() {
            let sink = self.sink.take().ok_or_else(broken)?;
            let (full, from_walker) = mpsc::sync_channel::<Vec<u8>>(IN_FLIGHT);
            let (give_back, empty) = mpsc::channel();
            let handle = self.scope.spawn(move || {
                let mut tar = TarHasher::new(sink);
                for mut chunk in from_walker {
                    tar.write(&chunk)?;
                    chunk.clear();
                    // The walker may be done and not want it back.
                    let _ = give_back.send(chunk);
                }
                tar.finish()
            });
            self.thread = Some(HashingThread {
                full,
                empty,
                handle,
            });
        }
        let thread = self.thread.as_ref().ok_or_else(broken)?;
        let next = thread.empty.try_recv();
        let next = next.unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        let chunk = std::mem::replace(&mut self.chunk, next);
        thread.full.send(chunk).map_err(|_| broken())
    }

    fn finish(mut self) -> std::io::Result<Tar> {
        if let Some(sink) = self.sink.take() {
            let mut tar = TarHasher::new(sink);
            tar.write(&self.chunk)?;
            return tar.finish();
        }
        let passed_on = match self.chunk.is_empty() {
            true => Ok(()),
            false => self.pass_on(),
        };
        self.join().and_then(|tar| passed_on.map(|()| tar))
    }

    /// The thread's result. Its error says more than that of a closed channel.
    fn join(self) -> std::io::Result<Tar> {
        let Some(HashingThread { full, handle, .. }) = self.thread else {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        };
        drop(full);
        let joined = handle.join();
        joined.unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()))
    }
}

/// Hashes what is written to a sink.
struct TarHasher<'a> {
    sink: &'a mut (dyn Write + Send),
    hasher: Hasher,
    size: u64,
}

impl<'a> TarHasher<'a> {
    fn new(sink: &'a mut (dyn Write + Send)) -> Self {
        Self {
            sink,
            hasher: Hasher::sha256(),
            size: 0,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.sink.write_all(bytes)
    }

    fn finish(self) -> std::io::Result<Tar> {
        self.sink.flush()?;
        Ok((self.hasher.finish(), self.size))
    }
}

impl Write for ChunkWriter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.chunk.len() >= CHUNK {
            self.pass_on()?;
        }
        let n = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    /// What is left is passed on at the end: a thread for it may not be needed.
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Reads the layer at `dir`, clamps times to `epoch` (seconds since 1970), and writes its tar to
/// `sink` as it goes.
///
/// # Errors
/// A file cannot be read, or `sink` failed.
pub fn pack(dir: &Path, epoch: Option<u64>, sink: &mut (dyn Write + Send)) -> Result<Packed> {
    let root = RootDir::open_trusted(dir)?;
    std::thread::scope(|scope| {
        let mut walk = Walk::new(LayerWriter::new(ChunkWriter {
            scope,
            sink: Some(sink),
            thread: None,
            chunk: Vec::new(),
        }));
        walk.tree.update(b"kiln layer 1");
        walk.tar
            .set_epoch_clamp(epoch.and_then(|e| i64::try_from(e).ok()));
        let written = |e| Error::io("write layer", e);
        if let Err(error) = walk.directory(&root, &mut Vec::new()) {
            // The sink's error is the cause if the walker only saw a closed channel.
            let Walk { tar, .. } = walk;
            return match tar.abandon().join() {
                Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => Err(written(cause)),
                _ => Err(error),
            };
        }
        let out = walk.tar.finish().map_err(written)?;
        let (digest, tar_size) = out.finish().map_err(written)?;
        Ok(Packed {
            diff_id: DiffId::from(digest),
            tree: walk.tree.finalize().into(),
            tar_size,
            bytes: walk.bytes,
            epoch,
        })
    })
}

/// Writes `first` and then everything below `dir` to `out`, as a tar.
///
/// # Errors
/// A file cannot be read, or `out` failed.
pub(crate) fn pack_below(dir: &Path, first: &Entry, out: &mut (dyn Write + Send)) -> Result<()> {
    let mut walk = Walk::new(LayerWriter::new(out));
    walk.put(first, None)?;
    walk.directory(&RootDir::open_trusted(dir)?, &mut Vec::new())?;
    let out = walk
        .tar
        .finish()
        .map_err(|e| Error::io("write archive", e))?;
    out.flush().map_err(|e| Error::io("write archive", e))
}

struct Walk<W: Write> {
    tar: LayerWriter<W>,
    tree: blake3::Hasher,
    /// First name of files with several.
    links: HashMap<(u64, u64), Vec<u8>>,
    bytes: u64,
    buffer: Vec<u8>,
}

/// Reads a file and hashes what passes.
struct HashingReader<'a> {
    file: std::fs::File,
    hasher: blake3::Hasher,
    buffer: &'a mut [u8],
    at: usize,
    filled: usize,
}

impl Read for HashingReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.filled {
            self.filled = self.file.read(self.buffer)?;
            self.at = 0;
            self.hasher.update(&self.buffer[..self.filled]);
        }
        let n = out.len().min(self.filled - self.at);
        out[..n].copy_from_slice(&self.buffer[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

impl<W: Write> Walk<W> {
    fn new(tar: LayerWriter<W>) -> Self {
        Self {
            tar,
            tree: blake3::Hasher::new(),
            links: HashMap::new(),
            bytes: 0,
            buffer: Vec::new(),
        }
    }

    fn directory(&mut self, dir: &RootDir, path: &mut Vec<u8>) -> Result<()> {
        let mut names = dir.read_dir(Path::new(""))?;
        names.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in names {
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(entry.name.as_bytes());
            self.object(dir, &entry.name, path)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn object(&mut self, dir: &RootDir, name: &OsStr, path: &mut Vec<u8>) -> Result<()> {
        let name = Path::new(name);
        let st = dir.lstat(name)?;
        if st.is_overlay_whiteout() {
            return self.put(&Entry::new(path.clone(), EntryKind::Whiteout, 0), None);
        }
        let mut open = None;
        let kind = match st.kind {
            FileKind::Directory => EntryKind::Directory,
            FileKind::File => {
                if st.nlink > 1
                    && let Some(first) = self.first_name(&st, path)
                {
                    EntryKind::Hardlink { target: first }
                } else {
                    open = Some(dir.open_read_nofollow(name)?);
                    EntryKind::File { size: st.size }
                }
            }
            FileKind::Symlink => {
                let target = dir.read_link(name)?;
                EntryKind::Symlink {
                    target: target.as_os_str().as_bytes().to_vec(),
                }
            }
            FileKind::CharDevice => EntryKind::CharDevice {
                major: st.rdev.0,
                minor: st.rdev.1,
            },
            FileKind::BlockDevice => EntryKind::BlockDevice {
                major: st.rdev.0,
                minor: st.rdev.1,
            },
            FileKind::Fifo => EntryKind::Fifo,
            // A socket without its server means nothing, and a tar has no form for it.
            FileKind::Socket => return Ok(()),
        };
        let mut inside = None;
        let all = match (&open, st.kind) {
            (Some(fd), _) => xattr::list_open(fd)?,
            (None, FileKind::Directory) => {
                let sub = dir.sub_dir(name)?;
                let list = xattr::list(&sub)?;
                inside = Some(sub);
                list
            }
            _ => Vec::new(),
        };
        let opaque = all
            .iter()
            .any(|(n, v)| n == b"trusted.overlay.opaque" && v == b"y");
        let entry = Entry {
            path: path.clone(),
            kind,
            mode: if st.kind == FileKind::Symlink {
                0o777
            } else {
                st.mode
            },
            uid: st.uid,
            gid: st.gid,
            mtime: Timestamp {
                secs: st.mtime.0,
                nanos: st.mtime.1,
            },
            xattrs: all.into_iter().filter(|(n, _)| is_image_xattr(n)).collect(),
        };
        self.put(&entry, open)?;
        if let Some(inside) = inside {
            if opaque {
                self.put(&Entry::new(path.clone(), EntryKind::Opaque, 0), None)?;
            }
            self.directory(&inside, path)?;
        }
        Ok(())
    }

    /// The name under which a file was seen before.
    fn first_name(&mut self, st: &Stat, path: &[u8]) -> Option<Vec<u8>> {
        match self.links.entry((st.dev, st.ino)) {
            std::collections::hash_map::Entry::Occupied(first) => Some(first.get().clone()),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(path.to_vec());
                None
            }
        }
    }

    fn put(&mut self, entry: &Entry, file: Option<OwnedFd>) -> Result<()> {
        let failed = |e| {
            Error::io(
                format!("read `{}`", String::from_utf8_lossy(&entry.path)),
                e,
            )
        };
        let content = match file {
            None => {
                self.tar
                    .append(entry, &mut std::io::empty())
                    .map_err(failed)?;
                None
            }
            Some(fd) => {
                // Most files are small, and a large buffer has to be cleared first.
                let size = usize::try_from(entry.data_len()).unwrap_or(READ);
                let size = size.next_power_of_two().clamp(SMALL_READ, READ);
                if self.buffer.len() < size {
                    self.buffer.resize(size, 0);
                }
                let mut reader = HashingReader {
                    file: fd.into(),
                    hasher: blake3::Hasher::new(),
                    buffer: &mut self.buffer,
                    at: 0,
                    filled: 0,
                };
                self.tar.append(entry, &mut reader).map_err(failed)?;
                self.bytes += entry.data_len();
                Some(reader.hasher.finalize())
            }
        };
        encode_entry(&mut self.tree, entry, content.as_ref());
        Ok(())
    }
}

/// Appends what identifies an entry: everything but its time.
fn encode_entry(to: &mut blake3::Hasher, entry: &Entry, content: Option<&blake3::Hash>) {
    let mut bytes = Vec::with_capacity(entry.path.len() + 64);
    let mut put = |b: &[u8]| {
        bytes.extend_from_slice(&(b.len() as u64).to_le_bytes());
        bytes.extend_from_slice(b);
    };
    put(&entry.path);
    let (tag, detail): (u8, Vec<u8>) = match &entry.kind {
        EntryKind::Directory => (0, vec![]),
        EntryKind::File { size } => (1, size.to_le_bytes().to_vec()),
        EntryKind::Hardlink { target } => (2, target.clone()),
        EntryKind::Symlink { target } => (3, target.clone()),
        EntryKind::CharDevice { major, minor } => {
            (4, [major.to_le_bytes(), minor.to_le_bytes()].concat())
        }
        EntryKind::BlockDevice { major, minor } => {
            (5, [major.to_le_bytes(), minor.to_le_bytes()].concat())
        }
        EntryKind::Fifo => (6, vec![]),
        EntryKind::Whiteout => (7, vec![]),
        EntryKind::Opaque => (8, vec![]),
    };
    put(&[tag]);
    put(&detail);
    put(&entry.mode.to_le_bytes());
    put(&entry.uid.to_le_bytes());
    put(&entry.gid.to_le_bytes());
    for (name, value) in &entry.xattrs {
        put(name);
        put(value);
    }
    put(content.map_or(&[][..], |c| c.as_bytes()));
    to.update(&bytes);
}
