//! The store as a whole, and this host.

mod info;
mod maintenance;
mod usage;

use kiln_cache::{Prune, Removed, Report};

use crate::engine::{Engine, Purpose};
use crate::error::Result;

pub use info::SystemInfo;
pub use usage::{DiskUsage, UsageRow};

/// The store as a whole, and this host.
#[derive(Clone, Copy, Debug)]
pub struct System<'a> {
    engine: &'a Engine,
}

impl Engine {
    /// The store as a whole, and this host.
    pub fn system(&self) -> System<'_> {
        System { engine: self }
    }
}

impl System<'_> {
    /// Removes from the cache what nothing uses.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn prune(&self, prune: &Prune) -> Result<Removed> {
        Ok(self
            .engine
            .session_for(Purpose::Remove)?
            .maintenance()
            .prune(prune)?)
    }

    /// Checks the store, and takes what is wrong out of it if it is to `repair`. `progress` hears how many things
    /// of how many are checked.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn fsck(&self, repair: bool, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Report> {
        let purpose = match repair {
            true => Purpose::Remove,
            false => Purpose::Use,
        };
        let store = self.engine.session_for(purpose)?;
        Ok(store.maintenance().check(repair, progress)?)
    }

    /// Bytes that pruning the cache would free; none where there is no store, or it cannot be opened.
    pub fn removable(&self) -> Option<u64> {
        if !self.engine.has_store() {
            return None;
        }
        self.engine
            .session()
            .and_then(|s| Ok(s.maintenance().removable()?))
            .ok()
    }

    /// Whether there is a store by now.
    pub fn has_store(&self) -> bool {
        self.engine.has_store()
    }
}
