//! Files of an archive by name, from a directory or from a tar that can be read at any offset.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_sys::{Pipes, RootDir, open_named};

use super::{ArchiveError, BLOBS};
use crate::compression::Compression;
use crate::layer::{
    EntryKind, LayerError, LayerReader, Limits, Run, SparseCursor, SparseMap, clean_path,
};

/// Files that an archive may hold. Real ones have a few hundred.
const MAX_MEMBERS: u64 = 1 << 20;
/// Links that are followed in a row.
const MAX_LINKS: usize = 16;

#[derive(Debug)]
pub(super) enum Source {
    Directory { root: RootDir, path: PathBuf },
    Tar(Arc<File>, HashMap<Vec<u8>, Member>),
}

#[derive(Debug)]
pub(super) enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// A file with holes, of which the parts lie one after the other.
    Sparse {
        offset: u64,
        map: Arc<SparseMap>,
    },
    Link(Vec<u8>),
}

impl Source {
    pub(super) fn directory(path: &Path) -> Result<Self, ArchiveError> {
        let (root, path) = (RootDir::open_trusted(path)?, path.into());
        Ok(Self::Directory { root, path })
    }

    /// Records where the files of a tar lie. Of two with one name the later counts.
    pub(super) fn tar(mut file: File) -> Result<Self, ArchiveError> {
        let error = ArchiveError::io("archive");
        let mut start = [0; Compression::MAGIC_LEN];
        let length = file.metadata().and_then(|metadata| {
            let n = file.read_at(&mut start, 0)?;
            file.seek(SeekFrom::Start(0))?;
            Ok((metadata.len(), n))
        });
        let (length, n) = length.map_err(error)?;
        match Compression::detect(start.get(..n).unwrap_or_default()) {
            Compression::None => {}
            other => return Err(ArchiveError::Compressed(other)),
        }
        let limits = Limits {
            entries: MAX_MEMBERS,
            ..Limits::default()
        };
        let mut reader = LayerReader::new(&file).whiteouts(false).limits(limits);
        let mut members = HashMap::new();
        loop {
            let entry = match reader.next_seeking() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(LayerError::NotTar) => return Err(ArchiveError::UnknownFormat),
                Err(error) => return Err(error.into()),
            };
            let member = match entry.kind {
                EntryKind::File { size } => {
                    let offset = reader.position();
                    let map = reader.sparse_map();
                    let stored =
                        map.map_or(size, |map| map.parts().iter().map(|part| part.1).sum());
                    if offset.checked_add(stored).is_none_or(|end| end > length) {
                        return Err(LayerError::Truncated.into());
                    }
                    match map {
                        Some(map) => Member::Sparse {
                            offset,
                            map: Arc::new(map.clone()),
                        },
                        None => Member::File { offset, size },
                    }
                }
                EntryKind::Hardlink { target } => Member::Link(target),
                EntryKind::Symlink { target } => match resolve(&entry.path, &target) {
                    Some(target) => Member::Link(target),
                    // Only an archive that uses the link is refused.
                    None => continue,
                },
                _ => continue,
            };
            members.insert(entry.path, member);
        }
        drop(reader);
        Ok(Self::Tar(Arc::new(file), members))
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.open(path).is_ok()
    }

    /// Opens a file; returns its size with it.
    pub(super) fn open(&self, path: &str) -> Result<(u64, Box<dyn Read + Send>), ArchiveError> {
        let clean = clean_path(path.as_bytes()).filter(|clean| !clean.is_empty());
        let mut at = clean.ok_or_else(|| ArchiveError::UnsafePath(path.into()))?;
        match self {
            Self::Directory { root, path: dir } => {
                let at = Path::new(OsStr::from_bytes(&at));
                // Blobs may be links to anywhere, as some builders lay them out: what is read is
                // checked against the digest that is their name. Nothing tells what else should be.
                let opened = match at.starts_with(BLOBS) {
                    true => open_named(&dir.join(at), Pipes::Refused),
                    false => root.open_regular(at),
                };
                let file = match opened {
                    Err(error) if error.is_not_found() => {
                        return Err(ArchiveError::Missing(path.into()));
                    }
                    opened => opened?,
                };
                let size = RootDir::stat_of(&file)?.size;
                Ok((size, Box::new(file.take(size))))
            }
            Self::Tar(file, members) => {
                for _ in 0..MAX_LINKS {
                    match members.get(&at) {
                        None => return Err(ArchiveError::Missing(path.into())),
                        Some(Member::Link(target)) => at.clone_from(target),
                        Some(Member::File { offset, size }) => {
                            let (file, offset) = (Arc::clone(file), *offset);
                            let end = offset.saturating_add(*size);
                            return Ok((*size, Box::new(Slice { file, offset, end })));
                        }
                        Some(Member::Sparse { offset, map }) => {
                            let reader = SparseSlice {
                                stored: Slice {
                                    file: Arc::clone(file),
                                    offset: *offset,
                                    end: u64::MAX,
                                },
                                map: Arc::clone(map),
                                cursor: SparseCursor::default(),
                            };
                            return Ok((map.size(), Box::new(reader)));
                        }
                    }
                }
                Err(ArchiveError::UnsafePath(path.into()))
            }
        }
    }

    /// Reads a whole file of at most `limit` bytes.
    pub(super) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let (size, reader) = self.open(path)?;
        if size > limit {
            return Err(ArchiveError::TooLarge {
                path: path.into(),
                limit,
            });
        }
        let mut bytes = Vec::new();
        reader
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(ArchiveError::io(path))?;
        Ok(bytes)
    }
}

/// Where a symbolic link inside the archive points, if that is inside the archive.
fn resolve(link: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    if target.starts_with(b"/") {
        return None;
    }
    let mut parts: Vec<&[u8]> = link.split(|b| *b == b'/').collect();
    parts.pop();
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// A part of a file, read without touching the file's position.
struct Slice {
    file: Arc<File>,
    offset: u64,
    end: u64,
}

impl Read for Slice {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let length = left.min(space.len());
        let Some(space) = space.get_mut(..length).filter(|space| !space.is_empty()) else {
            return Ok(0);
        };
        let n = self.file.read_at(space, self.offset)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += n as u64;
        Ok(n)
    }
}

/// A file with holes, which are read as zeros.
struct SparseSlice {
    stored: Slice,
    map: Arc<SparseMap>,
    cursor: SparseCursor,
}

impl Read for SparseSlice {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let run = self.cursor.run(&self.map);
        let Some(Run::Data(left) | Run::Hole(left)) = run else {
            return Ok(0);
        };
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(space.len());
        let space = space.get_mut(..length).unwrap_or_default();
        let n = match run {
            Some(Run::Data(_)) => self.stored.read(space)?,
            _ => {
                space.fill(0);
                length
            }
        };
        self.cursor.advance(&self.map, n as u64);
        Ok(n)
    }
}
