//! What is at a name of a directory, as an entry of a layer's tar.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use kiln_image::{Entry, EntryKind, Timestamp};
use kiln_sys::{FileKind, RootDir, Stat, xattr};

use crate::error::Result;

/// Attributes of a file: names and values.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// The attributes that hold POSIX ACLs.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", DEFAULT_ACL];
/// The one that what is made in a directory inherits.
pub(crate) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// The attribute of a directory of which nothing below shows.
pub(crate) const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// The attribute that holds a file's capabilities (`linux/capability.h`, `vfs_ns_cap_data`).
const CAPABILITIES: &[u8] = b"security.capability";

/// Whether an attribute is part of an image: not those of the overlay, of the file system or of the
/// host's policy.
pub fn is_image_xattr(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.")
        && !name.starts_with(b"user.overlay.")
        && name != b"security.selinux"
        && (!name.starts_with(b"system.") || is_acl(name))
}

/// Whether a directory of a layer shows nothing of what the layers below have there.
///
/// # Errors
/// Its attributes cannot be read.
pub fn is_opaque(dir: impl AsFd) -> Result<bool> {
    Ok(xattr::get(dir, OPAQUE)?.is_some_and(|value| value == b"y"))
}

/// Whether an attribute holds a POSIX ACL.
pub fn is_acl(name: &[u8]) -> bool {
    ACLS.contains(&name)
}

/// Makes capabilities of version 3 those of version 2, as others store them in layers: they are the
/// same but for the user of this host whose namespace they are for.
fn without_namespace(name: &[u8], value: &mut Vec<u8>) {
    /// A word with the version in its highest byte, two pairs of words, and the user in version 3.
    const VERSION_AT: usize = 3;
    const SIZE_2: usize = 20;
    const SIZE_3: usize = 24;
    if name == CAPABILITIES && value.len() == SIZE_3 && value.get(VERSION_AT) == Some(&3) {
        value.truncate(SIZE_2);
        if let Some(version) = value.get_mut(VERSION_AT) {
            *version = 2;
        }
    }
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
    for (name, value) in &mut xattrs {
        without_namespace(name, value);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_lose_the_namespace_they_are_for() {
        let words = [1_u32 << 10, 0, 0, 0].map(u32::to_le_bytes).concat();
        let value = |version: u32, rest: &[u8]| {
            let magic = (version << 24 | 1).to_le_bytes();
            [&magic[..], &words, rest].concat()
        };
        let v2 = value(2, &[]);
        let v3 = value(3, &100_000_u32.to_le_bytes());
        for (name, before, after) in [
            ("security.capability", &v3, &v2),
            ("security.capability", &v2, &v2),
            ("security.other", &v3, &v3),
        ] {
            let mut given = before.clone();
            without_namespace(name.as_bytes(), &mut given);
            assert_eq!(&given, after, "{name}");
        }
    }
}
