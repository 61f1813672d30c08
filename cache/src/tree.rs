//! The digest of a layer's content: everything but its times.

use kiln_image::{Entry, EntryKind};
use kiln_solver::key::TreeDigest;

use crate::image_xattr::{is_acl, is_image_xattr};

/// Hashes the entries of a layer in the order of a tar that kiln writes: a directory before what is in
/// it, and what is in it by name.
#[derive(Debug)]
pub(crate) struct TreeHasher {
    hasher: blake3::Hasher,
}

impl TreeHasher {
    pub(crate) fn new() -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"kiln layer 1");
        Self { hasher }
    }

    /// One more entry; `content` is that of a file.
    pub(crate) fn entry(&mut self, entry: &Entry, content: Option<&blake3::Hash>) {
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
        self.hasher.update(&bytes);
    }

    pub(crate) fn finish(&self) -> TreeDigest {
        self.hasher.finalize().into()
    }
}

/// Hashes a tar while it is unpacked. Its entries are the directory that comes of it only if they are
/// those that kiln would write: each once, in order, with all directories above it. Of any other tar no
/// digest is given.
#[derive(Debug)]
pub(crate) struct TarTree {
    hasher: TreeHasher,
    /// The directories around the last entry, the root first, with the last name in each; empty after
    /// an entry that kiln would not write.
    around: Vec<(Vec<u8>, Vec<u8>)>,
    /// The last entry was a directory, which may be opaque.
    after_directory: bool,
}

impl TarTree {
    pub(crate) fn new() -> Self {
        Self {
            hasher: TreeHasher::new(),
            around: vec![(Vec::new(), Vec::new())],
            // The root has no entry of its own.
            after_directory: true,
        }
    }

    pub(crate) fn entry(&mut self, entry: &Entry, content: Option<&blake3::Hash>) {
        if self.is_next(entry) {
            self.hasher.entry(entry, content);
        } else {
            self.around.clear();
        }
    }

    /// The directory is not what the entries say.
    pub(crate) fn give_up(&mut self) {
        self.around.clear();
    }

    /// The digest of the tree that the tar holds.
    pub(crate) fn finish(&self) -> Option<TreeDigest> {
        (!self.around.is_empty()).then(|| self.hasher.finish())
    }

    fn is_next(&mut self, entry: &Entry) -> bool {
        let plain = Entry::new(entry.path.clone(), entry.kind.clone(), 0);
        let known = match &entry.kind {
            // Its attributes are those of another entry, which was a file or not.
            EntryKind::Hardlink { .. } => false,
            EntryKind::Whiteout | EntryKind::Opaque => {
                let timeless = Entry {
                    mtime: plain.mtime,
                    ..entry.clone()
                };
                timeless == plain
            }
            EntryKind::Symlink { .. } => entry.mode == 0o777,
            _ => true,
        };
        let attributes = match &entry.kind {
            EntryKind::File { .. } | EntryKind::Directory => {
                entry.xattrs.iter().all(|(name, _)| {
                    // The kernel may give capabilities and ACLs back in another form.
                    is_image_xattr(name) && name != b"security.capability" && !is_acl(name)
                })
            }
            _ => entry.xattrs.is_empty(),
        };
        // "Nobody in particular": it changes nothing.
        let owner = entry.uid != u32::MAX && entry.gid != u32::MAX;
        let ordered = entry.xattrs.windows(2).all(|two| two[0].0 < two[1].0);
        known && attributes && owner && ordered && self.is_in_order(entry)
    }

    fn is_in_order(&mut self, entry: &Entry) -> bool {
        let is_directory = entry.kind == EntryKind::Directory;
        let after_directory = std::mem::replace(&mut self.after_directory, is_directory);
        if entry.kind == EntryKind::Opaque {
            // Right behind its directory.
            let last = self.around.last();
            return after_directory && last.is_some_and(|(dir, _)| *dir == entry.path);
        }
        let (dir, name) = match entry.path.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&entry.path[..slash], &entry.path[slash + 1..]),
            None => (&entry.path[..0], &entry.path[..]),
        };
        while self.around.last().is_some_and(|(around, _)| around != dir) {
            self.around.pop();
        }
        let Some((_, last)) = self.around.last_mut() else {
            return false;
        };
        if name.is_empty() || name <= last.as_slice() {
            return false;
        }
        last.clear();
        last.extend_from_slice(name);
        if is_directory {
            self.around.push((entry.path.clone(), Vec::new()));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use kiln_image::Timestamp;

    use super::*;

    /// Layers that are stored are known by it: where it changes, `kiln_solver::key::VERSION` does.
    #[test]
    fn the_digest_of_a_layer_in_this_version() {
        let kinds = [
            EntryKind::Directory,
            EntryKind::File { size: 3 },
            EntryKind::Hardlink {
                target: b"d/1".to_vec(),
            },
            EntryKind::Symlink {
                target: b"../x".to_vec(),
            },
            EntryKind::CharDevice { major: 1, minor: 3 },
            EntryKind::BlockDevice { major: 7, minor: 0 },
            EntryKind::Fifo,
            EntryKind::Whiteout,
            EntryKind::Opaque,
        ];
        let mut hasher = TreeHasher::new();
        for (number, kind) in kinds.into_iter().enumerate() {
            let content = matches!(kind, EntryKind::File { .. }).then(|| blake3::hash(b"abc"));
            let entry = Entry {
                path: format!("d/{number}").into_bytes(),
                kind,
                mode: 0o640,
                uid: 1000,
                gid: 7,
                mtime: Timestamp::default(),
                xattrs: vec![(b"user.a".to_vec(), b"v".to_vec())],
            };
            hasher.entry(&entry, content.as_ref());
        }
        assert_eq!(
            hasher.finish().to_hex(),
            "d947231c92e73cebb9719c0c25cc4f989f3a04792a85667850be49700589440f"
        );
    }
}
