//! Opening the store, and what all its parts share.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_solver::event::{Events, Warning, WarningCode};
use kiln_sys::{RootDir, system};

use crate::error::{Error, Result};
use crate::lease::{self, Leases};
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

/// A store that is open, for one piece of work: its leases, work directories, unrecorded layers and logs
/// belong to that *session*, and end with the last clone of this value. [`Store::session`] begins
/// another, of the same open database.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    session: Arc<Session>,
}

/// What all sessions of one open store have in common.
#[derive(Debug)]
struct Shared {
    root: PathBuf,
    boot: String,
    db: Mutex<db::Database>,
}

/// What belongs to one piece of work.
#[derive(Debug)]
struct Session {
    /// Names it among all sessions, in whatever processes and namespaces.
    owner: String,
    leases: Leases,
    /// Where what users should know goes.
    events: Events,
}

impl Session {
    fn begin(root: &Path, events: Events) -> Result<Self> {
        let session = Self {
            owner: lease::new_owner()?,
            leases: Leases::open(&root.join(lease::FILE))?,
            events,
        };
        session.leases.take(&lease::owner_lease(&session.owner))?;
        Ok(session)
    }
}

/// Numbers of directories of this process, which may have opened the store more than once.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

impl Store {
    /// Opens the store at `root`, making it where it is missing, and clears up after processes
    /// that ended without doing so. What users should know of it goes to the log.
    ///
    /// # Errors
    /// The directory cannot be made or used, or the database cannot be opened.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, Events::logged())
    }

    /// The same; what users should know of it, now and later, goes to `events`.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn open_with(root: &Path, events: Events) -> Result<Self> {
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
        let db = match db::open(&root.join(db::FILE), &events) {
            Err(e) if e.is_damaged_database() => replaced(&root, &events)?,
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
        let session = Session::begin(&root, events)?;
        let shared = Shared {
            root,
            boot,
            db: Mutex::new(db),
        };
        let store = Self {
            shared: Arc::new(shared),
            session: Arc::new(session),
        };
        if is_new {
            store.maintenance().restore_reserve()?;
        }
        match store.forget_other_boots() {
            Err(e) if e.is_damaged_database() => {
                let replaced = replaced(store.root(), store.events())?;
                *store.db() = replaced;
                store.forget_other_boots()?;
            }
            other => other?,
        }
        store.clear_dead()?;
        Ok(store)
    }

    /// The same store for another piece of work: what either uses or makes is none of the other's, and what
    /// one used can be removed when it is over, while the other goes on.
    ///
    /// # Errors
    /// The file of the leases cannot be opened.
    pub fn session(&self) -> Result<Self> {
        self.session_with(self.events().clone())
    }

    /// The same, whose warnings go to `events`.
    ///
    /// # Errors
    /// Those of [`Store::session`].
    pub fn session_with(&self, events: Events) -> Result<Self> {
        Ok(Self {
            shared: Arc::clone(&self.shared),
            session: Arc::new(Session::begin(self.root(), events)?),
        })
    }

    /// Whether the store that is open is still the one of its directory: neither was its database repaired,
    /// nor its directory removed and made anew.
    pub fn is_current(&self) -> bool {
        self.check_is_current().is_ok()
    }

    /// Where what users should know goes.
    pub(crate) fn events(&self) -> &Events {
        &self.session.events
    }

    /// What keeps it in order.
    pub fn maintenance(&self) -> Maintenance<'_> {
        Maintenance(self)
    }

    /// Its cache mounts.
    pub fn cache_mounts(&self) -> MountStore<'_> {
        MountStore(self)
    }

    /// The results of steps.
    pub fn records(&self) -> Records<'_> {
        Records(self)
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// A path below the root.
    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.shared.root.join(below)
    }

    /// Names this session among all, in whatever processes and namespaces.
    pub(crate) fn owner(&self) -> &str {
        &self.session.owner
    }

    /// The boot that rows written now belong to.
    pub(crate) fn boot(&self) -> &str {
        &self.shared.boot
    }

    /// Takes a lease on a layer's name or a blob's digest until this session is over.
    pub(crate) fn lease(&self, name: &str) -> Result<()> {
        self.session.leases.take(name)
    }

    /// The leases of this session.
    pub(crate) fn leases(&self) -> &Leases {
        &self.session.leases
    }

    pub(crate) fn next_number(&self) -> u64 {
        NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn db(&self) -> MutexGuard<'_, db::Database> {
        self.shared
            .db
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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

    /// Fails if the database of the store's directory is not the one that is open: then what is in the folders
    /// is not what this one knows of. It was repaired, or the directory was removed and made anew.
    pub(crate) fn check_is_current(&self) -> Result<()> {
        match self.db().is_replaced() {
            true => Err(Error::Replaced),
            false => Ok(()),
        }
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
            if let Some(_lock) = self.cache_mounts().lock_mount(&home, false)? {
                self.discard(&self.path("mounts-v1").join(home))?;
            }
        }
        Ok(())
    }

    /// Copies the database, if it has changed since the last copy and is in order.
    ///
    /// # Errors
    /// It cannot be read, or the copy cannot be written.
    pub fn back_up(&self) -> Result<()> {
        if !backup::is_due(self.root()) {
            return Ok(());
        }
        let scratch = self.scratch()?;
        let copy = scratch.path().join("copy");
        if backup::copy(&self.db(), &copy)? {
            std::fs::rename(&copy, self.path(db::COPY))
                .map_err(|e| Error::io("copy the database", e))?;
        }
        Ok(())
    }

    /// Puts a damaged database aside and makes another one of its copy and of what is in the folders.
    /// Nothing is done where another process has done it since.
    pub(crate) fn replace_database(&self) -> Result<()> {
        let replaced = backup::replace(self.root(), self.events())?;
        *self.db() = replaced;
        Ok(())
    }
}

/// What keeps a store in order: what is there and what goes, checks, and what is written down for good.
#[derive(Clone, Copy, Debug)]
pub struct Maintenance<'a>(&'a Store);

impl Deref for Maintenance<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.0
    }
}

/// The cache mounts of a store.
#[derive(Clone, Copy, Debug)]
pub struct MountStore<'a>(&'a Store);

impl Deref for MountStore<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.0
    }
}

/// The results of steps in a store, what explains them, and fingerprints of what they read.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a>(&'a Store);

impl Deref for Records<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.0
    }
}

/// A database in the place of a damaged one.
fn replaced(root: &Path, events: &Events) -> Result<db::Database> {
    let text = format!(
        "the database is damaged; another one is made of its last copy (path: {})",
        root.join(db::FILE).display()
    );
    events.warn(Warning::new(WarningCode::StoreDamaged, text));
    backup::replace(root, events)
}

/// Tables whose rows carry the boot that wrote them.
pub(crate) const DURABLE: [&str; 5] = ["layers", "records", "images", "contents", "mounts"];
