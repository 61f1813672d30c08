//! Opening the store, and what all its parts share.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_sys::{RootDir, system};
use rusqlite::Connection;

use crate::db;
use crate::error::{Error, Result};
use crate::scratch;

const FOLDERS: [&str; 8] = [
    "content-v1/sha256",
    "content-v1/partial",
    "layers-v1",
    "mounts-v1",
    "stat-v1",
    "logs-v1",
    "work-v1",
    "trash",
];

/// A store that is open. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    boot: String,
    owner: String,
    db: Mutex<Connection>,
    scratch_count: std::sync::atomic::AtomicU64,
}

impl Store {
    /// Opens the store at `root`, making it where it is missing, and clears up after processes
    /// that ended without doing so.
    ///
    /// # Errors
    /// The directory cannot be made or used, or the database cannot be opened.
    pub fn open(root: &Path) -> Result<Self> {
        let fail = |why: String| Error::Open {
            path: root.to_path_buf(),
            why,
        };
        if !root.join("meta-v1.db").exists() {
            for folder in FOLDERS {
                std::fs::create_dir_all(root.join(folder)).map_err(|e| fail(e.to_string()))?;
            }
            system::spread_folders(&root.join("work-v1"));
            let dir = RootDir::open_trusted(root)?;
            // Layers hold programs with set-user-id bits: nobody else may reach them.
            dir.chmod(Path::new(""), 0o700)?;
        }
        let root = root.canonicalize().map_err(|e| fail(e.to_string()))?;
        let boot = system::boot_id()?;
        let db = Self::open_database(&root)?;
        let pid = std::process::id();
        let owner = format!("{pid}-{}", system::process_start(pid).unwrap_or(0));
        let scratch_count = std::sync::atomic::AtomicU64::new(0);
        let inner = Inner {
            root,
            boot,
            owner,
            db: Mutex::new(db),
            scratch_count,
        };
        let store = Self {
            inner: Arc::new(inner),
        };
        store.forget_other_boots()?;
        scratch::clear_dead(&store)?;
        Ok(store)
    }

    /// A database that cannot be read is put aside: everything in it can be made again.
    fn open_database(root: &Path) -> Result<Connection> {
        let path = root.join("meta-v1.db");
        match db::open(&path) {
            Err(Error::Database(rusqlite::Error::SqliteFailure(e, _)))
                if matches!(
                    e.code,
                    rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase
                ) =>
            {
                tracing::warn!(path = %path.display(), "the database is damaged; a new one is made");
                for suffix in ["", "-wal", "-shm"] {
                    let from = root.join(format!("meta-v1.db{suffix}"));
                    let to = root.join(format!("trash/damaged-{}{suffix}", std::process::id()));
                    // What is not there needs no place in the trash.
                    let _ = std::fs::rename(from, to);
                }
                db::open(&path)
            }
            other => other,
        }
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// A path below the root.
    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.inner.root.join(below)
    }

    /// Names this process among all of this boot.
    pub(crate) fn owner(&self) -> &str {
        &self.inner.owner
    }

    /// The boot that rows written now belong to.
    pub(crate) fn boot(&self) -> &str {
        &self.inner.boot
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.inner
            .scratch_count
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    pub(crate) fn db(&self) -> MutexGuard<'_, Connection> {
        self.inner.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write<T>(
        &self,
        f: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        db::write(&mut self.db(), f)
    }

    /// Drops rows whose files may have been lost when the machine went down.
    fn forget_other_boots(&self) -> Result<()> {
        let stale: bool = self.db().query_row(
            "SELECT EXISTS (SELECT 1 FROM layers WHERE boot IS NOT NULL AND boot <> ?1)
                 OR EXISTS (SELECT 1 FROM records WHERE boot IS NOT NULL AND boot <> ?1)
                 OR EXISTS (SELECT 1 FROM images WHERE boot IS NOT NULL AND boot <> ?1)",
            [self.boot()],
            |row| row.get(0),
        )?;
        if !stale {
            return Ok(());
        }
        self.write(|tx| {
            for table in ["layers", "records", "images"] {
                let sql = format!("DELETE FROM {table} WHERE boot IS NOT NULL AND boot <> ?1");
                tx.execute(&sql, [self.boot()])?;
            }
            // A record without its layer is no record.
            tx.execute(
                "DELETE FROM records WHERE layer NOT IN (SELECT id FROM layers)",
                [],
            )?;
            Ok(())
        })
    }

    /// Whether rows wait for [`Store::promote`], or the trash for [`Store::empty_trash`].
    ///
    /// # Errors
    /// The database refused, or the trash cannot be listed.
    pub fn needs_upkeep(&self) -> Result<bool> {
        let trash = RootDir::open_trusted(&self.path("trash"))?;
        if !trash.read_dir(Path::new(""))?.is_empty() {
            return Ok(true);
        }
        Ok(self.db().query_row(
            "SELECT EXISTS (SELECT 1 FROM layers WHERE boot IS NOT NULL)
                 OR EXISTS (SELECT 1 FROM records WHERE boot IS NOT NULL)
                 OR EXISTS (SELECT 1 FROM images WHERE boot IS NOT NULL)",
            [],
            |row| row.get(0),
        )?)
    }

    /// Writes the file system to the disk, then marks the rows that were there before as durable.
    /// One process does it at a time; another that tries meanwhile returns at once.
    ///
    /// # Errors
    /// The sync or the database failed.
    pub fn promote(&self) -> Result<()> {
        let lock = self.path("locks");
        let Some(_held) = kiln_sys::lock::try_lock(&lock, u64::MAX, false)? else {
            return Ok(());
        };
        let before: i64 = db::nanos(std::time::SystemTime::now());
        system::sync_filesystem(self.root())?;
        self.write(|tx| {
            tx.execute(
                "UPDATE layers SET boot = NULL WHERE boot IS NOT NULL AND created < ?1",
                [before],
            )?;
            tx.execute(
                "UPDATE records SET boot = NULL WHERE boot IS NOT NULL AND created < ?1
                 AND layer IN (SELECT id FROM layers WHERE boot IS NULL)",
                [before],
            )?;
            tx.execute(
                "UPDATE images SET boot = NULL WHERE boot IS NOT NULL AND created < ?1",
                [before],
            )?;
            Ok(())
        })
    }
}
