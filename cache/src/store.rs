//! Opening the store, and what all its parts share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_sys::{RootDir, system};

use crate::error::{Error, Result};
use crate::lease::{self, Leases};
use crate::scratch;
use crate::{backup, db};

/// Bytes of the path of a store: SQLite opens no file whose path has more than 512.
const MAX_ROOT_BYTES: usize = 480;

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
    db: Mutex<db::Database>,
    leases: Leases,
}

/// Numbers of directories of this process, which may have opened the store more than once.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

impl Store {
    /// Opens the store at `root`, making it where it is missing, and clears up after processes
    /// that ended without doing so.
    ///
    /// # Errors
    /// The directory cannot be made or used, or the database cannot be opened.
    pub fn open(root: &Path) -> Result<Self> {
        let fail = |why: std::io::Error| Error::Open {
            path: root.to_path_buf(),
            why,
        };
        let unfit = |why: String| fail(std::io::Error::other(why));
        let whole = std::path::absolute(root).map_err(fail)?;
        let bytes = whole.as_os_str().len();
        if bytes > MAX_ROOT_BYTES {
            return Err(unfit(format!(
                "its path has {bytes} bytes, and {MAX_ROOT_BYTES} are the most"
            )));
        }
        if whole.to_str().is_none() {
            return Err(unfit("its path is not UTF-8".into()));
        }
        // Not by opening it: to close a descriptor of it drops the locks that this process has there,
        // those of another store among them (sqlite.org/howtocorrupt.html, 2.2).
        let is_new = match system::check_writable(&root.join(db::FILE)) {
            Ok(()) => false,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
            // SQLite would not say that a file system is read-only.
            Err(e) => return Err(fail(e)),
        };
        // Also where somebody has removed one.
        for folder in FOLDERS {
            std::fs::create_dir_all(root.join(folder)).map_err(fail)?;
        }
        if is_new {
            // Before the first work directory is made in it.
            system::spread_folders(&root.join("work-v1"));
            let dir = RootDir::open_trusted(root)?;
            // Layers hold programs with set-user-id bits: nobody else may reach them.
            dir.chmod(Path::new(""), 0o700)?;
        }
        let root = root.canonicalize().map_err(fail)?;
        let boot = system::boot_id()?;
        let db = match db::open(&root.join(db::FILE)) {
            Err(e) if e.is_damaged_database() => replaced(&root)?,
            // It says nothing of why.
            Err(e) if e.is_unopened_database() => {
                let probe = root
                    .join("work-v1")
                    .join(format!("{}.probe", std::process::id()));
                let made = std::fs::write(&probe, "probe");
                let _ = std::fs::remove_file(&probe);
                return Err(made.err().map_or(e, fail));
            }
            other => other?,
        };
        let leases = Leases::open(&root.join(lease::FILE))?;
        let owner = scratch::new_owner()?;
        let inner = Inner {
            root,
            boot,
            owner,
            db: Mutex::new(db),
            leases,
        };
        let store = Self {
            inner: Arc::new(inner),
        };
        store.lease(&scratch::owner_lease(store.owner()))?;
        if is_new {
            store.restore_reserve()?;
        }
        match store.forget_other_boots() {
            Err(e) if e.is_damaged_database() => {
                let replaced = replaced(store.root())?;
                *store.db() = replaced;
                store.forget_other_boots()?;
            }
            other => other?,
        }
        scratch::clear_dead(&store)?;
        Ok(store)
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// A path below the root.
    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.inner.root.join(below)
    }

    /// Names this store among all that are open, in whatever processes and namespaces.
    pub(crate) fn owner(&self) -> &str {
        &self.inner.owner
    }

    /// The boot that rows written now belong to.
    pub(crate) fn boot(&self) -> &str {
        &self.inner.boot
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.inner.leases
    }

    pub(crate) fn next_number(&self) -> u64 {
        NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn db(&self) -> MutexGuard<'_, db::Database> {
        self.inner.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write<T>(
        &self,
        f: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut db = self.db();
        // What a repair has put aside nobody reads any more, and what was written there is lost.
        if db.follow()? {
            return Err(Error::Replaced);
        }
        let written = db::write(&mut db, f)?;
        if db.is_replaced() {
            return Err(Error::Replaced);
        }
        Ok(written)
    }

    /// Drops rows whose files may have been lost when the machine went down.
    fn forget_other_boots(&self) -> Result<()> {
        let of_other = |table: &str| {
            format!("EXISTS (SELECT 1 FROM {table} WHERE boot IS NOT NULL AND boot <> ?1)")
        };
        let any = DURABLE.map(of_other).join(" OR ");
        let stale: bool = self
            .db()
            .query_row(&format!("SELECT {any}"), [self.boot()], |row| row.get(0))?;
        if !stale {
            return Ok(());
        }
        let homes = self.write(|tx| {
            let homes: Vec<String> = {
                let sql = "SELECT home FROM mounts WHERE boot IS NOT NULL AND boot <> ?1";
                let mut query = tx.prepare(sql)?;
                let rows = query.query_map([self.boot()], |row| row.get(0))?;
                rows.collect::<rusqlite::Result<_>>()?
            };
            for table in DURABLE {
                let sql = format!("DELETE FROM {table} WHERE boot IS NOT NULL AND boot <> ?1");
                tx.execute(&sql, [self.boot()])?;
            }
            // A record without its layer is no record.
            tx.execute(
                "DELETE FROM records WHERE layer NOT IN (SELECT id FROM layers)",
                [],
            )?;
            Ok(homes)
        })?;
        // The files of layers and blobs without rows are rubbish that nobody looks at; mounts are
        // found by their directories.
        for home in homes {
            if let Some(_lock) = self.lock_mount(&home, false)? {
                self.discard(&self.path("mounts-v1").join(home))?;
            }
        }
        Ok(())
    }

    /// Whether rows wait for [`Store::promote`], the trash for [`Store::empty_trash`], cache mounts for
    /// [`Store::measure_mounts`], pages for [`Store::give_back_slack`], or there is room for what
    /// [`Store::restore_reserve`] makes.
    ///
    /// # Errors
    /// The database refused, or the trash cannot be listed.
    pub fn needs_upkeep(&self) -> Result<bool> {
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
        let lock = self.path("locks");
        let Some(_held) = kiln_sys::lock::try_lock(&lock, u64::MAX, false)? else {
            return Ok(());
        };
        let before: i64 = db::nanos(std::time::SystemTime::now());
        // What is in use now may be written to after the sync.
        let mut idle = Vec::new();
        for mount in self.mounts()? {
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

/// A database in the place of a damaged one.
fn replaced(root: &Path) -> Result<db::Database> {
    tracing::warn!(
        path = %root.join(db::FILE).display(),
        "the database is damaged; another one is made of its last copy"
    );
    backup::replace(root)
}

/// Tables whose rows carry the boot that wrote them.
const DURABLE: [&str; 5] = ["layers", "records", "images", "contents", "mounts"];
