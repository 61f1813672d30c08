//! What lets a store on a full disk be emptied: SQLite cannot even be opened without some room, and
//! cannot delete without more.

use std::path::Path;

use kiln_solver::event::Events;
use kiln_sys::{RootDir, system};

use crate::error::{Error, Result};
use crate::lease::is_leased_in;
use crate::scratch::logs_lease;
use crate::store::{Maintenance, Store};

/// A file that only takes room, to be given up on a full disk.
pub(crate) const RESERVE: &str = "reserve";
const RESERVE_SIZE: usize = 2 << 20;

/// Bytes that opening the database and deleting everything in it may take.
const NEEDED: u64 = RESERVE_SIZE as u64 / 2;

/// Ways to make room without the database, from what nobody misses on. Each does what it can.
const WAYS: [fn(&Path); 3] = [
    empty_trash,
    |root| drop(std::fs::remove_file(root.join(RESERVE))),
    remove_notes,
];

fn empty_trash(root: &Path) {
    remove_below(&root.join("trash"), |_| true);
}

/// The output of commands that have ended, and the stat caches.
fn remove_notes(root: &Path) {
    remove_below(&root.join("logs-v1"), |name| {
        !is_leased_in(root, &logs_lease(name))
    });
    remove_below(&root.join("stat-v1"), |_| true);
}

fn remove_below(folder: &Path, wanted: impl Fn(&str) -> bool) {
    let Ok(folder) = RootDir::open_trusted(folder) else {
        return;
    };
    let entries = folder.read_dir(Path::new("")).unwrap_or_default();
    for entry in entries {
        if wanted(&entry.name.to_string_lossy()) {
            // Another process may remove the same at the same time.
            let _ = folder.remove_all(Path::new(&entry.name));
        }
    }
}

impl Maintenance<'_> {
    /// [`Store::open`] for who is about to remove things. Where the disk is full, the trash, the
    /// reserve, and at last logs and stat caches go first, as far as that is needed. Nothing else
    /// may spend the reserve: it would be gone when it is needed.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn open_store(root: &Path, events: &Events) -> Result<Store> {
        for way in WAYS {
            match Store::open_with(root, events.clone()) {
                // A quota need not show in what is free, so opening has the last word.
                Err(e) if e.is_no_space() => {}
                Ok(store) if system::free_bytes(store.root())? < NEEDED => {}
                other => return other,
            }
            way(root);
        }
        Store::open_with(root, events.clone())
    }

    /// The same for a store that is open already.
    ///
    /// # Errors
    /// What is free on its disk cannot be told.
    pub fn prepare_removal(&self) -> Result<()> {
        for way in WAYS {
            if system::free_bytes(self.root())? >= NEEDED {
                break;
            }
            way(self.root());
        }
        Ok(())
    }

    /// Makes room for what is written to free more, by all means that need none themselves.
    pub(crate) fn make_room(&self) {
        for way in WAYS {
            way(self.root());
        }
    }

    /// Whether the reserve was spent, and there is room for another.
    pub(crate) fn lacks_reserve(&self) -> Result<bool> {
        Ok(!self.path(RESERVE).exists()
            && system::free_bytes(self.root())? >= 4 * RESERVE_SIZE as u64)
    }

    /// Puts the reserve aside again, if there is room enough.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn restore_reserve(&self) -> Result<()> {
        if !self.lacks_reserve()? {
            return Ok(());
        }
        let path = self.path(RESERVE);
        let scratch = self.scratch()?;
        let new = scratch.path().join(RESERVE);
        std::fs::write(&new, vec![0; RESERVE_SIZE])
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|e| Error::io("put disk space aside", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is there in the end, with so much of it as had to go.
    #[test]
    fn a_disk_with_room_keeps_everything() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        drop(Store::open(&root).unwrap());
        let ended = root.join("logs-v1/1-4194305");
        std::fs::create_dir(&ended).unwrap();
        std::fs::write(root.join("trash/old"), "x").unwrap();
        let store = Maintenance::open_store(&root, &Events::none()).unwrap();
        for kept in [RESERVE, "trash/old", "logs-v1/1-4194305"] {
            assert!(root.join(kept).exists(), "{kept}");
        }
        let own = store.logs().unwrap();
        std::fs::create_dir(&own).unwrap();
        store.maintenance().make_room();
        for gone in [RESERVE, "trash/old", "logs-v1/1-4194305"] {
            assert!(!root.join(gone).exists(), "{gone}");
        }
        assert!(own.exists(), "the log of a command that runs");
    }
}
