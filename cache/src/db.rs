//! The database: one connection a process, short transactions, nothing waits while it holds one.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln_solver::event::{Events, Warning, WarningCode};
use kiln_sys::lock::{self, RangeLock};
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Error, Result};

/// The first SQLite without the write-ahead-log bug that can corrupt a database in use.
const MIN_SQLITE: i32 = 3_051_003;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS layers (
    id TEXT PRIMARY KEY, diff_id TEXT NOT NULL, tree TEXT NOT NULL, tar_size INTEGER NOT NULL,
    bytes INTEGER NOT NULL, created INTEGER NOT NULL, boot TEXT, epoch INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS layers_by_diff ON layers (diff_id);
CREATE TABLE IF NOT EXISTS records (
    key TEXT PRIMARY KEY, layer TEXT NOT NULL, ran_at INTEGER NOT NULL, took INTEGER NOT NULL,
    created INTEGER NOT NULL, name TEXT NOT NULL, inputs TEXT NOT NULL, boot TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS images (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE, config TEXT NOT NULL, manifest TEXT,
    created INTEGER NOT NULL, boot TEXT
);
CREATE INDEX IF NOT EXISTS images_by_config ON images (config);
CREATE TABLE IF NOT EXISTS blobs (
    diff_id TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (diff_id, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS origins (
    diff_id TEXT NOT NULL, reference TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL,
    size INTEGER NOT NULL, PRIMARY KEY (diff_id, reference, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fingerprints (
    identity TEXT NOT NULL, selection TEXT NOT NULL, fingerprint TEXT NOT NULL,
    PRIMARY KEY (identity, selection)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS downloads (
    url TEXT PRIMARY KEY, etag TEXT, last_modified TEXT, digest TEXT NOT NULL
) WITHOUT ROWID;
";

/// What came with version 5, for explanations: of which step a record is, the inputs of its key, and
/// what fingerprints cover. Inputs are large, and a table without row numbers is slow with large rows.
const EXPLANATIONS: &str = "
ALTER TABLE records DROP COLUMN inputs;
CREATE TABLE runs (
    key TEXT PRIMARY KEY, project TEXT, step TEXT, instruction TEXT, inputs TEXT NOT NULL
);
CREATE INDEX runs_by_step ON runs (project, step);
CREATE INDEX runs_by_instruction ON runs (instruction, project);
CREATE TRIGGER runs_of_records AFTER DELETE ON records BEGIN
    DELETE FROM runs WHERE key = old.key;
END;
CREATE TABLE listings (
    fingerprint TEXT PRIMARY KEY, listing TEXT NOT NULL, written INTEGER NOT NULL
);
CREATE INDEX listings_by_time ON listings (written);
";

/// What came with version 6: what there is on the disk, how large it is, when it was last used. Sums of
/// sizes are kept by triggers, so that a build can ask for them after each step.
const ACCOUNTS: &str = "
ALTER TABLE layers ADD COLUMN sum TEXT;
CREATE TABLE IF NOT EXISTS contents (
    digest TEXT PRIMARY KEY, size INTEGER NOT NULL, created INTEGER NOT NULL, boot TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mounts (
    home TEXT PRIMARY KEY, id TEXT NOT NULL, number INTEGER NOT NULL, sharing TEXT NOT NULL,
    bytes INTEGER NOT NULL, measured INTEGER NOT NULL, created INTEGER NOT NULL,
    used INTEGER NOT NULL, boot TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uses (name TEXT PRIMARY KEY, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (class TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_by_layer ON records (layer);
CREATE INDEX IF NOT EXISTS blobs_by_digest ON blobs (digest);
";

/// The triggers of one table that keep its sum.
fn sum_triggers(table: &str, column: &str) -> String {
    let add = format!("UPDATE totals SET bytes = bytes + new.{column} WHERE class = '{table}';");
    let take = format!("UPDATE totals SET bytes = bytes - old.{column} WHERE class = '{table}';");
    format!(
        "INSERT OR REPLACE INTO totals SELECT '{table}', coalesce(sum({column}), 0) FROM {table};
         CREATE TRIGGER IF NOT EXISTS {table}_in AFTER INSERT ON {table} BEGIN {add} END;
         CREATE TRIGGER IF NOT EXISTS {table}_out AFTER DELETE ON {table} BEGIN {take} END;
         CREATE TRIGGER IF NOT EXISTS {table}_set AFTER UPDATE OF {column} ON {table}
             BEGIN {take} {add} END;"
    )
}

/// All of [`ACCOUNTS`].
fn accounts() -> String {
    let sums = [
        ("layers", "bytes"),
        ("contents", "size"),
        ("mounts", "bytes"),
    ];
    let sums = sums.map(|(table, column)| sum_triggers(table, column));
    format!("{ACCOUNTS}{}", sums.concat())
}

/// What came with version 7: results that another host made, and when.
const SHARED: &str = "ALTER TABLE records ADD COLUMN made INTEGER;";

/// What came with version 8: repositories that layers were sent to, from which another repository of
/// the same registry may take them.
const SENT: &str = "
CREATE TABLE sent (
    diff_id TEXT NOT NULL, digest TEXT NOT NULL, repository TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (diff_id, digest, repository)
) WITHOUT ROWID;
CREATE TRIGGER sent_layers AFTER DELETE ON layers BEGIN
    DELETE FROM sent WHERE diff_id = old.diff_id;
END;
";

/// What came with version 9: runs whose results were removed to make room, and the time of the last
/// build, whose results are not.
const REMOVED_RUNS: &str = "
ALTER TABLE runs ADD COLUMN ran_at INTEGER;
ALTER TABLE runs ADD COLUMN removed INTEGER;
DROP TRIGGER runs_of_records;
CREATE TRIGGER runs_of_records AFTER DELETE ON records BEGIN
    DELETE FROM runs WHERE key = old.key AND removed IS NULL;
END;
CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
";

/// The version of the tables: [`SCHEMA`] is version 4, and what came later is added to it.
const VERSION: i64 = 9;

/// All of them.
pub(crate) const TABLES: [&str; 15] = [
    "layers",
    "records",
    "images",
    "blobs",
    "origins",
    "fingerprints",
    "downloads",
    "runs",
    "listings",
    "contents",
    "mounts",
    "uses",
    "totals",
    "sent",
    "marks",
];

/// Its name in the store.
pub(crate) const FILE: &str = "meta-v1.db";

/// The way of SQLite to give room back that takes a little at a time.
pub(crate) const INCREMENTAL: u64 = 2;

/// How long another process is waited for.
pub(crate) const DB_BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Has the database written ahead. Where another process does the same at the moment, SQLite says at
/// once that it is busy, whatever the patience: it holds a lock already and fears to wait for ever.
fn use_wal(db: &Connection) -> Result<()> {
    let begun = Instant::now();
    loop {
        match db.execute_batch("PRAGMA journal_mode = WAL;") {
            Err(e)
                if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && begun.elapsed() < DB_BUSY_TIMEOUT =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return Ok(other?),
        }
    }
}

/// The database that a path stands for, also after another process has put it aside for a new one.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
    path: PathBuf,
    /// Device and inode of the file that is open.
    file: (u64, u64),
    /// The file with the store's locks, held open: no other gets its inode.
    locks: Option<File>,
    /// Where what users should know of it goes.
    events: Events,
}

impl std::ops::Deref for Database {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl std::ops::DerefMut for Database {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Database {
    /// Opens the file anew if it has been replaced; whether it was. A store that was removed, with another
    /// in its place, is not followed: the locks and leases of this process are none there.
    ///
    /// # Errors
    /// The new one cannot be opened.
    pub(crate) fn follow(&mut self) -> Result<bool> {
        let is_other = file_of(&self.path).is_some_and(|file| file != self.file);
        let locks = self.locks.as_ref().and_then(|file| file.metadata().ok());
        if is_other && file_of(&locks_of(&self.path)) == locks.as_ref().map(id_of) {
            *self = open(&self.path, &self.events)?;
        }
        Ok(is_other)
    }

    /// Whether this is not the file of that name any more.
    pub(crate) fn is_replaced(&self) -> bool {
        file_of(&self.path) != Some(self.file)
    }
}

/// The file with the locks of the store of a database.
fn locks_of(database: &Path) -> PathBuf {
    database.with_file_name(LOCKS)
}

fn file_of(path: &Path) -> Option<(u64, u64)> {
    Some(id_of(&std::fs::metadata(path).ok()?))
}

fn id_of(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// The file whose bytes are the store's locks.
pub(crate) const LOCKS: &str = "locks";

/// The byte of the file `locks` that whoever replaces a database holds alone, and whoever opens one shares.
const REPLACING: u64 = u64::MAX - 2;

/// Waits until nobody replaces the database of the store at `root`, or, not `shared`, opens it.
pub(crate) fn wait_for_lock(root: &Path, shared: bool, events: &Events) -> Result<RangeLock> {
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        // Its holder's end is its own.
        if let Some(held) = lock::try_lock(&root.join(LOCKS), REPLACING, shared)? {
            return Ok(held);
        }
        if !is_told && begun.elapsed() > Duration::from_secs(1) {
            let text = "another process makes the store's database anew: waiting for it";
            events.warn(Warning::new(WarningCode::StoreDamaged, text));
            is_told = true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Opens the database and makes its tables.
pub(crate) fn open(path: &Path, events: &Events) -> Result<Database> {
    let root = path.parent().unwrap_or(Path::new(""));
    let _shared = wait_for_lock(root, true, events)?;
    open_locked(path, events)
}

/// The same for who holds the lock.
pub(crate) fn open_locked(path: &Path, events: &Events) -> Result<Database> {
    let connection = connect(path)?;
    let file = file_of(path).ok_or_else(|| Error::Damaged("database, which is gone".into()))?;
    Ok(Database {
        connection,
        path: path.to_owned(),
        file,
        locks: File::open(locks_of(path)).ok(),
        events: events.clone(),
    })
}

/// A copy of the database beside it.
pub(crate) const COPY: &str = "meta-v1.backup";

/// A connection to it, with all tables.
fn connect(path: &Path) -> Result<Connection> {
    let mut db = connect_bare(path)?;
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let root = path.parent().unwrap_or(Path::new(""));
    if version == 0 && root.join(COPY).is_file() {
        // There has been a database, and this file is empty: to make tables in it would lose what there was.
        let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
        let why = Some("it is empty, and has a copy".to_owned());
        return Err(rusqlite::Error::SqliteFailure(error, why).into());
    }
    if (0..VERSION).contains(&version) {
        migrate(&mut db, Some(root))?;
    }
    Ok(db)
}

/// A connection to a new database, or to a copy, with all tables.
pub(crate) fn create(path: &Path) -> Result<Connection> {
    let mut db = connect_bare(path)?;
    migrate(&mut db, None)?;
    Ok(db)
}

fn connect_bare(path: &Path) -> Result<Connection> {
    if rusqlite::version_number() < MIN_SQLITE {
        return Err(Error::SqliteTooOld(rusqlite::version().to_owned()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    log_statements(&mut db)?;
    db.busy_timeout(DB_BUSY_TIMEOUT)?;
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        // Only in time before there is anything in it.
        db.pragma_update(None, "auto_vacuum", INCREMENTAL.cast_signed())?;
    }
    let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if mode != "wal" {
        use_wal(&db)?;
    }
    db.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 4194304;")?;
    Ok(db)
}

/// Opens a database that is there, to read from it while others write.
pub(crate) fn open_to_look(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    log_statements(&mut db)?;
    db.busy_timeout(Duration::from_millis(100))?;
    Ok(db)
}

/// Has each statement logged, without its values, where somebody reads that: else SQLite has nobody to call.
fn log_statements(db: &mut Connection) -> Result<()> {
    if tracing::enabled!(tracing::Level::TRACE) {
        let log = |event: TraceEvent<'_>| match event {
            // The statements of triggers come as comments.
            TraceEvent::Stmt(_, sql) if !sql.starts_with("--") => {
                tracing::trace!("statement: {sql}");
            }
            _ => {}
        };
        db.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(log))?;
    }
    Ok(())
}

/// From nothing, version 1, whose layers did not remember the clamp of their times, version 2,
/// which did not know where layers come from, version 3, which did not know of downloads, version 4,
/// which could not explain, version 5, for which every file of `content-v1` was a blob, version 6,
/// whose records were all made here, version 7, which forgot where it had sent layers, and version 8,
/// which forgot what it had removed.
fn migrate(db: &mut Connection, root: Option<&Path>) -> Result<()> {
    write(db, |tx| {
        // Another process may have been faster.
        let version: i64 = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == 1 {
            tx.execute_batch("ALTER TABLE layers ADD COLUMN epoch INTEGER")?;
        }
        if version < 4 {
            tx.execute_batch(SCHEMA)?;
        }
        if version < 5 {
            tx.execute_batch(EXPLANATIONS)?;
        }
        if version < 6 {
            tx.execute_batch(&accounts())?;
            if let Some(root) = root {
                adopt_contents(tx, root)?;
            }
        }
        if version < 7 {
            tx.execute_batch(SHARED)?;
        }
        if version < 8 {
            tx.execute_batch(SENT)?;
        }
        if version < 9 {
            tx.execute_batch(REMOVED_RUNS)?;
        }
        if version < VERSION {
            tx.pragma_update(None, "user_version", VERSION)?;
        }
        Ok(())
    })
}

/// Enters the blobs that are there.
fn adopt_contents(tx: &Transaction<'_>, root: &Path) -> Result<()> {
    let mut insert = tx.prepare(
        "INSERT OR IGNORE INTO contents (digest, size, created, boot) VALUES (?1, ?2, ?3, NULL)",
    )?;
    for algorithm in ["sha256", "sha512"] {
        // A store that never held a blob of this algorithm has no such folder.
        let Ok(folder) = std::fs::read_dir(root.join("content-v1").join(algorithm)) else {
            continue;
        };
        for entry in folder.flatten() {
            let (name, Ok(meta)) = (entry.file_name(), entry.metadata()) else {
                continue;
            };
            let size = meta.len().cast_signed();
            let created = nanos(meta.modified().unwrap_or(std::time::UNIX_EPOCH));
            let digest = format!("{algorithm}:{}", name.to_string_lossy());
            insert.execute((digest, size, created))?;
        }
    }
    Ok(())
}

/// Runs `f` in a writing transaction.
pub(crate) fn write<T>(
    db: &mut Connection,
    f: impl FnOnce(&Transaction<'_>) -> Result<T>,
) -> Result<T> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = f(&tx)?;
    tx.commit()?;
    Ok(value)
}

/// Rows, but for those of which a value makes no sense: they are as good as gone, and `fsck` finds them.
pub(crate) fn readable<T>(
    rows: impl Iterator<Item = rusqlite::Result<Option<T>>>,
) -> Result<Vec<T>> {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error,
    };
    let mut out = Vec::new();
    for row in rows {
        match row {
            Ok(row) => out.extend(row),
            Err(
                FromSqlConversionFailure(..)
                | IntegralValueOutOfRange(..)
                | InvalidColumnType(..)
                | Utf8Error(..),
            ) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(out)
}

/// A time as nanoseconds since 1970, as the store and remotes keep it; dates before are 0.
pub fn nanos(time: std::time::SystemTime) -> i64 {
    time.duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_nanos()).ok())
        .unwrap_or(0)
}

/// The time of a number from [`nanos`].
pub fn time(nanos: i64) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::from_nanos(nanos.max(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_not_there_yet_can_be_opened_by_many_at_once() {
        for round in 0..400 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("meta-v1.db");
            let start = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                for late in [0, 1] {
                    let (start, path) = (&start, &path);
                    scope.spawn(move || {
                        start.wait();
                        std::thread::sleep(Duration::from_micros(late * (round * 7 % 3000)));
                        open(path, &Events::none()).unwrap();
                    });
                }
            });
        }
    }

    #[test]
    fn a_database_of_version_1_is_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta-v1.db");
        let blobs = dir.path().join("content-v1/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join("0123"), "content").unwrap();
        let old = Connection::open(&path).unwrap();
        let schema = SCHEMA.replace(", epoch INTEGER", "");
        old.execute_batch(&schema).unwrap();
        old.execute_batch(
            "DROP TABLE origins; PRAGMA user_version = 1;
             INSERT INTO layers VALUES ('i', 'd', 't', 1, 2, 3, NULL)",
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let db = open(&path, &Events::none()).unwrap();
            let one = |sql: &str| {
                db.query_row(sql, [], |r| r.get::<_, Option<i64>>(0))
                    .unwrap()
            };
            assert_eq!(
                one("SELECT epoch FROM layers WHERE id = 'i' AND sum IS NULL"),
                None
            );
            assert_eq!(one("SELECT count(*) FROM origins"), Some(0));
            assert_eq!(
                one("SELECT size FROM contents WHERE digest = 'sha256:0123'"),
                Some(7)
            );
            assert_eq!(
                one("SELECT bytes FROM totals WHERE class = 'layers'"),
                Some(2)
            );
            assert_eq!(
                one("SELECT bytes FROM totals WHERE class = 'contents'"),
                Some(7)
            );
            assert_eq!(one("PRAGMA user_version"), Some(VERSION));
        }
    }

    #[test]
    fn records_of_version_4_stay_and_are_of_no_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta-v1.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(SCHEMA).unwrap();
        old.execute_batch(
            "INSERT INTO records VALUES ('k', 'l', 1, 2, 3, 'n', '[]', NULL);
             PRAGMA user_version = 4",
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let db = open(&path, &Events::none()).unwrap();
            let row = "SELECT layer FROM records WHERE key = 'k'";
            let layer = db.query_row(row, [], |r| r.get::<_, String>(0));
            assert_eq!(layer, Ok("l".into()));
            for table in ["runs", "listings"] {
                let count = format!("SELECT count(*) FROM {table}");
                assert_eq!(db.query_row(&count, [], |r| r.get(0)), Ok(0_i64));
            }
        }
    }

    #[test]
    fn what_is_known_of_a_run_goes_with_its_record() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir.path().join("meta-v1.db"), &Events::none()).unwrap();
        db.execute_batch(
            "INSERT INTO records VALUES ('k', 'l', 1, 2, 3, 'n', NULL, NULL), ('o', 'l', 1, 2, 3, 'n', NULL, NULL);
             INSERT INTO records VALUES ('r', 'l', 1, 2, 3, 'n', NULL, NULL);
             INSERT INTO runs VALUES ('k', 'p', 's', 'i', '[]', NULL, NULL),
                 ('o', 'p', 's', 'i', '[]', NULL, NULL), ('r', 'p', 's', 'i', '[]', 1, 2);
             DELETE FROM records WHERE key IN ('k', 'r')",
        )
        .unwrap();
        let left = db.query_row("SELECT group_concat(key) FROM runs", [], |r| r.get(0));
        // What was removed for space is known as such.
        assert_eq!(left, Ok("o,r".to_owned()));
    }

    #[test]
    fn sums_follow_their_tables() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir.path().join("meta-v1.db"), &Events::none()).unwrap();
        let sum = || -> i64 {
            let sql = "SELECT bytes FROM totals WHERE class = 'contents'";
            db.query_row(sql, [], |r| r.get(0)).unwrap()
        };
        db.execute_batch("INSERT INTO contents VALUES ('a', 5, 0, NULL), ('b', 7, 0, NULL)")
            .unwrap();
        assert_eq!(sum(), 12);
        db.execute_batch("UPDATE contents SET size = 1 WHERE digest = 'a'")
            .unwrap();
        assert_eq!(sum(), 8);
        db.execute_batch("DELETE FROM contents").unwrap();
        assert_eq!(sum(), 0);
    }
}
