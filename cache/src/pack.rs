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

use kiln_image::layer::{LayerWriter, Output};
use kiln_image::{DiffId, Digest, Entry, EntryKind, Hasher, Timestamp};
use kiln_solver::key::TreeDigest;
use kiln_sys::{FileKind, RootDir, Stat, xattr};

use crate::error::{Error, Result};
use crate::tree::TreeHasher;

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

/// Bytes that pass between the threads at once; the first are fewer.
const CHUNK: usize = 1 << 20;
/// Chunks that may be on their way.
const IN_FLIGHT: usize = 6;

/// Whether an attribute is part of an image: not those of the overlay or of the host's policy.
pub fn is_image_xattr(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.")
        && !name.starts_with(b"user.overlay.")
        && name != b"security.selinux"
        && !name.starts_with(b"system.")
}

/// The digest of a tar and its bytes.
type Tar = (Digest, u64);

/// Hashes a tar and passes it on. What fits into one buffer is hashed here, the rest by a thread of
/// its own.
struct ChunkWriter<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    sink: Option<&'env mut (dyn Write + Send)>,
    small: Option<Tar>,
    thread: Option<HashingThread<'scope>>,
}

struct HashingThread<'scope> {
    full: mpsc::SyncSender<(Vec<u8>, usize)>,
    empty: mpsc::Receiver<Vec<u8>>,
    handle: ScopedJoinHandle<'scope, std::io::Result<Tar>>,
}

fn broken() -> std::io::Error {
    std::io::ErrorKind::BrokenPipe.into()
}

impl<'scope> ChunkWriter<'scope, '_> {
    /// The thread, which is started the first time.
    fn thread(&mut self) -> std::io::Result<&HashingThread<'scope>> {
        if let Some(sink) = self.sink.take() {
            let (full, from_walker) = mpsc::sync_channel::<(Vec<u8>, usize)>(IN_FLIGHT);
            let (give_back, empty) = mpsc::channel();
            let handle = self.scope.spawn(move || {
                let mut tar = TarHasher::new(sink);
                for (chunk, filled) in from_walker {
                    tar.write(chunk.get(..filled).unwrap_or_default())?;
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
        self.thread.as_ref().ok_or_else(broken)
    }

    fn finish(self) -> std::io::Result<Tar> {
        match self.small {
            Some(tar) => Ok(tar),
            None => self.join(),
        }
    }

    /// The thread's result. Its error says more than that of a closed channel.
    fn join(self) -> std::io::Result<Tar> {
        let Some(HashingThread { full, handle, .. }) = self.thread else {
            return Err(broken());
        };
        drop(full);
        let joined = handle.join();
        joined.unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()))
    }
}

impl Output for ChunkWriter<'_, '_> {
    fn take(&mut self, chunk: Vec<u8>, filled: usize) -> std::io::Result<Vec<u8>> {
        let last = filled < chunk.len();
        if let Some(sink) = self.sink.take_if(|_| last) {
            let mut tar = TarHasher::new(sink);
            tar.write(chunk.get(..filled).unwrap_or_default())?;
            self.small = Some(tar.finish()?);
            return Ok(chunk);
        }
        let thread = self.thread()?;
        let next = thread.empty.try_recv();
        thread.full.send((chunk, filled)).map_err(|_| broken())?;
        Ok(next.unwrap_or_else(|_| vec![0; CHUNK]))
    }

    /// All that was taken is on its way.
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
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

/// As [`pack`], for who wants the tar and its diff id only.
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
        let out = ChunkWriter {
            scope,
            sink: Some(sink),
            small: None,
            thread: None,
        };
        let mut walk = Walk::new(LayerWriter::new(out), tree);
        walk.tar
            .set_epoch_clamp(epoch.and_then(|e| i64::try_from(e).ok()));
        let written = |e| Error::io("write layer", e);
        let walked = walk
            .directory(&root, &mut Vec::new())
            .and_then(|()| walk.tar.end().map_err(written));
        let Walk { tar, bytes, .. } = walk;
        let out = tar.into_output();
        if let Err(error) = walked {
            // The sink's error is the cause if the walker only saw a closed channel.
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
    let mut walk = Walk::new(LayerWriter::new(out), None);
    walk.tar.set_whiteouts(false);
    walk.tar.set_fine_times(true);
    walk.plain = true;
    walk.put(first, None)?;
    walk.directory(&RootDir::open_trusted(dir)?, &mut Vec::new())?;
    let out = walk
        .tar
        .finish()
        .map_err(|e| Error::io("write archive", e))?;
    out.flush().map_err(|e| Error::io("write archive", e))
}

struct Walk<'t, W: Output> {
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
    file: std::fs::File,
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

impl<'t, W: Output> Walk<'t, W> {
    fn new(tar: LayerWriter<W>, tree: Option<&'t mut TreeHasher>) -> Self {
        Self {
            tar,
            tree,
            links: HashMap::new(),
            bytes: 0,
            plain: false,
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
        if st.is_overlay_whiteout() && self.plain {
            return Ok(());
        }
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
            if opaque && !self.plain {
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
                let mut reader = HashingReader {
                    file: fd.into(),
                    hasher: self.tree.as_ref().map(|_| blake3::Hasher::new()),
                };
                self.tar.append(entry, &mut reader).map_err(failed)?;
                self.bytes += entry.data_len();
                reader.hasher.map(|hasher| hasher.finalize())
            }
        };
        if let Some(tree) = &mut self.tree {
            tree.entry(entry, content.as_ref());
        }
        Ok(())
    }
}
