//! Cache mounts of `RUN` steps.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use kiln_cache::{MountRow, MountStore};
use kiln_solver::plan::CacheMount;

use crate::engine::{Engine, Purpose};
use crate::error::{Error, Hint, Result};
use crate::outputs::begin;

/// How long a step that uses a cache mount is waited for.
const BUSY_MOUNT_WAIT: Duration = Duration::from_secs(60);

/// Cache mounts of `RUN` steps.
#[derive(Clone, Copy, Debug)]
pub struct CacheMounts<'a> {
    engine: &'a Engine,
}

/// What became of cache mounts that were to be removed.
#[derive(Clone, Debug, Default)]
pub struct RemovedMounts {
    /// Bytes that are gone.
    pub bytes: u64,
    /// Those that a step uses, which stay.
    pub busy: Vec<String>,
}

impl Engine {
    /// Cache mounts of `RUN` steps.
    pub fn cache_mounts(&self) -> CacheMounts<'_> {
        CacheMounts { engine: self }
    }
}

impl CacheMounts<'_> {
    /// All cache mounts, measured.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<MountRow>> {
        let store = self.engine.session()?;
        store.cache_mounts().measure_mounts()?;
        Ok(store.cache_mounts().mounts()?)
    }

    /// The cache mounts of this id.
    ///
    /// # Errors
    /// There is none.
    pub fn inspect(&self, id: &str) -> Result<Vec<MountRow>> {
        let mut mounts = self.list()?;
        mounts.retain(|mount| CacheMount::has(id, &mount.id));
        match mounts.is_empty() {
            true => Err(kiln_cache::Error::NoMount(id.to_owned()).into()),
            false => Ok(mounts),
        }
    }

    /// Removes cache mounts of these ids; none are all. Those that a step uses stay.
    ///
    /// # Errors
    /// There is no such cache mount, and then nothing is removed.
    pub fn remove(&self, ids: &[String]) -> Result<RemovedMounts> {
        let store = self.engine.session_for(Purpose::Remove)?;
        let known: HashSet<String> = store
            .cache_mounts()
            .mounts()?
            .into_iter()
            .map(|m| m.id)
            .collect();
        let is_there = |id: &&String| known.iter().any(|name| CacheMount::has(id, name));
        if let Some(id) = ids.iter().find(|id| !is_there(id)) {
            return Err(kiln_cache::Error::NoMount(id.clone()).into());
        }
        let is_wanted =
            |name: &&String| ids.is_empty() || ids.iter().any(|id| CacheMount::has(id, name));
        let wanted = known.iter().filter(is_wanted).cloned().collect();
        let (bytes, busy) = store.cache_mounts().remove_mounts(&wanted)?;
        Ok(RemovedMounts {
            bytes,
            busy: busy.into_iter().collect(),
        })
    }

    /// Writes a cache mount to a file, a tar that is compressed with zstd. The file appears when it is complete.
    ///
    /// # Errors
    /// There is no such cache mount, a step goes on using it, or the file cannot be written.
    pub fn export_to(&self, id: &str, path: &Path) -> Result<()> {
        let store = self.engine.session()?;
        let cannot = |e: kiln_sys::FsError| {
            Error::failed(format!("cannot write `{}`: {}", path.display(), e.source))
        };
        let pending = begin(path).map_err(cannot)?;
        let clone = || pending.file().try_clone().map_err(|e| use_file(path, e));
        until_free(id, || store.cache_mounts().export_mount(id, clone()?))?;
        pending.keep().map_err(cannot)
    }

    /// Writes a cache mount to a stream.
    ///
    /// # Errors
    /// There is no such cache mount, a step goes on using it, or the stream cannot be written.
    pub fn export(&self, id: &str, stream: &File) -> Result<()> {
        let store = self.engine.session()?;
        until_free(id, || store.cache_mounts().export_mount(id, stream)).map(drop)
    }

    /// Makes a tar, compressed or not, the cache mount of this id, in place of the one that is there.
    ///
    /// # Errors
    /// A step goes on using it, or the file cannot be read.
    pub fn import_from(&self, id: &str, path: &Path) -> Result<()> {
        let store = self.engine.session()?;
        let import = || {
            let file = File::open(path).map_err(|source| kiln_cache::Error::Io {
                what: "cannot read it".into(),
                source,
            })?;
            Ok(store
                .cache_mounts()
                .import_mount(id, Box::new(file))?
                .then_some(()))
        };
        let done = until_free(id, import);
        done.map_err(|e| e.about(format!("cannot import `{}`", path.display())))
    }

    /// The same with a stream, which is read once.
    ///
    /// # Errors
    /// A step uses it, or the stream cannot be read.
    pub fn import(&self, id: &str, stream: impl Read + Send + 'static) -> Result<()> {
        let store = self.engine.session()?;
        let done = match store.cache_mounts().import_mount(id, Box::new(stream)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(busy(id)),
            Err(error) => Err(error.into()),
        };
        done.map_err(|e: Error| e.about("cannot import what standard input gives"))
    }
}

fn busy(id: &str) -> Error {
    Error::failed(format!("a step uses the cache mount `{id}`")).with_hint(Hint::TryLater)
}

fn use_file(path: &Path, source: std::io::Error) -> kiln_cache::Error {
    kiln_cache::Error::Io {
        what: format!("use `{}`", path.display()),
        source,
    }
}

/// Tries until a step that uses the mount has ended.
fn until_free<T>(
    id: &str,
    mut attempt: impl FnMut() -> Result<Option<T>, kiln_cache::Error>,
) -> Result<T> {
    let started = Instant::now();
    while started.elapsed() < BUSY_MOUNT_WAIT {
        if let Some(done) = attempt()? {
            return Ok(done);
        }
        std::thread::sleep(MountStore::pause());
    }
    Err(busy(id))
}
