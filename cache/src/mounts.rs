//! Cache mounts: directories that steps keep between builds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_sys::RootDir;
use kiln_sys::lock::{RangeLock, try_lock};

use crate::error::{Error, Result};
use crate::store::Store;

/// A cache mount in use.
#[derive(Debug)]
pub struct CacheMountDir {
    /// Its directory.
    pub path: PathBuf,
    _lock: Option<RangeLock>,
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
}

impl Store {
    fn mount_home(&self, id: &str, number: u32) -> (PathBuf, u64) {
        // The id comes from a Dockerfile: it never becomes a file name.
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(b"kiln cache mount")
            .update(id.as_bytes())
            .update(&number.to_le_bytes());
        let hash = hasher.finalize();
        let mut offset = [0; 8];
        offset.copy_from_slice(&hash.as_bytes()[..8]);
        (
            self.path("mounts-v1").join(hash.to_hex().as_str()),
            u64::from_le_bytes(offset) >> 1,
        )
    }

    /// Takes the cache mount `id`, if it can be had now. A new one is filled by `fill`, which
    /// gets its empty directory.
    ///
    /// # Errors
    /// The directory cannot be made, or `fill` failed.
    pub fn try_cache_mount(
        &self,
        id: &str,
        how: MountUse,
        fill: &mut dyn FnMut(&RootDir) -> Result<()>,
    ) -> Result<Option<CacheMountDir>> {
        let most = if how == MountUse::Private { 4096 } else { 1 };
        for number in 0..most {
            let (home, offset) = self.mount_home(id, number);
            let shared = how == MountUse::Shared;
            // Mounts have their own range of the lock file, apart from flights.
            let lock = try_lock(&self.path("mounts-v1/locks"), offset, shared)?;
            let Some(lock) = lock else { continue };
            let path = self.ready_mount(&home, id, fill)?;
            return Ok(Some(CacheMountDir {
                path,
                _lock: Some(lock),
            }));
        }
        Ok(None)
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
            Err(e) => return Err(Error::io("name cache mount", e)),
        }
        Ok(data)
    }

    /// How long to wait before trying a locked mount again.
    pub fn mount_pause() -> Duration {
        Duration::from_millis(20)
    }
}
