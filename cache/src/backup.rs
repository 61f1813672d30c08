//! A copy of the database, from which a damaged one is made again.
//!
//! Everything that the database says can be fetched or made again, but for the names of images; and the
//! work is lost. So upkeep leaves a copy of it beside it. What was made since is a miss; a name that has gone
//! to another image since means the old one again, and that is said.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kiln_image::{Algorithm, Digest, Hasher};
use kiln_solver::event::{Events, Warning, WarningCode};
use kiln_sys::RootDir;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::db::{self, Database};
use crate::error::{Error, Result};

/// Its name in the store.
const FILE: &str = db::COPY;

/// A database of so many bytes is copied by each upkeep, a larger one every so often.
const SMALL_BYTES: u64 = 8 << 20;
const INTERVAL: Duration = Duration::from_secs(10 * 60);

/// No kiln has or will soon have such a version of the tables; a newer one is no damage.
const MAX_VERSION: i64 = 1000;

/// The files beside a database, by what their names end with.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// A database that is being made, and with suffixes the files beside it.
const NEW: &str = "meta-v1.new";

/// Whether the database of the store at `root` has changed since it was copied.
pub(crate) fn is_due(root: &Path) -> bool {
    let when = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified());
    let from = root.join(db::FILE);
    let size = std::fs::metadata(&from).map_or(0, |meta| meta.len());
    let Ok(copied) = when(&root.join(FILE)) else {
        return true;
    };
    let wal = root.join(format!("{}-wal", db::FILE));
    let changes = [&from, &wal].map(|path| when(path).unwrap_or(SystemTime::UNIX_EPOCH));
    let is_young = copied.elapsed().is_ok_and(|age| age < INTERVAL);
    !(changes.iter().all(|changed| *changed < copied) || size > SMALL_BYTES && is_young)
}

/// Copies a database to `to` if it is in order, and says whether it is: a copy has the damage of what is
/// copied.
///
/// # Errors
/// It cannot be read, or the copy cannot be written.
pub(crate) fn copy(db: &Connection, to: &Path) -> Result<bool> {
    if problem_of(db)?.is_some() {
        return Ok(false);
    }
    db.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
    Ok(true)
}

/// A new database in the place of one that is damaged or gone. It is made aside, so that whoever opens the
/// database meanwhile finds the old one or the whole new one.
pub(crate) fn replace(root: &Path, events: &Events) -> Result<Database> {
    let _alone = db::wait_for_lock(root, false, events)?;
    let path = root.join(db::FILE);
    if path.is_file() {
        match db::open_locked(&path, events) {
            Ok(db) if problem_of(&db)?.is_none() => return Ok(db),
            Ok(_) => {}
            Err(e) if e.is_damaged_database() => {}
            Err(e) => return Err(e),
        }
    }
    let failed = |e| Error::io("replace the database", e);
    for entry in RootDir::open_trusted(root)?.read_dir(Path::new(""))? {
        if entry.name.to_string_lossy().starts_with(NEW) {
            // Of one who was killed.
            std::fs::remove_file(root.join(&entry.name)).map_err(failed)?;
        }
    }
    let new = root.join(NEW);
    make(root, &new, events)?;
    std::fs::File::open(&new)
        .and_then(|file| file.sync_all())
        .map_err(failed)?;
    let mut random = [0_u8; 8];
    kiln_sys::system::random(&mut random)?;
    let aside = root.join(format!("trash/damaged-{:x}", u64::from_le_bytes(random)));
    let is_gone = |done: std::io::Result<()>| match done {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(e)),
        _ => Ok(()),
    };
    is_gone(std::fs::hard_link(&path, &aside))?;
    for suffix in SUFFIXES {
        is_gone(std::fs::rename(
            beside(&path, suffix),
            beside(&aside, suffix),
        ))?;
    }
    std::fs::rename(&new, &path).map_err(failed)?;
    db::open_locked(&path, events)
}

/// Makes a database at `new` of the copy, as far as what it says is there, and of the blobs that are there.
fn make(root: &Path, new: &Path, events: &Events) -> Result<()> {
    let warn = |text: String| events.warn(Warning::new(WarningCode::StoreDamaged, text));
    let copy = root.join(FILE);
    match intact(&copy)? {
        Some(copy) => {
            let when = std::fs::metadata(root.join(FILE)).and_then(|meta| meta.modified());
            let age = when
                .ok()
                .and_then(|when| when.elapsed().ok())
                .unwrap_or_default();
            warn(format!(
                "images and results are those of {} s ago: names that went to other images since mean \
                 the old ones",
                age.as_secs()
            ));
            copy.execute("VACUUM INTO ?1", [new.to_string_lossy()])?;
        }
        None => warn("there is no copy of it: names of images are lost".into()),
    }
    let mut db = db::create(new)?;
    let boot = kiln_sys::system::boot_id()?;
    let blobs = unlisted_blobs(&db, root)?;
    db::write(&mut db, |tx| {
        for (digest, size) in &blobs {
            let now = db::nanos(SystemTime::now());
            let sql = "INSERT OR IGNORE INTO contents (digest, size, created, boot) VALUES (?1, ?2, ?3, ?4)";
            tx.execute(sql, (digest.as_str(), size.cast_signed(), now, &boot))?;
        }
        forget_what_is_gone(tx, root)
    })?;
    // Only its main file takes the name.
    let is_busy: bool = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    db.close().map_err(|(_, error)| error)?;
    if is_busy || beside(new, "-wal").exists() {
        return Err(Error::Damaged(
            "database, and the one that is made cannot be finished".into(),
        ));
    }
    Ok(())
}

/// Blobs without a row, whose bytes are what their names say: what was written before a power cut may not be.
fn unlisted_blobs(db: &Connection, root: &Path) -> Result<Vec<(Digest, u64)>> {
    let known: HashSet<String> = {
        let mut query = db.prepare("SELECT digest FROM contents")?;
        let rows = query.query_map([], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let mut blobs = Vec::new();
    for algorithm in ["sha256", "sha512"] {
        let folder = root.join("content-v1").join(algorithm);
        // A store that never held a blob of this algorithm has no such folder.
        let Ok(entries) =
            RootDir::open_trusted(&folder).and_then(|dir| dir.read_dir(Path::new("")))
        else {
            continue;
        };
        for entry in entries {
            let name = format!("{algorithm}:{}", entry.name.to_string_lossy());
            let Ok(digest) = name.parse::<Digest>() else {
                continue;
            };
            // What cannot be read is fetched or made again.
            if !known.contains(&name)
                && let Ok((found, size)) = digest_of(&folder.join(&entry.name), digest.algorithm())
                && found == digest
            {
                blobs.push((digest, size));
            }
        }
    }
    Ok(blobs)
}

fn digest_of(path: &Path, algorithm: Algorithm) -> std::io::Result<(Digest, u64)> {
    let mut file = std::fs::File::open(path)?;
    let (mut hasher, mut buffer, mut size) = (Hasher::new(algorithm), vec![0; 256 << 10], 0);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((hasher.finish(), size));
        }
        size += n as u64;
        hasher.update(&buffer[..n]);
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The copy, if there is one in order.
fn intact(copy: &Path) -> Result<Option<Connection>> {
    if !copy.is_file() {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = match Connection::open_with_flags(copy, flags) {
        Ok(db) => db,
        Err(_) => return Ok(None),
    };
    Ok(problem_of(&db)?.is_none().then_some(db))
}

/// Rows whose files are not there would only be found to be misses later, and images without a config are
/// none.
fn forget_what_is_gone(tx: &rusqlite::Transaction<'_>, root: &Path) -> Result<()> {
    let layers = RootDir::open_trusted(&root.join("layers-v1"))?;
    let mut there = Vec::new();
    for entry in layers.read_dir(Path::new(""))? {
        there.push(entry.name.to_string_lossy().into_owned());
    }
    let there = serde_json::to_string(&there).unwrap_or_else(|_| "[]".into());
    let sql = "DELETE FROM layers WHERE id NOT IN (SELECT value FROM json_each(?1))";
    tx.execute(sql, [there])?;
    tx.execute_batch(
        "DELETE FROM records WHERE layer NOT IN (SELECT id FROM layers);
         DELETE FROM images WHERE config NOT IN (SELECT digest FROM contents);",
    )?;
    Ok(())
}

/// What is wrong with a database, if anything: its pages, its tables, or values of the wrong type.
pub(crate) fn problem_of(db: &Connection) -> Result<Option<String>> {
    match find_problem(db).map_err(Error::from) {
        Ok(problem) => Ok(problem),
        Err(e) if e.is_damaged_database() => Ok(Some(e.to_string())),
        Err(e) => Err(e),
    }
}

fn find_problem(db: &Connection) -> rusqlite::Result<Option<String>> {
    let answer: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if answer != "ok" {
        return Ok(Some(answer));
    }
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if !(1..=MAX_VERSION).contains(&version) {
        return Ok(Some(format!("it has version {version}")));
    }
    for table in db::TABLES {
        let columns: Vec<(String, bool)> = {
            let mut query =
                db.prepare("SELECT name, type = 'INTEGER' FROM pragma_table_info(?1)")?;
            let rows = query.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        let mut query = db.prepare(&format!("SELECT * FROM {table}"))?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            for (at, (name, is_number)) in columns.iter().enumerate() {
                let fits = match row.get_ref(at)? {
                    ValueRef::Null => true,
                    ValueRef::Integer(_) => *is_number,
                    ValueRef::Text(text) => !*is_number && std::str::from_utf8(text).is_ok(),
                    ValueRef::Real(_) | ValueRef::Blob(_) => false,
                };
                if !fits {
                    return Ok(Some(format!("table {table}: a value of {name} is none")));
                }
            }
        }
    }
    Ok(None)
}
