//! Keeping the store in order: what is written down for good, and whose turn it is to do it.

use std::path::Path;

use kiln_sys::lock::{Hold, LockFile, try_lock};
use kiln_sys::{RootDir, system};

use crate::db::{self, LOCKS};
use crate::error::Result;
use crate::store::{DURABLE, Maintenance};

/// Held while rows are made durable.
const PROMOTING: u64 = u64::MAX;
/// Held by the process that keeps the store in order.
const WORKING: u64 = u64::MAX - 4;
/// Held by the one that will do so next.
const WAITING: u64 = u64::MAX - 6;

/// The turn of one process to keep the store in order; it ends with this value.
#[derive(Debug)]
pub struct MaintenanceTurn {
    _locks: LockFile,
}

impl Maintenance<'_> {
    /// Waits until no other process keeps the store in order. None where another one waits already: when
    /// its turn comes, it finds all that there is now. So there are two such processes at most, however
    /// many commands end at once.
    ///
    /// # Errors
    /// The file of the locks cannot be opened.
    pub fn maintenance_turn(&self) -> Result<Option<MaintenanceTurn>> {
        let path = self.path(LOCKS);
        let Some(waiting) = try_lock(&path, WAITING, false)? else {
            return Ok(None);
        };
        let locks = LockFile::open(&path)?;
        locks.hold(WORKING, Hold::Alone)?;
        drop(waiting);
        Ok(Some(MaintenanceTurn { _locks: locks }))
    }

    /// Whether rows wait for [`Maintenance::promote`], the trash for [`empty_trash`], cache mounts for
    /// [`measure_mounts`], pages for [`Maintenance::vacuum`], or there is room for what
    /// [`Maintenance::restore_reserve`] makes. Not where a process already waits for its turn to do all
    /// that.
    ///
    /// [`empty_trash`]: crate::Store::empty_trash
    /// [`measure_mounts`]: crate::MountStore::measure_mounts
    ///
    /// # Errors
    /// The database refused, or the trash cannot be listed.
    pub fn needs_maintenance(&self) -> Result<bool> {
        if LockFile::open(&self.path(LOCKS))?.is_held_elsewhere(WAITING)? {
            return Ok(false);
        }
        let trash = RootDir::open_trusted(&self.path("trash"))?;
        if !trash.read_dir(Path::new(""))?.is_empty()
            || self.lacks_reserve()?
            || self.has_slack()?
        {
            return Ok(true);
        }
        let waits = |table: &str| format!("EXISTS (SELECT 1 FROM {table} WHERE boot IS NOT NULL)");
        let any = DURABLE.map(waits).join(" OR ");
        let sql = format!("SELECT {any} OR EXISTS (SELECT 1 FROM mounts WHERE measured = 0)");
        Ok(self.db().query_row(&sql, [], |row| row.get(0))?)
    }

    /// Writes the file system to the disk, then marks the rows that were there before as durable.
    /// One process does it at a time; another that tries meanwhile returns at once.
    ///
    /// # Errors
    /// The sync or the database failed.
    pub fn promote(&self) -> Result<()> {
        let lock = self.path(LOCKS);
        let Some(_held) = try_lock(&lock, PROMOTING, false)? else {
            return Ok(());
        };
        let before: i64 = db::nanos(std::time::SystemTime::now());
        // What is in use now may be written to after the sync.
        let mut idle = Vec::new();
        for mount in self.cache_mounts().mounts()? {
            if !mount.in_use {
                idle.push(mount.home);
            }
        }
        let idle = serde_json::to_string(&idle).unwrap_or_else(|_| "[]".into());
        system::sync_filesystem(self.root())?;
        self.write(|tx| {
            for (table, more) in [
                ("layers", ""),
                (
                    "records",
                    "AND layer IN (SELECT id FROM layers WHERE boot IS NULL)",
                ),
                ("images", ""),
                ("contents", ""),
            ] {
                let sql = format!(
                    "UPDATE {table} SET boot = NULL
                     WHERE boot IS NOT NULL AND created < ?1 {more}"
                );
                tx.execute(&sql, [before])?;
            }
            tx.execute(
                "UPDATE mounts SET boot = NULL WHERE boot IS NOT NULL AND used < ?1
                 AND home IN (SELECT value FROM json_each(?2))",
                (before, idle),
            )?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Store;

    #[test]
    fn one_process_works_and_one_waits() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path()).unwrap();
        let (one, two, three) = (open(), open(), open());
        one.put_blob(b"not yet durable").unwrap();
        assert!(three.maintenance().needs_maintenance().unwrap());
        let first = one.maintenance().maintenance_turn().unwrap().unwrap();
        assert!(three.maintenance().needs_maintenance().unwrap());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| two.maintenance().maintenance_turn().unwrap().unwrap());
            while three.maintenance().needs_maintenance().unwrap() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            assert!(three.maintenance().maintenance_turn().unwrap().is_none());
            assert!(!second.is_finished());
            drop(first);
            let second = second.join().unwrap();
            assert!(three.maintenance().needs_maintenance().unwrap());
            drop(second);
        });
        assert!(three.maintenance().maintenance_turn().unwrap().is_some());
    }
}
