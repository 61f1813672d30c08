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
PRAGMA user_version = 4;
";

/// The version of [`SCHEMA`].
const VERSION: i64 = 4;

/// Opens the database and makes its tables.
pub(crate) fn open(path: &Path) -> Result<Connection> {
    if rusqlite::version_number() < MIN_SQLITE {
        return Err(Error::SqliteTooOld(rusqlite::version().to_owned()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(30))?;
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
        db.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT;"))?;
    } else {
        db.execute_batch("PRAGMA synchronous = NORMAL;")?;
    }
    if (1..VERSION).contains(&version) {
        migrate(&mut db)?;
    }
    Ok(db)
}

/// From version 1, whose layers did not remember the clamp of their times, version 2, which did
/// not know where layers come from, and version 3, which did not know of downloads.
fn migrate(db: &mut Connection) -> Result<()> {
    write(db, |tx| {
        // Another process may have been faster.
        let version: i64 = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == 1 {
            tx.execute_batch("ALTER TABLE layers ADD COLUMN epoch INTEGER")?;
        }
        if version < VERSION {
            tx.execute_batch(SCHEMA)?;
        }
        Ok(())
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_version_1_is_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta-v1.db");
        let old = Connection::open(&path).unwrap();
        let schema = SCHEMA
            .replace(", epoch INTEGER", "")
            .replace("user_version = 4", "user_version = 1");
        old.execute_batch(&schema).unwrap();
        old.execute_batch("DROP TABLE origins").unwrap();
        old.execute_batch("INSERT INTO layers VALUES ('i', 'd', 't', 1, 2, 3, NULL)")
            .unwrap();
        drop(old);
        for _ in 0..2 {
            let db = open(&path).unwrap();
            let row = "SELECT epoch FROM layers WHERE id = 'i'";
            assert_eq!(
                db.query_row(row, [], |r| r.get::<_, Option<i64>>(0))
                    .unwrap(),
                None
            );
            let origins = "SELECT count(*) FROM origins";
            assert_eq!(
                db.query_row(origins, [], |r| r.get::<_, i64>(0)).unwrap(),
                0
            );
            let version = db
                .query_row("PRAGMA user_version", [], |r| r.get::<_, i64>(0))
                .unwrap();
            assert_eq!(version, VERSION);
        }
    }
}
