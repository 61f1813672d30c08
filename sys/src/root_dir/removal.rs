//! Removing whole trees.

use std::path::Path;

use rustix::fs::{self, AtFlags, OFlags};
use rustix::io::Errno;

use super::RootDir;
use crate::error::{Context as _, Result};

impl RootDir {
    /// Removes whatever is at `path`, with everything below it; nothing there is no error. Says whether
    /// there was something.
    pub fn remove_all(&self, path: &Path) -> Result<bool> {
        self.remove_all_seen(path, &mut |_| {})
    }

    /// The same; `seen` is told the inode number of everything below it.
    pub fn remove_all_seen(&self, path: &Path, seen: &mut dyn FnMut(u64)) -> Result<bool> {
        let (dir, name) = match self.parent_of(path) {
            Ok(found) => found,
            Err(e) if e.is_not_found() => return Ok(false),
            Err(e) => return Err(e),
        };
        dir.remove_tree(Path::new(&name), seen)
    }

    fn remove_tree(&self, name: &Path, seen: &mut dyn FnMut(u64)) -> Result<bool> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => return Ok(true),
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(e) => return Err(e).ctx("remove", name),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let inside = RootDir {
            fd: self.open_at(name, flags, 0, "open directory")?,
        };
        // Names are gathered first: removing while reading may skip entries on some systems.
        for entry in inside.read_dir(Path::new(""))? {
            seen(entry.ino);
            inside.remove_tree(Path::new(&entry.name), seen)?;
        }
        match fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(e) => Err(e).ctx("remove directory", name),
        }
    }
}
