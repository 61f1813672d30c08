//! What goes because somebody asks for it.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::{Class, Held, Item, Removed, as_nanos, is_older};
use crate::db::nanos;
use crate::error::Result;
use crate::store::Maintenance;

/// What is to be pruned.
#[derive(Clone, Debug, Default)]
pub struct Prune {
    /// Records of steps whose layers an image holds are forgotten too, and without any filter the
    /// images that have no name.
    pub all: bool,
    /// Only these kinds; all if empty.
    pub classes: HashSet<Class>,
    /// Only what nobody has used for so long.
    pub unused_for: Option<Duration>,
    /// Only until no more than so many bytes are left, what is worth least first.
    pub keep: Option<u64>,
}

impl Maintenance<'_> {
    fn try_prune(&self, prune: &Prune) -> Result<Removed> {
        if prune.all
            && prune.keep.is_none()
            && prune.classes.is_empty()
            && prune.unused_for.is_none()
        {
            while self.forget_nameless(i64::MAX)? > 0 {}
        }
        let now = nanos(SystemTime::now());
        let fits = |item: &Item| {
            (prune.classes.is_empty() || prune.classes.contains(&item.class))
                && prune.unused_for.is_none_or(|age| is_older(item, age, now))
        };
        self.remove(
            |_, items| {
                let mut left: u64 = items.iter().map(|i| i.bytes).sum();
                let mut free: Vec<Item> = items
                    .into_iter()
                    .filter(|item| item.held == Held::Free && fits(item))
                    .collect();
                free.sort_by(|a, b| a.value(now).total_cmp(&b.value(now)));
                if let Some(keep) = prune.keep {
                    free = free
                        .into_iter()
                        .take_while(|item| {
                            let more = left > keep;
                            left -= item.bytes;
                            more
                        })
                        .collect();
                }
                Ok(free)
            },
            |_, _| Ok(()),
            |tx, victims| {
                if prune.keep.is_some() {
                    return Ok(0);
                }
                let mut forgotten = 0;
                let layers = prune.classes.is_empty() || prune.classes.contains(&Class::Layers);
                if prune.all && layers {
                    let before = match prune.unused_for {
                        Some(age) => now.saturating_sub(as_nanos(age)),
                        None => i64::MAX,
                    };
                    forgotten = tx.execute("DELETE FROM records WHERE ran_at < ?1", [before])?;
                }
                if layers && prune.all && prune.unused_for.is_none() {
                    // Nothing is left of what is forgotten on purpose.
                    tx.execute("DELETE FROM runs WHERE removed IS NOT NULL", [])?;
                }
                if layers && prune.unused_for.is_none() && !victims.is_empty() {
                    // They are found again faster than they could be told from those in use.
                    tx.execute("DELETE FROM fingerprints", [])?;
                }
                Ok(forgotten)
            },
        )
    }

    /// Removes what `prune` names, also on a full disk. The room is there when the trash has been
    /// emptied.
    ///
    /// # Errors
    /// The database refused, or a file cannot be moved.
    pub fn prune(&self, prune: &Prune) -> Result<Removed> {
        let removed = match self.try_prune(prune) {
            Err(e) if e.is_no_space() => {
                self.make_room();
                self.try_prune(prune)
            }
            other => other,
        }?;
        if prune.all
            && let Err(error) = self.renew_database()
        {
            // The next time will do.
            tracing::debug!(%error, "the database keeps its size");
        }
        Ok(removed)
    }
}
