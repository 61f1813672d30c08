//! What a tar needs to know of the names of a layer, looked up ahead of the thread that writes it.

use std::ffi::OsStr;
use std::fs::File;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use kiln_image::{Entry, EntryKind, read_full};
use kiln_sys::{FileKind, FsError, RootDir, xattr};

use super::entry::tar_entry;
use super::names::Name;
use crate::error::{Error, Result};
use crate::image_xattr::OPAQUE;

/// Files of more bytes are left to the thread that writes.
const MOST_HELD: u64 = 64 << 10;

/// One entry.
pub(super) struct Loaded {
    pub(super) entry: Entry,
    /// A directory that shows nothing of below.
    pub(super) opaque: bool,
    /// Device and inode of a file with several names.
    pub(super) shared: Option<(u64, u64)>,
    pub(super) data: Data,
}

/// The content of a file.
pub(super) enum Data {
    /// There is none.
    None,
    /// Bytes of the batch, and their digest if one was wanted.
    Held(Range<usize>, Option<blake3::Hash>),
    /// It is still to be read.
    Open(OwnedFd),
}

/// Some entries that follow each other.
pub(super) struct Batch {
    pub(super) loaded: Vec<Loaded>,
    /// Contents.
    pub(super) space: Vec<u8>,
    /// Why there are no more.
    pub(super) error: Option<Error>,
}

/// Looks at `names`, and reads contents as long as there is room in `space`.
pub(super) fn load(names: Vec<Name>, mut space: Vec<u8>, hashed: bool) -> Batch {
    let mut loaded = Vec::with_capacity(names.len());
    let mut room = Room {
        space: &mut space,
        used: 0,
        hashed,
    };
    let mut error = None;
    for name in names {
        let path = name.path.clone();
        match one(name, &mut room) {
            Ok(Some(one)) => loaded.push(one),
            Ok(None) => {}
            Err(Error::System(failed)) => {
                let path = Path::new(OsStr::from_bytes(&path));
                error = Some(FsError::new(failed.op, path, failed.source).into());
                break;
            }
            Err(failed) => {
                error = Some(failed);
                break;
            }
        }
    }
    Batch {
        loaded,
        space,
        error,
    }
}

/// Where contents go.
struct Room<'a> {
    space: &'a mut [u8],
    used: usize,
    hashed: bool,
}

impl Room<'_> {
    /// The content of a file of `size` bytes, in memory if it fits.
    fn take(&mut self, fd: OwnedFd, size: u64, path: &[u8]) -> Result<Data> {
        let end = usize::try_from(size)
            .ok()
            .and_then(|s| s.checked_add(self.used));
        let place = end.and_then(|end| self.space.get_mut(self.used..end));
        let Some(place) = place.filter(|_| size <= MOST_HELD) else {
            return Ok(Data::Open(fd));
        };
        // If bytes are missing, the writer finds out.
        let read = read_full(&mut File::from(fd), place).map_err(|e| {
            let path = String::from_utf8_lossy(path);
            Error::io(format!("read `{path}`"), e)
        })?;
        let held = self.used..self.used + read;
        let digest = self.hashed.then(|| blake3::hash(&place[..read]));
        self.used = held.end;
        Ok(Data::Held(held, digest))
    }
}

/// What is at a name; nothing for what no tar has.
fn one(found: Name, room: &mut Room<'_>) -> Result<Option<Loaded>> {
    let name = Path::new(&found.name);
    let mut file = None;
    let st = match (&found.inside, found.kind) {
        (Some(inside), _) => inside.lstat(Path::new(""))?,
        (None, FileKind::File) => {
            let fd = found.dir.open_read_nofollow(name)?;
            let st = RootDir::stat_of(&fd)?;
            file = Some(fd);
            st
        }
        _ => found.dir.lstat(name)?,
    };
    if st.is_overlay_whiteout() {
        let entry = Entry::new(found.path, EntryKind::Whiteout, 0);
        return Ok(Some(Loaded {
            entry,
            opaque: false,
            shared: None,
            data: Data::None,
        }));
    }
    let all = match (&file, &found.inside) {
        (Some(fd), _) => xattr::list_open(fd)?,
        (None, Some(inside)) => xattr::list(inside)?,
        _ => Vec::new(),
    };
    let opaque = all.iter().any(|(n, v)| n == OPAQUE && v == b"y");
    let Some(entry) = tar_entry(&found.dir, name, &st, found.path, all)? else {
        return Ok(None);
    };
    let shared = (file.is_some() && st.nlink > 1).then_some((st.dev, st.ino));
    let data = match file {
        None => Data::None,
        // Its other name may have brought the content already.
        Some(fd) if shared.is_some() => Data::Open(fd),
        Some(fd) => room.take(fd, st.size, &entry.path)?,
    };
    Ok(Some(Loaded {
        entry,
        opaque,
        shared,
        data,
    }))
}
