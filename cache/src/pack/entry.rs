//! What is at a name of a directory, as an entry of a layer's tar.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use kiln_image::{Entry, EntryKind, Timestamp};
use kiln_sys::{FileKind, RootDir, Stat};

use crate::error::Result;

/// Attributes of a file: names and values.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Whether an attribute is part of an image: not those of the overlay or of the host's policy.
pub fn is_image_xattr(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.")
        && !name.starts_with(b"user.overlay.")
        && name != b"security.selinux"
        && !name.starts_with(b"system.")
}

/// The entry at `path`, of what is called `name` in `dir` and has this `st` and these attributes;
/// none for a socket, which means nothing without its server and has no form in a tar.
///
/// # Errors
/// A symbolic link cannot be read.
pub fn tar_entry(
    dir: &RootDir,
    name: &Path,
    st: &Stat,
    path: Vec<u8>,
    attributes: Attributes,
) -> Result<Option<Entry>> {
    let kind = match st.kind {
        FileKind::Directory => EntryKind::Directory,
        FileKind::File => EntryKind::File { size: st.size },
        FileKind::Symlink => EntryKind::Symlink {
            target: dir.read_link(name)?.as_os_str().as_bytes().to_vec(),
        },
        FileKind::CharDevice => EntryKind::CharDevice {
            major: st.rdev.0,
            minor: st.rdev.1,
        },
        FileKind::BlockDevice => EntryKind::BlockDevice {
            major: st.rdev.0,
            minor: st.rdev.1,
        },
        FileKind::Fifo => EntryKind::Fifo,
        FileKind::Socket => return Ok(None),
    };
    let mut xattrs = attributes;
    xattrs.retain(|(name, _)| is_image_xattr(name));
    Ok(Some(Entry {
        path,
        mode: match st.kind {
            FileKind::Symlink => 0o777,
            _ => st.mode,
        },
        kind,
        uid: st.uid,
        gid: st.gid,
        mtime: Timestamp {
            secs: st.mtime.0,
            nanos: st.mtime.1,
        },
        xattrs,
    }))
}
