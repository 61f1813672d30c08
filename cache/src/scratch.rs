//! Work directories of running processes, and the trash.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use kiln_sys::{RootDir, system};

use crate::error::Result;
use crate::store::Store;

/// Held while a work directory is made.
static PLACING: Mutex<()> = Mutex::new(());

/// A directory for work in progress. Dropping it throws away what is left in it.
#[derive(Debug)]
pub struct Scratch {
    store: Store,
    path: PathBuf,
}

impl Scratch {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Scratch {
    /// Moves it out of sight, to be removed later by whoever empties the trash.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn discard(self) -> Result<()> {
        self.store.discard(&self.path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.store.remove_tree(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "work directory is left behind");
        }
        // The last one takes the process's own directory along.
        if let Some(parent) = self.path.parent() {
            let _ = std::fs::remove_dir(parent);
        }
    }
}

impl Store {
    /// A new work directory of this process.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn scratch(&self) -> Result<Scratch> {
        let own = self.path("work-v1").join(self.owner());
        let failed = |path: &Path, e| kiln_sys::FsError::new("make directory", path, e).into();
        // The process's own directory may move before the first scratch is in it.
        let _placing = PLACING.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match std::fs::create_dir(&own) {
                Ok(()) => self.place_well(&own),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    std::fs::create_dir_all(&own).map_err(|e| failed(&own, e))?;
                }
                Err(e) => return Err(failed(&own, e)),
            }
            let path = own.join(self.next_number().to_string());
            match std::fs::create_dir(&path) {
                Ok(()) => {
                    return Ok(Scratch {
                        store: self.clone(),
                        path,
                    });
                }
                // The last scratch of a moment ago removed the directory meanwhile.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed(&path, e)),
            }
        }
    }

    /// Moves a directory out of sight; [`Store::empty_trash`] removes it.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        match self.put_aside(path) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(kiln_sys::FsError::new("discard", path, e).into()),
        }
    }

    /// Moves a directory into the trash; returns its new path.
    pub(crate) fn put_aside(&self, path: &Path) -> std::io::Result<PathBuf> {
        let name = format!("{}-{}", self.owner(), self.next_number());
        let to = self.path("trash").join(name);
        std::fs::rename(path, &to)?;
        Ok(to)
    }

    /// Removes what was discarded, by this process or an earlier one.
    ///
    /// # Errors
    /// The trash cannot be listed.
    pub fn empty_trash(&self) -> Result<()> {
        let trash = RootDir::open_trusted(&self.path("trash"))?;
        for entry in trash.read_dir(Path::new(""))? {
            // Another process may remove the same at the same time.
            let _ = self.remove_tree(&self.path("trash").join(&entry.name));
        }
        Ok(())
    }
}

/// Builds whose output is kept.
const KEPT_LOGS: usize = 100;

impl Store {
    /// Removes the output of all but the last builds.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn prune_logs(&self) -> Result<()> {
        let logs = RootDir::open_trusted(&self.path("logs-v1"))?;
        let mut names = logs.read_dir(Path::new(""))?;
        // Names begin with the time, all of one length.
        names.sort_by(|a, b| b.name.cmp(&a.name));
        for entry in names.iter().skip(KEPT_LOGS) {
            // Another process may remove the same at the same time.
            let _ = logs.remove_all(Path::new(&entry.name));
        }
        Ok(())
    }
}

/// Whether there is a process with this number.
pub(crate) fn is_running(pid: u32) -> bool {
    system::process_start(pid).is_some()
}

/// Whether the process that a work directory is named after still runs.
pub(crate) fn is_alive(owner: &str) -> bool {
    let Some((pid, start)) = owner.split_once('-') else {
        return false;
    };
    let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<u64>()) else {
        return false;
    };
    system::process_start(pid) == Some(start)
}

/// Throws away the work of processes that are gone.
pub(crate) fn clear_dead(store: &Store) -> Result<()> {
    let work = RootDir::open_trusted(&store.path("work-v1"))?;
    for entry in work.read_dir(Path::new(""))? {
        let name = entry.name.to_string_lossy();
        if !is_alive(&name) {
            store.discard(&store.path("work-v1").join(&*name))?;
        }
    }
    Ok(())
}
