//! Cache mounts as archives: a tar, compressed with zstd, whose first entry is the mount itself.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::path::Path;

use kiln_image::compression::{Encoder, decoder};
use kiln_image::{Compression, Entry, EntryKind, Timestamp};
use kiln_sys::{RootDir, xattr};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::error::{Error, Result};
use crate::image_xattr::is_image_xattr;
use crate::mounts::MountUse;
use crate::pack::pack_below;
use crate::store::{MountStore, Store};
use crate::unpack::{UnpackOptions, unpack};

impl MountStore<'_> {
    /// Writes the cache mount `id`, which nobody may use meanwhile, to `out`. Returns `out`, or
    /// nothing if a step uses it now.
    ///
    /// # Errors
    /// There is no such mount, it cannot be read, or `out` failed.
    pub fn export_mount<W: Write + Send>(&self, id: &str, out: W) -> Result<Option<W>> {
        if !self.mounts()?.iter().any(|m| m.id == id && m.number == 0) {
            return Err(Error::NoMount(id.to_owned()));
        }
        let mut none = |_: &RootDir| Err(Error::NoMount(id.to_owned()));
        let Some(mount) = self.try_cache_mount(None, id, MountUse::Moved, &mut none)? else {
            return Ok(None);
        };
        let failed = |e| Error::io("write archive", e);
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut encoder = Encoder::new(out, Compression::Zstd, None, threads).map_err(failed)?;
        pack_mount(&mount.path, &mut encoder)?;
        Ok(Some(encoder.finish().map_err(failed)?))
    }

    /// Makes what `input` holds, in any compression, the cache mount `id`, in place of the one that
    /// is there. False if a step uses it now.
    ///
    /// # Errors
    /// The archive is malformed, or the store cannot be written.
    pub fn import_mount(&self, id: &str, input: Box<dyn Read + Send>) -> Result<bool> {
        let scratch = self.scratch()?;
        let dir = scratch.path().join("data");
        std::fs::create_dir(&dir).map_err(|e| Error::io("make cache mount", e))?;
        let root = RootDir::open_trusted(&dir)?;
        root.chmod(Path::new(""), 0o755)?;
        let (_, plain) = decoder(input).map_err(|e| Error::io("read archive", e))?;
        let options = UnpackOptions::default();
        let mut plain = BufReader::new(plain);
        let failed = |e| Error::io("read archive", e);
        if plain.fill_buf().map_err(failed)?.is_empty() {
            // What should have made it has failed; as a tar it would be an empty mount.
            let why = "there is not one byte in it";
            return Err(failed(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                why,
            )));
        }
        unpack(plain, &root, &options)?;
        let Some(mount) = self.try_cache_mount(None, id, MountUse::Moved, &mut |_| Ok(()))? else {
            return Ok(false);
        };
        exchange(self, &mount.path, &dir)?;
        Ok(true)
    }
}

/// Writes a mount's directory to `out` as a tar whose first entry is the mount itself.
pub(crate) fn pack_mount(dir: &Path, out: &mut (dyn Write + Send)) -> Result<()> {
    let root = RootDir::open_trusted(dir)?;
    let st = root.stat(Path::new(""))?;
    let mut own = Entry::new("", EntryKind::Directory, st.mode);
    (own.uid, own.gid) = (st.uid, st.gid);
    own.mtime = Timestamp {
        secs: st.mtime.0,
        nanos: st.mtime.1,
    };
    let xattrs = xattr::list(&root)?;
    own.xattrs = xattrs
        .into_iter()
        .filter(|(n, _)| is_image_xattr(n))
        .collect();
    pack_below(dir, &own, out)
}

/// Puts `dir` in the place of a mount's directory, and that in the place of `dir`. At every moment one
/// of them is the mount.
pub(crate) fn exchange(store: &Store, path: &Path, dir: &Path) -> Result<()> {
    use rustix::io::Errno;
    let flags = RenameFlags::EXCHANGE;
    match renameat_with(CWD, dir, CWD, path, flags) {
        Ok(()) => Ok(()),
        // There is none, or the file system cannot exchange.
        Err(e @ (Errno::NOENT | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)) => {
            if e != Errno::NOENT {
                store.discard(path)?;
            }
            std::fs::rename(dir, path).map_err(|e| Error::io("name cache mount", e))
        }
        Err(e) => Err(Error::io("exchange cache mount", e.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_is_replaced_is_whole_at_every_moment() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mount =
            store
                .cache_mounts()
                .try_cache_mount(None, "one", MountUse::Locked, &mut |_| Ok(()));
        let mount = mount.unwrap().unwrap();
        std::fs::write(mount.path.join("old"), "").unwrap();
        let scratch = store.scratch().unwrap();
        let new = scratch.path().join("data");
        std::fs::create_dir(&new).unwrap();
        std::fs::write(new.join("new"), "").unwrap();
        let trash = || std::fs::read_dir(dir.path().join("trash")).unwrap().count();
        let before = trash();
        exchange(&store, &mount.path, &new).unwrap();
        assert!(mount.path.join("new").is_file());
        assert!(new.join("old").is_file());
        assert_eq!(trash(), before);
        // One that is gone is made.
        std::fs::remove_dir_all(&mount.path).unwrap();
        exchange(&store, &mount.path, &new).unwrap();
        assert!(mount.path.join("old").is_file());
    }

    #[test]
    fn no_bytes_at_all_are_no_mount() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let import =
            |bytes: &'static [u8]| store.cache_mounts().import_mount("one", Box::new(bytes));
        assert!(import(b"").is_err());
        assert!(store.cache_mounts().mounts().unwrap().is_empty());
        assert!(import(&[0; 1024]).unwrap());
        assert_eq!(store.cache_mounts().mounts().unwrap().len(), 1);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_mount_comes_back_as_it_was() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut fill = |root: &RootDir| {
            root.mkdir(Path::new("a"), 0o750)?;
            root.chown(Path::new(""), 5, 6)?;
            root.chmod(Path::new(""), 0o2770)?;
            Ok(())
        };
        let mount = store
            .cache_mounts()
            .try_cache_mount(None, "one", MountUse::Shared, &mut fill)
            .unwrap()
            .unwrap();
        std::fs::write(mount.path.join("a/file"), "content").unwrap();
        std::os::unix::fs::symlink("file", mount.path.join("a/link")).unwrap();
        assert!(
            store
                .cache_mounts()
                .export_mount("one", Vec::new())
                .unwrap()
                .is_none(),
            "in use"
        );
        drop(mount);
        let bytes = store
            .cache_mounts()
            .export_mount("one", Vec::new())
            .unwrap()
            .unwrap();
        assert!(matches!(
            store.cache_mounts().export_mount("none", Vec::new()),
            Err(Error::NoMount(_))
        ));

        assert!(
            store
                .cache_mounts()
                .import_mount("two", Box::new(std::io::Cursor::new(bytes)))
                .unwrap()
        );
        let sharing = || {
            let all = store.cache_mounts().mounts().unwrap().into_iter();
            all.map(|m| format!("{} {}", m.id, m.sharing))
                .collect::<Vec<_>>()
        };
        // How steps share it is up to them.
        assert_eq!(sharing(), ["one shared", "two shared"]);
        let used = store
            .cache_mounts()
            .try_cache_mount(None, "two", MountUse::Locked, &mut |_| Ok(()));
        drop(used.unwrap().unwrap());
        let again = store
            .cache_mounts()
            .export_mount("two", Vec::new())
            .unwrap()
            .unwrap();
        assert!(
            store
                .cache_mounts()
                .import_mount("two", Box::new(std::io::Cursor::new(again)))
                .unwrap()
        );
        assert_eq!(sharing(), ["one shared", "two locked"]);
        let two = store.cache_mounts().mounts().unwrap().pop().unwrap();
        assert_eq!((two.id.as_str(), two.in_use), ("two", false));
        assert_eq!(std::fs::read(two.path.join("a/link")).unwrap(), b"content");
        let meta = std::fs::metadata(&two.path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (5, 6));
        assert_eq!(meta.permissions().mode() & 0o7777, 0o2770);
        assert_eq!(
            std::fs::metadata(two.path.join("a")).unwrap().mode() & 0o7777,
            0o750
        );

        let broken = Box::new(std::io::Cursor::new(b"no archive at all".to_vec()));
        assert!(store.cache_mounts().import_mount("two", broken).is_err());
        assert!(two.path.join("a/file").is_file());
    }
}
