//! Cache mounts: directories that steps keep between builds.
//!
//! Each has a row: its id (a home's name is a hash), its size, its last use. Whoever uses a mount
//! holds a lock on its byte of `mounts-v1/locks`. The row carries the boot id while the mount's files
//! may not be on the disk: after a power cut such a mount is dropped.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kiln_sys::RootDir;
use kiln_sys::lock::{RangeLock, try_lock};

use crate::db::{nanos, time};
use crate::error::{Error, Result};
use crate::store::{MountStore, Store};

/// A cache mount in use.
#[derive(Debug)]
pub struct CacheMountDir {
    /// Its directory.
    pub path: PathBuf,
    /// 0, or the number of a further one of `sharing=private`.
    pub number: u32,
    /// It was made just now, or there is nothing in it.
    pub is_new: bool,
    /// The store that knows of it, and its home there; none for mounts of another folder.
    noted: Option<(Store, String)>,
    _lock: Option<RangeLock>,
}

impl CacheMountDir {
    /// Whether the store knows of it; mounts of another folder go with that.
    pub fn is_kept(&self) -> bool {
        self.noted.is_some()
    }
}

impl Drop for CacheMountDir {
    fn drop(&mut self) {
        let Some((store, home)) = &self.noted else {
            return;
        };
        if let Err(error) = store.cache_mounts().note_mount_end(home) {
            tracing::debug!(%error, "the last use of a cache mount is not noted");
        }
    }
}

/// How a cache mount is used by steps at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountUse {
    /// Together with others.
    Shared,
    /// Alone; the next free one is taken or made.
    Private,
    /// Alone; one waits for the other.
    Locked,
    /// Alone, and by no step: to bring it elsewhere, or something into it.
    Moved,
}

impl MountUse {
    /// As `RUN --mount=type=cache,sharing=` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            // Of a new one: what it is for a step that does not say.
            Self::Shared | Self::Moved => "shared",
            Self::Private => "private",
            Self::Locked => "locked",
        }
    }

    /// How many mounts one id may have; a step of [`Private`](Self::Private) takes the first free one.
    pub(crate) fn most(self) -> u32 {
        if self == Self::Private { 4096 } else { 1 }
    }
}

/// What is known of a cache mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRow {
    /// Its id, as in `RUN --mount`.
    pub id: String,
    /// 0, or the number of a further one of `sharing=private`.
    pub number: u32,
    /// How a step used it last.
    pub sharing: String,
    /// Bytes that its files take on the disk, when they were last measured.
    pub bytes: u64,
    /// Nobody has used it since.
    pub measured: bool,
    /// When it was made.
    pub created: SystemTime,
    /// When it was last used.
    pub used: SystemTime,
    /// A step uses it now.
    pub in_use: bool,
    /// Its directory.
    pub path: PathBuf,
    pub(crate) home: String,
}

/// Whether there is nothing in a mount's directory, or no directory.
pub(crate) fn is_empty(data: &Path) -> Result<bool> {
    match std::fs::read_dir(data) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Error::io("look at cache mount", e)),
    }
}

/// The name of a mount's home, and its byte of the lock file.
pub(crate) fn home_of(id: &str, number: u32) -> (String, u64) {
    // The id comes from a Dockerfile: it never becomes a file name.
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(b"kiln cache mount")
        .update(id.as_bytes())
        .update(&number.to_le_bytes());
    let home = hasher.finalize().to_hex().to_string();
    let offset = byte_of(&home);
    (home, offset)
}

/// The byte of the lock file for a home.
fn byte_of(home: &str) -> u64 {
    let mut offset = [0; 8];
    for (byte, pair) in offset.iter_mut().zip(home.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or("0");
        *byte = u8::from_str_radix(pair, 16).unwrap_or(0);
    }
    u64::from_le_bytes(offset) >> 1
}

impl MountStore<'_> {
    pub(crate) fn mount_path(&self, home: &str) -> PathBuf {
        self.path("mounts-v1").join(home)
    }

    /// The lock of a home; mounts have their own file, apart from flights.
    pub(crate) fn lock_mount(&self, home: &str, shared: bool) -> Result<Option<RangeLock>> {
        let locks = self.path("mounts-v1/locks");
        Ok(try_lock(&locks, byte_of(home), shared)?)
    }

    /// Takes the cache mount `id`, if it can be had now. A new one is filled by `fill`, which
    /// gets its empty directory. Mounts are the store's, or those of another `folder`.
    ///
    /// # Errors
    /// The directory cannot be made, or `fill` failed.
    pub fn try_cache_mount(
        &self,
        folder: Option<&Path>,
        id: &str,
        how: MountUse,
        fill: &mut dyn FnMut(&RootDir) -> Result<()>,
    ) -> Result<Option<CacheMountDir>> {
        for number in 0..how.most() {
            let taken = self.try_numbered(folder, (id, number), how, fill)?;
            if taken.is_some() {
                return Ok(taken);
            }
        }
        Ok(None)
    }

    /// Takes one of the cache mounts of an id, by its number.
    pub(crate) fn try_numbered(
        &self,
        folder: Option<&Path>,
        (id, number): (&str, u32),
        how: MountUse,
        fill: &mut dyn FnMut(&RootDir) -> Result<()>,
    ) -> Result<Option<CacheMountDir>> {
        let own = self.path("mounts-v1");
        let place = folder.unwrap_or(&own);
        let (home, offset) = home_of(id, number);
        let locks = place.join("locks");
        let Some(lock) = try_lock(&locks, offset, how == MountUse::Shared)? else {
            return Ok(None);
        };
        let place = place.join(&home);
        let is_new = is_empty(&place.join("data"))?;
        let path = self.ready_mount(&place, id, fill)?;
        let noted = folder.is_none().then(|| (Store::clone(self), home));
        if let Some((store, home)) = &noted {
            // Before anything is written to it.
            store
                .cache_mounts()
                .note_mount_start(home, id, number, how)?;
        }
        Ok(Some(CacheMountDir {
            path,
            number,
            is_new,
            noted,
            _lock: Some(lock),
        }))
    }

    fn ready_mount(
        &self,
        home: &Path,
        id: &str,
        fill: &mut dyn FnMut(&RootDir) -> Result<()>,
    ) -> Result<PathBuf> {
        let data = home.join("data");
        if data.is_dir() {
            return Ok(data);
        }
        let scratch = self.scratch()?;
        let new = scratch.path().join("mount");
        let make =
            |dir: &Path| std::fs::create_dir(dir).map_err(|e| Error::io("make cache mount", e));
        make(&new)?;
        make(&new.join("data"))?;
        fill(&RootDir::open_trusted(&new.join("data"))?)?;
        std::fs::write(new.join("id"), id).map_err(|e| Error::io("name cache mount", e))?;
        match std::fs::rename(&new, home) {
            Ok(()) => {}
            // Another step was faster: its directory is the one.
            Err(_) if data.is_dir() => {}
            // What is there is no mount.
            Err(_) => {
                self.discard(home)?;
                std::fs::rename(&new, home).map_err(|e| Error::io("name cache mount", e))?;
            }
        }
        Ok(data)
    }

    fn note_mount_start(&self, home: &str, id: &str, number: u32, how: MountUse) -> Result<()> {
        let now = nanos(SystemTime::now());
        self.write(|tx| {
            tx.prepare_cached(
                "INSERT INTO mounts
                 (home, id, number, sharing, bytes, measured, created, used, boot)
                 VALUES (?1, ?2, ?3, ?4, 0, 0, ?5, ?5, ?6)
                 ON CONFLICT (home) DO UPDATE SET
                     sharing = CASE WHEN ?7 THEN excluded.sharing ELSE sharing END, measured = 0, used = excluded.used,
                     boot = excluded.boot",
            )?
            .execute((
                home,
                id,
                number,
                how.as_str(),
                now,
                self.boot(),
                how != MountUse::Moved,
            ))?;
            Ok(())
        })
    }

    fn note_mount_end(&self, home: &str) -> Result<()> {
        let now = nanos(SystemTime::now());
        self.write(|tx| {
            tx.prepare_cached("UPDATE mounts SET used = ?2, measured = 0 WHERE home = ?1")?
                .execute((home, now))?;
            Ok(())
        })
    }

    /// How long to wait before trying a locked mount again.
    pub fn pause() -> Duration {
        Duration::from_millis(20)
    }

    /// All cache mounts, by id and number.
    ///
    /// # Errors
    /// The database refused.
    pub fn mounts(&self) -> Result<Vec<MountRow>> {
        let mut rows: Vec<MountRow> = {
            let db = self.db();
            let mut query = db.prepare(
                "SELECT home, id, number, sharing, bytes, measured, created, used FROM mounts
                 ORDER BY id, number",
            )?;
            let rows = query.query_map([], |row| {
                let home: String = row.get(0)?;
                Ok(MountRow {
                    path: self.mount_path(&home).join("data"),
                    home,
                    id: row.get(1)?,
                    number: row.get(2)?,
                    sharing: row.get(3)?,
                    bytes: row.get::<_, i64>(4)?.max(0).cast_unsigned(),
                    measured: row.get(5)?,
                    created: time(row.get(6)?),
                    used: time(row.get(7)?),
                    in_use: false,
                })
            })?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        rows.retain(|row| row.path.is_dir());
        for row in &mut rows {
            row.in_use = self.lock_mount(&row.home, false)?.is_none();
        }
        Ok(rows)
    }

    /// Removes the cache mounts that nobody uses and whose ids are among `ids`. Returns the bytes
    /// of those that were removed, and the ids that are in use.
    ///
    /// # Errors
    /// A directory cannot be moved, or the database refused.
    pub fn remove_mounts(&self, ids: &HashSet<String>) -> Result<(u64, Vec<String>)> {
        let (mut freed, mut busy) = (0, Vec::new());
        for row in self.mounts()?.into_iter().filter(|r| ids.contains(&r.id)) {
            let Some(_lock) = self.lock_mount(&row.home, false)? else {
                busy.push(row.id);
                continue;
            };
            self.write(|tx| {
                tx.execute("DELETE FROM mounts WHERE home = ?1", [&row.home])?;
                Ok(())
            })?;
            self.discard(&self.mount_path(&row.home))?;
            freed += row.bytes;
        }
        busy.dedup();
        Ok((freed, busy))
    }

    /// Measures the mounts that were used since they were last measured.
    ///
    /// # Errors
    /// The database refused.
    pub fn measure_mounts(&self) -> Result<()> {
        let due: Vec<(String, i64)> = {
            let db = self.db();
            let mut query =
                db.prepare_cached("SELECT home, used FROM mounts WHERE measured = 0")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        for (home, used) in due {
            let Ok(root) = RootDir::open_trusted(&self.mount_path(&home).join("data")) else {
                continue;
            };
            let bytes = allocated(&root, &mut HashSet::new()).cast_signed();
            self.write(|tx| {
                // One that was used meanwhile is measured again.
                tx.execute(
                    "UPDATE mounts SET bytes = ?2, measured = (used = ?3) WHERE home = ?1",
                    (&home, bytes, used),
                )?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Brings the rows of mounts in line with what is on the disk: a store whose database was lost
    /// or is of an older version has mounts without rows.
    ///
    /// # Errors
    /// The folder cannot be listed, or the database refused.
    pub fn reconcile_mounts(&self) -> Result<()> {
        let folder = RootDir::open_trusted(&self.path("mounts-v1"))?;
        let mut there = HashSet::new();
        for entry in folder.read_dir(Path::new(""))? {
            let name = entry.name.to_string_lossy().into_owned();
            if name != "locks" {
                there.insert(name);
            }
        }
        let known: HashSet<String> = {
            let db = self.db();
            let mut query = db.prepare("SELECT home FROM mounts")?;
            let rows = query.query_map([], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        for home in there.difference(&known) {
            // Whoever makes it now writes its row as well.
            let Some(_lock) = self.lock_mount(home, false)? else {
                continue;
            };
            let dir = self.mount_path(home);
            match name_of(&dir, home) {
                Some((id, number)) => self.note_mount_start(home, &id, number, MountUse::Moved)?,
                None => {
                    self.check_is_current()?;
                    self.discard(&dir)?;
                }
            }
        }
        for home in known.difference(&there) {
            let Some(_lock) = self.lock_mount(home, false)? else {
                continue;
            };
            self.write(|tx| {
                tx.execute("DELETE FROM mounts WHERE home = ?1", [home])?;
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// The id and number of the mount in a home, from its file `id`.
pub(crate) fn name_of(dir: &Path, home: &str) -> Option<(String, u32)> {
    if !dir.join("data").is_dir() {
        return None;
    }
    let id = std::fs::read_to_string(dir.join("id")).ok()?;
    let number = (0..4096).find(|n| home_of(&id, *n).0 == home)?;
    Some((id, number))
}

/// Bytes on the disk below a directory; what vanishes meanwhile does not count.
fn allocated(dir: &RootDir, linked: &mut HashSet<(u64, u64)>) -> u64 {
    let Ok(entries) = dir.read_dir(Path::new("")) else {
        return 0;
    };
    let mut sum = 0;
    for entry in entries {
        let name = Path::new(&entry.name);
        let Ok(st) = dir.lstat(name) else { continue };
        if st.nlink == 1 || st.is_dir() || linked.insert((st.dev, st.ino)) {
            sum += st.allocated;
        }
        if st.is_dir()
            && let Ok(inside) = dir.sub_dir(name)
        {
            sum += allocated(&inside, linked);
        }
    }
    sum
}
