//! From a layer's directory to its tar, diff id and tree digest, in one pass.
//!
//! One thread walks, reads and hashes file contents; another hashes the tar that comes out.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::mpsc;

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
/// Size of reads.
const READ: usize = 256 << 10;

/// Whether an attribute is part of an image: not those of the overlay or of the host's policy.
pub fn is_image_xattr(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.")
        && !name.starts_with(b"user.overlay.")
        && name != b"security.selinux"
        && !name.starts_with(b"system.")
}

/// Hands chunks to another thread.
struct ChunkWriter {
    full: mpsc::SyncSender<Vec<u8>>,
    empty: mpsc::Receiver<Vec<u8>>,
    chunk: Vec<u8>,
}

impl ChunkWriter {
    fn pass_on(&mut self) -> std::io::Result<()> {
        let next = self
            .empty
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        let chunk = std::mem::replace(&mut self.chunk, next);
        self.full
            .send(chunk)
            .map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.chunk.len() >= CHUNK {
            self.pass_on()?;
        }
        let n = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.chunk.is_empty() {
            Ok(())
        } else {
            self.pass_on()
        }
    }
}

/// Reads the layer at `dir`, clamps times to `epoch` (seconds since 1970), and writes its tar to
/// `sink` as it goes.
///
/// # Errors
/// A file cannot be read, or `sink` failed.
pub fn pack(dir: &Path, epoch: Option<u64>, sink: &mut (dyn Write + Send)) -> Result<Packed> {
    let root = RootDir::open_trusted(dir)?;
    let (full, from_walker) = mpsc::sync_channel::<Vec<u8>>(IN_FLIGHT);
    let (give_back, empty) = mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        let hashing = scope.spawn(move || -> std::io::Result<(Digest, u64)> {
            let (mut hasher, mut size) = (Hasher::sha256(), 0);
            for mut chunk in from_walker {
                hasher.update(&chunk);
                sink.write_all(&chunk)?;
                size += chunk.len() as u64;
                chunk.clear();
                // The walker may be done and not want it back.
                let _ = give_back.send(chunk);
            }
            sink.flush()?;
            Ok((hasher.finish(), size))
        });
        let walked = walk_all(
            &root,
            epoch,
            ChunkWriter {
                full,
                empty,
                chunk: Vec::new(),
            },
        );
        let hashed = hashing
            .join()
            .unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()));
        match (walked, hashed) {
            (Ok((tree, bytes)), Ok((digest, tar_size))) => Ok(Packed {
                diff_id: DiffId::from(digest),
                tree,
                tar_size,
                bytes,
                epoch,
            }),
            // The sink's error is the cause if the walker only saw a closed channel.
            (_, Err(e)) => Err(Error::io("write layer", e)),
            (Err(e), Ok(_)) => Err(e),
        }
    })
}

fn walk_all(root: &RootDir, epoch: Option<u64>, out: ChunkWriter) -> Result<(TreeDigest, u64)> {
    let mut tar = LayerWriter::new(out);
    tar.set_epoch_clamp(epoch.and_then(|e| i64::try_from(e).ok()));
    let mut walk = Walk {
        tar,
        tree: blake3::Hasher::new(),
        links: HashMap::new(),
        bytes: 0,
        buffer: vec![0; READ],
    };
    walk.tree.update(b"kiln layer 1");
    walk.directory(root, &mut Vec::new())?;
    let mut out = walk.tar.finish().map_err(|e| Error::io("write layer", e))?;
    out.flush().map_err(|e| Error::io("write layer", e))?;
    Ok((walk.tree.finalize().into(), walk.bytes))
}

struct Walk {
    tar: LayerWriter<ChunkWriter>,
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

impl Walk {
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
