//! Removing whole trees.

use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, OFlags, RenameFlags};
use rustix::io::Errno;

use super::RootDir;
use crate::error::{Context as _, Result};

/// Levels of a tree that are open at a time.
const LEVELS: usize = 100;

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
        let top = self.open_to_empty(name)?;
        let mut moved = 0;
        loop {
            let before = moved;
            top.remove_entries(&top, 0, &mut moved, seen)?;
            if moved == before {
                break;
            }
        }
        match fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(e) => Err(e).ctx("remove directory", name),
        }
    }

    fn open_to_empty(&self, name: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = self.open_at(name, flags, 0, "open directory")?;
        Ok(Self { fd })
    }

    /// Removes what is in this directory, which is so many levels below `top`. Directories that are
    /// too deep are moved into `top` and counted: a tree may have more levels than this process may
    /// have open files, or than its stack has room for.
    fn remove_entries(
        &self,
        top: &Self,
        depth: usize,
        moved: &mut u64,
        seen: &mut dyn FnMut(u64),
    ) -> Result<()> {
        // Names are gathered first: removing while reading may skip entries on some systems.
        for entry in self.read_dir(Path::new(""))? {
            seen(entry.ino);
            let name = Path::new(&entry.name);
            match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(e) => return Err(e).ctx("remove", name),
            }
            if depth >= LEVELS {
                // Nothing of the tree has this name but by malice, and then the next has not.
                let free = PathBuf::from(format!(".kiln-removed-{moved}"));
                *moved += 1;
                match fs::renameat_with(&self.fd, name, &top.fd, &free, RenameFlags::NOREPLACE) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                    Err(e) => return Err(e).ctx("move away", name),
                }
            }
            self.open_to_empty(name)?
                .remove_entries(top, depth + 1, moved, seen)?;
            match fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e).ctx("remove directory", name),
            }
        }
        Ok(())
    }
}
