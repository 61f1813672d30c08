//! What goes without being asked for: what is more than a policy allows.

use std::time::{Duration, SystemTime};

use kiln_sys::system;

use super::{Cause, Class, Held, Item, Removed, is_older, total};
use crate::db::nanos;
use crate::error::Result;
use crate::store::Maintenance;
use crate::{explanations, full_disk};

/// How much the store may hold. Nothing is limited by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Bytes of the whole store.
    pub max_size: Option<u64>,
    /// Bytes that stay free on its file system, whoever fills it.
    pub keep_free: Option<u64>,
    /// Bytes that the store keeps though less than `keep_free` is free. On a disk that others fill,
    /// nothing would be won by giving these up but that every build begins anew.
    pub reserved: u64,
    /// What nobody has used for so long goes.
    pub max_age: Option<Duration>,
}

/// Bytes that must go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Excess {
    /// What is above the cap.
    over: u64,
    /// What is missing on the disk, as far as the store has more than is reserved for it.
    short: u64,
}

impl Excess {
    fn bytes(self) -> u64 {
        self.over.max(self.short)
    }

    fn less(&mut self, bytes: u64) {
        self.over = self.over.saturating_sub(bytes);
        self.short = self.short.saturating_sub(bytes);
    }

    fn cause(self) -> Option<Cause> {
        match self {
            Self { over: 0, short: 0 } => None,
            Self { over: 0, .. } => Some(Cause::Disk),
            _ => Some(Cause::Cap),
        }
    }
}

impl Maintenance<'_> {
    /// How many bytes must go; 0 if the store keeps to the policy.
    ///
    /// # Errors
    /// The database refused, or the file system does not tell what is free.
    pub fn excess(&self, policy: &Policy) -> Result<u64> {
        Ok(self.excess_of(policy, self.total()?)?.bytes())
    }

    fn excess_of(&self, policy: &Policy, total: u64) -> Result<Excess> {
        let total = total + self.own_bytes();
        let over = policy.max_size.map_or(0, |most| total.saturating_sub(most));
        let short = match policy.keep_free {
            Some(free) => free.saturating_sub(system::free_bytes(self.root())?),
            None => 0,
        };
        Ok(Excess {
            over,
            short: short.min(total.saturating_sub(policy.reserved)),
        })
    }

    /// Bytes that the store takes for itself: its database, and what it keeps for a full disk.
    pub fn own_bytes(&self) -> u64 {
        let files = ["meta-v1.db", "meta-v1.db-wal", full_disk::RESERVE];
        let sizes = files.map(|name| std::fs::metadata(self.path(name)));
        sizes.iter().flatten().map(std::fs::Metadata::len).sum()
    }

    /// Removes what the policy does not let stay: first what is too old, then what is worth least
    /// until there is some room below the cap. If that is not enough, images without a name go, the
    /// oldest first. What cannot be removed stays, whatever the cap. What the last build used only
    /// goes for the cap, never for free space.
    /// With `wait` the room is there when this returns; otherwise the trash is full of it.
    ///
    /// # Errors
    /// The database refused, or a file cannot be moved.
    pub fn collect(&self, policy: &Policy, wait: bool) -> Result<Removed> {
        self.cache_mounts().measure_mounts()?;
        let mut removed = self.collect_once(policy, wait)?;
        loop {
            let excess = self.excess_after(policy, &removed, wait)?;
            let before = match excess {
                Excess { over: 0, short: 0 } => break,
                Excess { over: 0, .. } => self.last_build()?,
                _ => i64::MAX,
            };
            if self.forget_nameless(before)? == 0 {
                break;
            }
            let more = self.collect_once(policy, wait)?;
            removed.cause = removed.cause.or(more.cause);
            removed.items.extend(more.items);
        }
        Ok(removed)
    }

    /// As [`Maintenance::collect`], but images stay, those without a name too.
    ///
    /// # Errors
    /// As [`Maintenance::collect`].
    pub fn collect_unused(&self, policy: &Policy, wait: bool) -> Result<Removed> {
        self.cache_mounts().measure_mounts()?;
        self.collect_once(policy, wait)
    }

    /// Bytes of what nobody holds.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn removable(&self) -> Result<u64> {
        let items = self.items()?;
        let free = items.iter().filter(|item| item.held == Held::Free);
        Ok(free.map(|item| item.bytes).sum())
    }

    /// What is still too much; what is in the trash is on its way out.
    fn excess_after(&self, policy: &Policy, removed: &Removed, emptied: bool) -> Result<Excess> {
        let mut excess = self.excess_of(policy, self.total()?)?;
        if !emptied {
            excess.short = excess.short.saturating_sub(removed.bytes());
        }
        Ok(excess)
    }

    fn collect_once(&self, policy: &Policy, wait: bool) -> Result<Removed> {
        if self.excess(policy)? == 0 && policy.max_age.is_none() {
            return Ok(Removed::default());
        }
        let now = nanos(SystemTime::now());
        let last_build = self.last_build()?;
        let mut cause = None;
        let mut removed = self.remove(
            |tx, items| {
                // Again, for another process may have done it meanwhile.
                let mut excess = self.excess_of(policy, total(tx)?)?;
                cause = excess.cause();
                if excess.over > 0 {
                    // A little more, so that the next step has room as well.
                    excess.over += policy.max_size.map_or(0, |most| most / 20);
                }
                let (old, mut rest): (Vec<Item>, Vec<Item>) = items
                    .into_iter()
                    .filter(|i| i.held == Held::Free)
                    .partition(|i| policy.max_age.is_some_and(|age| is_older(i, age, now)));
                excess.less(old.iter().map(|i| i.bytes).sum());
                rest.sort_by(|a, b| a.value(now).total_cmp(&b.value(now)));
                let rest = rest.into_iter().filter(|item| {
                    let helps = excess.over > 0 || (excess.short > 0 && item.used < last_build);
                    let goes = helps && item.bytes > 0;
                    if goes {
                        excess.less(item.bytes);
                    }
                    goes
                });
                Ok(old.into_iter().chain(rest).collect())
            },
            |tx, items| {
                let layers = items.iter().filter(|item| item.class == Class::Layers);
                let layers: Vec<&str> = layers.map(|item| item.name.as_str()).collect();
                explanations::mark_removed(tx, &layers)
            },
            |_, _| Ok(0),
        )?;
        // What went for its age alone was neither too much nor in the way.
        removed.cause = cause;
        if wait {
            self.empty_own_trash()?;
        }
        Ok(removed)
    }

    /// Forgets the older half of the images that have no name any more and were made before a time
    /// in nanoseconds, but those that a process uses. Returns how many.
    pub(super) fn forget_nameless(&self, before: i64) -> Result<usize> {
        self.leases().behind_gate(|leased| {
            self.write(|tx| {
                let configs: Vec<String> = {
                    let sql = "SELECT config FROM images WHERE name IS NULL AND created < ?1
                               ORDER BY created";
                    let mut query = tx.prepare_cached(sql)?;
                    let rows = query.query_map([before], |row| row.get(0))?;
                    rows.collect::<rusqlite::Result<_>>()?
                };
                let mut free = Vec::new();
                for config in configs {
                    if !leased(&config)? {
                        free.push(config);
                    }
                }
                free.truncate(free.len().div_ceil(2));
                let names = serde_json::to_string(&free).unwrap_or_else(|_| "[]".into());
                let sql = "DELETE FROM images WHERE name IS NULL
                           AND config IN (SELECT value FROM json_each(?1))";
                Ok(tx.execute(sql, [names])?)
            })
        })
    }
}
