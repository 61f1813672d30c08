//! What it takes to bring a cache mount in from elsewhere and to send it on: an empty one to fill, one
//! that nobody uses to read, and the knowledge whether it has changed since.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use kiln_sys::{FileKind, RootDir};

use crate::error::{Error, Result};
use crate::mount_archive::exchange;
use crate::mounts::{MountUse, home_of, is_empty};
use crate::store::MountStore;
use kiln_sys::lock::RangeLock;

/// How often a lock is tried that others may hold for a moment.
const TRIES: u32 = 10;

/// A cache mount that nobody can use while this is held.
#[derive(Debug)]
pub struct IdleMount {
    /// Its directory.
    pub(crate) path: PathBuf,
    _lock: RangeLock,
}

/// Whether a cache mount can be read.
#[derive(Debug)]
pub enum Idle {
    /// Nobody uses it.
    Free(IdleMount),
    /// A step does.
    Busy,
    /// There is none.
    Gone,
}

/// What a look at all files of a mount tells, without reading them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountState {
    /// Changes whenever a file does.
    pub stamp: String,
    /// Bytes of its files.
    pub bytes: u64,
}

impl MountStore<'_> {
    /// Whether a cache mount is not there or empty, and nobody uses it. Waits a moment for those who
    /// only look at it.
    ///
    /// # Errors
    /// The mount cannot be looked at.
    pub fn is_mount_empty(&self, id: &str, number: u32) -> Result<bool> {
        let (home, _) = home_of(id, number);
        for _ in 0..TRIES {
            if !is_empty(&self.mount_path(&home).join("data"))? {
                return Ok(false);
            }
            if self.lock_mount(&home, false)?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(Self::pause());
        }
        Ok(false)
    }

    /// Makes the directory `dir` a cache mount, if that is still empty and nobody uses it. Returns
    /// what it looks like then.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn fill_mount(&self, id: &str, number: u32, dir: &Path) -> Result<Option<MountState>> {
        let how = MountUse::Moved;
        for _ in 0..TRIES {
            if let Some(mount) = self.try_numbered(None, (id, number), how, &mut |_| Ok(()))? {
                if !is_empty(&mount.path)? {
                    return Ok(None);
                }
                return self.fill_taken(&mount.path, dir).map(Some);
            }
            std::thread::sleep(Self::pause());
        }
        Ok(None)
    }

    /// The same for a mount that the caller holds alone: `path` is its directory.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn fill_taken(&self, path: &Path, dir: &Path) -> Result<MountState> {
        exchange(self, path, dir)?;
        look(path)
    }

    /// A cache mount, if nobody uses it now; nobody can while what this returns is held.
    ///
    /// # Errors
    /// The lock cannot be had for another reason.
    pub fn idle_mount(&self, id: &str, number: u32) -> Result<Idle> {
        let (home, _) = home_of(id, number);
        let Some(lock) = self.lock_mount(&home, false)? else {
            return Ok(Idle::Busy);
        };
        let path = self.mount_path(&home).join("data");
        if !path.is_dir() {
            return Ok(Idle::Gone);
        }
        Ok(Idle::Free(IdleMount { path, _lock: lock }))
    }

    /// Whether a mount looks as it did when it was last the same as what is in the place `place`.
    pub fn is_synced(&self, id: &str, number: u32, place: &str, state: &MountState) -> bool {
        // Not known is not the same.
        std::fs::read_to_string(self.sync_note(id, number, place)).is_ok_and(|s| s == state.stamp)
    }

    /// Notes that a mount is the same as what is in the place `place`.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note_synced(
        &self,
        id: &str,
        number: u32,
        place: &str,
        state: &MountState,
    ) -> Result<()> {
        let note = self.sync_note(id, number, place);
        std::fs::write(note, &state.stamp).map_err(|e| Error::io("note state of cache mount", e))
    }

    fn sync_note(&self, id: &str, number: u32, place: &str) -> PathBuf {
        let name = blake3::hash(place.as_bytes()).to_hex();
        let (home, _) = home_of(id, number);
        self.mount_path(&home).join(format!("synced-{name}"))
    }
}

impl IdleMount {
    /// What it looks like.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn state(&self) -> Result<MountState> {
        look(&self.path)
    }
}

fn look(data: &Path) -> Result<MountState> {
    let root = RootDir::open_trusted(data)?;
    let mut look = Look {
        hasher: blake3::Hasher::new_derive_key("kiln cache mount 2026 state"),
        linked: HashSet::new(),
        bytes: 0,
    };
    look.object(&root, Path::new(""))?;
    look.directory(&root)?;
    Ok(MountState {
        stamp: look.hasher.finalize().to_hex().to_string(),
        bytes: look.bytes,
    })
}

struct Look {
    hasher: blake3::Hasher,
    linked: HashSet<(u64, u64)>,
    bytes: u64,
}

impl Look {
    fn object(&mut self, dir: &RootDir, name: &Path) -> Result<FileKind> {
        use std::os::unix::ffi::OsStrExt as _;
        let st = dir.lstat(name)?;
        let name = name.as_os_str().as_bytes();
        self.hasher.update(&(name.len() as u64).to_le_bytes());
        self.hasher.update(name);
        let numbers = [
            u64::from(st.mode),
            u64::from(st.uid),
            u64::from(st.gid),
            st.size,
            st.dev,
            st.ino,
            st.nlink,
            st.mtime.0.cast_unsigned(),
            u64::from(st.mtime.1),
            // Nobody can set this one.
            st.ctime.0.cast_unsigned(),
            u64::from(st.ctime.1),
        ];
        for number in numbers {
            self.hasher.update(&number.to_le_bytes());
        }
        if st.is_file() && (st.nlink == 1 || self.linked.insert((st.dev, st.ino))) {
            self.bytes = self.bytes.saturating_add(st.size);
        }
        Ok(st.kind)
    }

    fn directory(&mut self, dir: &RootDir) -> Result<()> {
        let mut entries = dir.read_dir(Path::new(""))?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        self.hasher.update(&(entries.len() as u64).to_le_bytes());
        for entry in entries {
            let name = Path::new(&entry.name);
            if self.object(dir, name)? == FileKind::Directory {
                self.directory(&dir.sub_dir(name)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn made(store: &Store, id: &str, how: MountUse) -> crate::CacheMountDir {
        let made = store
            .cache_mounts()
            .try_cache_mount(None, id, how, &mut |_| Ok(()));
        made.unwrap().unwrap()
    }

    #[test]
    fn only_a_mount_that_is_empty_and_free_is_filled() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(store.cache_mounts().is_mount_empty("a", 0).unwrap());
        let content = |text: &str| {
            let scratch = store.scratch().unwrap();
            let data = scratch.path().join("data");
            std::fs::create_dir(&data).unwrap();
            std::fs::write(data.join("file"), text).unwrap();
            (scratch, data)
        };
        let (_scratch, data) = content("one");

        let used = made(&store, "a", MountUse::Shared);
        assert!(
            !store.cache_mounts().is_mount_empty("a", 0).unwrap(),
            "it is used"
        );
        assert!(store.cache_mounts().is_mount_empty("a", 1).unwrap());
        assert!(
            store
                .cache_mounts()
                .fill_mount("a", 0, &data)
                .unwrap()
                .is_none()
        );
        assert!(used.is_new);
        drop(used);
        assert!(store.cache_mounts().is_mount_empty("a", 0).unwrap());
        let state = store
            .cache_mounts()
            .fill_mount("a", 0, &data)
            .unwrap()
            .unwrap();
        assert_eq!(state.bytes, 3);
        assert!(!store.cache_mounts().is_mount_empty("a", 0).unwrap());
        let (_scratch, data) = content("two");
        assert!(
            store
                .cache_mounts()
                .fill_mount("a", 0, &data)
                .unwrap()
                .is_none()
        );
        let used = made(&store, "a", MountUse::Shared);
        assert!(!used.is_new);
        assert_eq!(std::fs::read(used.path.join("file")).unwrap(), b"one");
    }

    #[test]
    fn a_mount_is_read_when_nobody_uses_it_and_changes_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(matches!(
            store.cache_mounts().idle_mount("a", 0).unwrap(),
            Idle::Gone
        ));
        let used = made(&store, "a", MountUse::Shared);
        std::fs::write(used.path.join("file"), "one").unwrap();
        assert!(matches!(
            store.cache_mounts().idle_mount("a", 0).unwrap(),
            Idle::Busy
        ));
        let path = used.path.clone();
        drop(used);
        let state = || match store.cache_mounts().idle_mount("a", 0).unwrap() {
            Idle::Free(mount) => mount.state().unwrap(),
            other => panic!("{other:?}"),
        };
        let before = state();
        assert!(!store.cache_mounts().is_synced("a", 0, "there", &before));
        store
            .cache_mounts()
            .note_synced("a", 0, "there", &before)
            .unwrap();
        assert!(store.cache_mounts().is_synced("a", 0, "there", &state()));
        assert!(
            !store
                .cache_mounts()
                .is_synced("a", 0, "elsewhere", &state())
        );
        std::os::unix::fs::symlink("file", path.join("link")).unwrap();
        assert!(!store.cache_mounts().is_synced("a", 0, "there", &state()));
    }
}
