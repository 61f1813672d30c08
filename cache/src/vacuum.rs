//! Gives back room that the database does not need any more.
//!
//! Pages of rows that were deleted are used again, but the file keeps its size. A database that was made for
//! it moves its last pages into the free ones, some at a time: whoever writes meanwhile waits for
//! milliseconds. One of an older kiln has to be written anew for that, which is done where nearly nothing is
//! left of it.

use std::time::Duration;

use kiln_sys::system;
use rusqlite::Connection;

use crate::db;
use crate::error::Result;
use crate::store::Maintenance;

/// Bytes below which free pages are left for new rows.
const MIN_FREE_BYTES: u64 = 1 << 20;
/// Pages that are moved in one transaction.
const PAGES_AT_ONCE: u64 = 256;
/// Between two transactions, for others.
const PAUSE: Duration = Duration::from_millis(2);
/// Bytes of the largest database that is written anew: it takes a fraction of a second.
const MAX_REWRITE_BYTES: u64 = 16 << 20;
/// How long writing it anew waits for who writes at the moment.
const VACUUM_WAIT: Duration = Duration::from_millis(250);

/// Bytes of the database's file.
struct Size {
    all: u64,
    free: u64,
}

impl Size {
    fn of(db: &Connection) -> Result<Self> {
        let page = number(db, "page_size")?;
        Ok(Self {
            all: number(db, "page_count")?.saturating_mul(page),
            free: number(db, "freelist_count")?.saturating_mul(page),
        })
    }

    /// Whether enough is free to be given back.
    const fn is_worth_it(&self) -> bool {
        self.free > MIN_FREE_BYTES && self.free > self.all / 4
    }
}

fn number(db: &Connection, name: &str) -> Result<u64> {
    let value: i64 = db.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
    Ok(value.max(0).cast_unsigned())
}

fn is_incremental(db: &Connection) -> Result<bool> {
    Ok(number(db, "auto_vacuum")? == db::INCREMENTAL)
}

impl Maintenance<'_> {
    /// Whether there is something to do for [`Maintenance::vacuum`].
    ///
    /// # Errors
    /// The database refused.
    pub(crate) fn has_slack(&self) -> Result<bool> {
        let db = self.db();
        Ok(Size::of(&db)?.is_worth_it() && is_incremental(&db)?)
    }

    /// Makes the database's file smaller, a little at a time, where much of it is free.
    ///
    /// # Errors
    /// The database refused, or somebody keeps it busy. It is whole all the same.
    pub fn vacuum(&self) -> Result<()> {
        if !self.has_slack()? {
            return Ok(());
        }
        let sql = format!("PRAGMA incremental_vacuum({PAGES_AT_ONCE})");
        let mut left = u64::MAX;
        loop {
            let db = self.db();
            let now = number(&db, "freelist_count")?;
            // Somebody else may fill pages while they are moved.
            if now == 0 || now >= left {
                break;
            }
            left = now;
            let mut moving = db.prepare_cached(&sql)?;
            let mut steps = moving.query([])?;
            // One for each page.
            while steps.next()?.is_some() {}
            drop(steps);
            drop(moving);
            drop(db);
            std::thread::sleep(PAUSE);
        }
        // What is still in the log gets into the file, which is cut off then.
        let db = self.db();
        db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// Writes a database of an older kiln anew where little is left in it, so that it is one from which
    /// slack can be given back.
    ///
    /// # Errors
    /// The database refused, or somebody keeps it busy. It is whole all the same.
    pub(crate) fn renew_database(&self) -> Result<()> {
        let db = self.db();
        let size = Size::of(&db)?;
        let used = size.all - size.free.min(size.all);
        if !size.is_worth_it() || used > MAX_REWRITE_BYTES || is_incremental(&db)? {
            return Ok(());
        }
        // It is there three times: the copy, the log, the file.
        if system::free_bytes(self.root())? < size.all + 4 * used + MAX_REWRITE_BYTES {
            return Ok(());
        }
        db.busy_timeout(VACUUM_WAIT)?;
        let renewed = db.execute_batch(&format!(
            "PRAGMA auto_vacuum = {}; VACUUM; PRAGMA wal_checkpoint(PASSIVE);",
            db::INCREMENTAL
        ));
        db.busy_timeout(db::DB_BUSY_TIMEOUT)?;
        Ok(renewed?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gc::Prune;
    use crate::store::Store;

    const ROWS: &str = "
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
        INSERT INTO layers SELECT printf('%024x-1-1', i), 'd' || i, 't', 1, 10, 1, NULL, NULL, NULL FROM n;
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
        INSERT INTO records SELECT printf('%064x', i), printf('%024x-1-1', i), 1, 1, 1, 'RUN ' || i, NULL, NULL FROM n;";

    fn bytes(store: &Store) -> u64 {
        let file = std::fs::metadata(store.root().join(db::FILE)).unwrap();
        file.len()
    }

    fn all() -> Prune {
        Prune {
            all: true,
            ..Prune::default()
        }
    }

    #[test]
    fn what_was_pruned_is_given_back_while_others_write() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.write(|tx| Ok(tx.execute_batch(ROWS)?)).unwrap();
        assert!(!store.maintenance().has_slack().unwrap());
        store.maintenance().prune(&all()).unwrap();
        store.empty_trash().unwrap();
        assert!(store.maintenance().has_slack().unwrap());
        assert!(store.maintenance().needs_maintenance().unwrap());
        let before = Size::of(&store.db()).unwrap().all;
        let other = Store::open(dir.path()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..50 {
                    let url = format!("https://{n}");
                    let insert = "INSERT INTO downloads VALUES (?1, NULL, NULL, 'd')";
                    other.write(|tx| Ok(tx.execute(insert, [url])?)).unwrap();
                }
            });
            store.maintenance().vacuum().unwrap();
        });
        assert!(!store.maintenance().has_slack().unwrap());
        let urls = |db: &Connection| {
            let sql = "SELECT count(*) FROM downloads";
            db.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap()
        };
        assert_eq!(urls(&store.db()), 50);
        drop(other);
        let root = dir.path();
        drop(store);
        let store = Store::open(root).unwrap();
        assert!(bytes(&store) < before / 4, "{} of {before}", bytes(&store));
        store.maintenance().vacuum().unwrap();
        assert_eq!(urls(&store.db()), 50);
    }

    #[test]
    fn the_database_of_an_older_kiln_is_written_anew_when_all_is_pruned() {
        let dir = tempfile::tempdir().unwrap();
        let old = Store::open(dir.path()).unwrap();
        old.db()
            .execute_batch("PRAGMA auto_vacuum = NONE; VACUUM")
            .unwrap();
        assert!(!is_incremental(&old.db()).unwrap());
        drop(old);
        let store = Store::open(dir.path()).unwrap();
        store.write(|tx| Ok(tx.execute_batch(ROWS)?)).unwrap();
        let before = Size::of(&store.db()).unwrap().all;
        let some = Prune {
            unused_for: Some(Duration::from_secs(1)),
            ..Prune::default()
        };
        store.maintenance().prune(&some).unwrap();
        assert!(!is_incremental(&store.db()).unwrap());
        // Nothing that the upkeep could do.
        assert!(!store.maintenance().has_slack().unwrap());
        store.maintenance().prune(&all()).unwrap();
        assert!(is_incremental(&store.db()).unwrap());
        let after = Size::of(&store.db()).unwrap();
        assert!(after.all < before / 4 && !after.is_worth_it());
        store.write(|tx| Ok(tx.execute_batch(ROWS)?)).unwrap();
    }

    /// Somebody writes, and goes on.
    #[test]
    fn a_database_in_use_is_not_waited_for_and_no_command_fails() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (
            Store::open(dir.path()).unwrap(),
            Store::open(dir.path()).unwrap(),
        );
        one.db()
            .execute_batch("PRAGMA auto_vacuum = NONE; VACUUM")
            .unwrap();
        one.write(|tx| Ok(tx.execute_batch(ROWS)?)).unwrap();
        one.write(|tx| Ok(tx.execute_batch("DELETE FROM records; DELETE FROM layers")?))
            .unwrap();
        two.db().execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(one.maintenance().renew_database().is_err());
        two.db().execute_batch("ROLLBACK").unwrap();
        assert!(one.maintenance().prune(&all()).is_ok());
        assert!(is_incremental(&one.db()).unwrap());
    }
}
