//! Work directories of sessions that go on, logs, and the trash.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_sys::{RootDir, system};

use crate::error::Result;
use crate::lease::owner_lease;
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
            tracing::debug!(path = %self.path.display(), %error, "work directory is left behind");
        }
        // The last one takes the session's own directory along.
        if let Some(parent) = self.path.parent() {
            let _ = std::fs::remove_dir(parent);
        }
    }
}

impl Store {
    /// A new work directory of this session.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn scratch(&self) -> Result<Scratch> {
        let own = self.path("work-v1").join(self.owner());
        let failed = |path: &Path, e| kiln_sys::FsError::new("make directory", path, e).into();
        // The session's own directory may move before the first scratch is in it.
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

/// What a session has a lease on while it writes logs into this folder.
pub(crate) fn logs_lease(folder: &str) -> String {
    format!("logs {folder}")
}

impl Store {
    /// A new folder for the output of the steps of a build; it is made when it is needed.
    ///
    /// # Errors
    /// The lease that keeps it cannot be had.
    pub fn logs(&self) -> Result<PathBuf> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_millis();
        let name = format!("{now}-{}", self.owner());
        self.lease(&logs_lease(&name))?;
        Ok(self.path("logs-v1").join(name))
    }

    /// Throws away the work of sessions that are gone.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub(crate) fn clear_dead(&self) -> Result<()> {
        let work = RootDir::open_trusted(&self.path("work-v1"))?;
        for entry in work.read_dir(Path::new(""))? {
            let name = entry.name.to_string_lossy();
            if !self.is_alive(&name)? {
                self.discard(&self.path("work-v1").join(&*name))?;
            }
        }
        Ok(())
    }

    /// Whether the session that a work directory is named after goes on.
    pub(crate) fn is_alive(&self, owner: &str) -> Result<bool> {
        let number = |text: &str| text.parse::<u64>().ok();
        let process = owner.split_once('-');
        if let Some((Some(pid), Some(start))) = process.map(|(a, b)| (number(a), number(b))) {
            // Of an older version, which named them by the process and its start.
            let pid = u32::try_from(pid).unwrap_or(0);
            return Ok(system::process_start(pid) == Some(start));
        }
        Ok(owner == self.owner() || self.leases().is_held_elsewhere(&owner_lease(owner))?)
    }
}
