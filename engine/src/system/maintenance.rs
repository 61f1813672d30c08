//! What makes results durable and clears up, beside the work of others.

use kiln_cache::Removed;
use kiln_solver::event::WarningCode;
use kiln_sys::cgroup;

use super::System;
use crate::error::Result;

impl System<'_> {
    /// Whether the store needs maintenance by now. Where it holds too much, what is worth least is removed at
    /// once, and given back, so that somebody hears of it; the files go with the maintenance.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn needs_maintenance(&self) -> Result<(bool, Option<Removed>)> {
        let store = self.engine.session()?;
        let gc = &self.engine.config().gc;
        let crowded = store.maintenance().excess(gc)? > 0;
        let mut removed = None;
        if crowded {
            match store.maintenance().collect(gc, false) {
                Ok(what) => removed = Some(what),
                // What is there can be made durable all the same.
                Err(error) => self.tell_not_collected(&error),
            }
        }
        // What was removed is told in any case.
        let needed = crowded || store.maintenance().needs_maintenance().unwrap_or(false);
        Ok((needed, removed))
    }

    fn tell_not_collected(&self, error: &kiln_cache::Error) {
        let text = format!("nothing is removed from the store: {error}");
        let events = &self.engine.config().events;
        events.warn(WarningCode::StoreNotCollected, text);
    }

    /// Has what was stored written to the disk, and what was discarded removed. One process does it at a time, and
    /// one waits.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn maintain(&self) -> Result<()> {
        let store = self.engine.session()?;
        let Some(_turn) = store.maintenance().maintenance_turn()? else {
            return Ok(());
        };
        cgroup::sweep(std::path::Path::new(cgroup::FOLDER));
        store.discard_unrecorded()?;
        store.maintenance().discard_unknown_blobs()?;
        store.cache_mounts().reconcile_mounts()?;
        store.prune_logs()?;
        store.records().prune_listings()?;
        store.maintenance().measure_files()?;
        // Only for what no command told of: what has become too old.
        if let Err(error) = store.maintenance().collect(&self.engine.config().gc, false) {
            // What is there can be made durable all the same.
            self.tell_not_collected(&error);
        }
        store.empty_trash()?;
        store.maintenance().promote()?;
        if let Err(error) = store.back_up() {
            tracing::debug!(%error, "the database is not copied");
        }
        store.maintenance().restore_reserve()?;
        if let Err(error) = store.maintenance().vacuum() {
            tracing::debug!(%error, "the database keeps its size");
        }
        Ok(())
    }
}
