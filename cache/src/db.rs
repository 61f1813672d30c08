//! The database: one connection a process, short transactions, nothing waits while it holds one.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Error, Result};

/// The first SQLite without the write-ahead-log bug that can corrupt a database in use.
const MIN_SQLITE: i32 = 3_051_003;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS layers (
    id TEXT PRIMARY KEY, diff_id TEXT NOT NULL, tree TEXT NOT NULL, tar_size INTEGER NOT NULL,
    bytes INTEGER NOT NULL, created INTEGER NOT NULL, boot TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS layers_by_diff ON layers (diff_id);
CREATE TABLE IF NOT EXISTS records (
    key TEXT PRIMARY KEY, layer TEXT NOT NULL, ran_at INTEGER NOT NULL, took INTEGER NOT NULL,
    created INTEGER NOT NULL, name TEXT NOT NULL, inputs TEXT NOT NULL, used INTEGER NOT NULL,
    boot TEXT
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
CREATE TABLE IF NOT EXISTS fingerprints (
    identity TEXT NOT NULL, selection TEXT NOT NULL, fingerprint TEXT NOT NULL,
    PRIMARY KEY (identity, selection)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS downloads (
    url TEXT PRIMARY KEY, etag TEXT, modified TEXT, digest TEXT NOT NULL, size INTEGER NOT NULL,
    boot TEXT
) WITHOUT ROWID;
PRAGMA user_version = 1;
";

/// Opens the database and makes its tables.
pub(crate) fn open(path: &Path) -> Result<Connection> {
    if rusqlite::version_number() < MIN_SQLITE {
        return Err(Error::SqliteTooOld(rusqlite::version().to_owned()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(30))?;
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
        db.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT;"))?;
    } else {
        db.execute_batch("PRAGMA synchronous = NORMAL;")?;
    }
    Ok(db)
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

/// Seconds and nanoseconds since 1970 as one number; dates before are 0.
pub(crate) fn nanos(time: std::time::SystemTime) -> i64 {
    time.duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_nanos()).ok())
        .unwrap_or(0)
}

/// The time of a number from [`nanos`].
pub(crate) fn time(nanos: i64) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::from_nanos(nanos.max(0).cast_unsigned())
}
