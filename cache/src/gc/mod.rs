//! Removing what is worth least: to stay below a cap, by age, or because somebody asked.
//!
//! Everything is decided in one transaction behind the gate of the leases: what is there, who holds
//! it, what goes. Rows go first; files are renamed into the trash afterwards, and what a process that
//! dies in between leaves is a directory without a row, which the upkeep throws away.

mod survey;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kiln_sys::system;
use rusqlite::Transaction;

use crate::db::nanos;
use crate::error::Result;
use crate::full_disk;
use crate::store::Store;

pub use survey::{Class, Held, Item};

/// How much the store may hold. Nothing is limited by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Bytes of the whole store.
    pub max_size: Option<u64>,
    /// Bytes that stay free on its file system.
    pub keep_free: Option<u64>,
    /// What nobody has used for so long goes.
    pub max_age: Option<Duration>,
}

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

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The things, what was worth least first.
    pub items: Vec<(Class, String, String, u64)>,
    /// Records that were forgotten though their layers stay.
    pub forgotten: usize,
}

impl Removed {
    /// Bytes of all of it.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|i| i.3).sum()
    }
}

impl Store {
    /// Everything that is in the store, in no order.
    ///
    /// # Errors
    /// The database refused, or a folder cannot be listed.
    pub fn items(&self) -> Result<Vec<Item>> {
        self.behind_gate(|leased| self.write(|tx| survey::survey(self, tx, leased)))
    }

    /// Bytes that the store takes, from sums that are kept up to date. What a step that runs has
    /// written is not in it, nor is what the store takes for itself.
    ///
    /// # Errors
    /// The database refused.
    pub fn total(&self) -> Result<u64> {
        total(&self.db())
    }

    /// How many bytes must go; 0 if the store keeps to the policy.
    ///
    /// # Errors
    /// The database refused, or the file system does not tell what is free.
    pub fn excess(&self, policy: &Policy) -> Result<u64> {
        let total = match policy.max_size {
            Some(_) => self.total()?,
            None => 0,
        };
        self.excess_of(policy, total)
    }

    fn excess_of(&self, policy: &Policy, total: u64) -> Result<u64> {
        let total = total + self.own_bytes();
        let over = policy.max_size.map_or(0, |most| total.saturating_sub(most));
        let short = match policy.keep_free {
            Some(free) => free.saturating_sub(system::free_bytes(self.root())?),
            None => 0,
        };
        Ok(over.max(short))
    }

    /// Bytes that the store takes for itself: its database, and what it keeps for a full disk.
    pub fn own_bytes(&self) -> u64 {
        let files = ["meta-v1.db", "meta-v1.db-wal", full_disk::RESERVE];
        let sizes = files.map(|name| std::fs::metadata(self.path(name)));
        sizes.iter().flatten().map(std::fs::Metadata::len).sum()
    }

    /// Removes what the policy does not let stay: first what is too old, then what is worth least
    /// until there is some room below the cap. If that is not enough, images without a name go, the
    /// oldest first. What cannot be removed stays, whatever the cap.
    /// With `wait` the room is there when this returns; otherwise the trash is full of it.
    ///
    /// # Errors
    /// The database refused, or a file cannot be moved.
    pub fn collect(&self, policy: &Policy, wait: bool) -> Result<Removed> {
        self.measure_mounts()?;
        let mut removed = self.collect_once(policy, wait)?;
        while self.excess_after(policy, &removed, wait)? > 0 && self.forget_nameless()? > 0 {
            let more = self.collect_once(policy, wait)?;
            removed.items.extend(more.items);
        }
        Ok(removed)
    }

    /// As [`Store::collect`], but images stay, those without a name too.
    ///
    /// # Errors
    /// As [`Store::collect`].
    pub fn collect_unused(&self, policy: &Policy, wait: bool) -> Result<Removed> {
        self.measure_mounts()?;
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
    fn excess_after(&self, policy: &Policy, removed: &Removed, emptied: bool) -> Result<u64> {
        let excess = self.excess(policy)?;
        Ok(if emptied {
            excess
        } else {
            let over = Policy {
                keep_free: None,
                ..*policy
            };
            self.excess(&over)?
                .max(excess.saturating_sub(removed.bytes()))
        })
    }

    fn collect_once(&self, policy: &Policy, wait: bool) -> Result<Removed> {
        if self.excess(policy)? == 0 && policy.max_age.is_none() {
            return Ok(Removed::default());
        }
        let now = nanos(SystemTime::now());
        let removed = self.remove(
            |tx, items| {
                // Again, for another process may have done it meanwhile.
                let excess = self.excess_of(policy, total(tx)?)?;
                // A little more, so that the next step has room as well.
                let spare = policy.max_size.map_or(0, |most| most / 20);
                let mut needed = match excess {
                    0 => 0,
                    excess => excess + spare,
                };
                let (old, mut rest): (Vec<Item>, Vec<Item>) = items
                    .into_iter()
                    .filter(|i| i.held == Held::Free)
                    .partition(|i| policy.max_age.is_some_and(|age| is_older(i, age, now)));
                needed = needed.saturating_sub(old.iter().map(|i| i.bytes).sum());
                rest.sort_by(|a, b| a.value(now).total_cmp(&b.value(now)));
                let rest = rest.into_iter().take_while(|item| {
                    let more = needed > 0;
                    needed = needed.saturating_sub(item.bytes);
                    more
                });
                Ok(old.into_iter().chain(rest).collect())
            },
            |_, _| Ok(0),
        )?;
        if wait {
            self.empty_own_trash()?;
        }
        Ok(removed)
    }

    /// Forgets the older half of the images that have no name any more, but those that a process
    /// uses. Returns how many.
    fn forget_nameless(&self) -> Result<usize> {
        self.behind_gate(|leased| {
            self.write(|tx| {
                let configs: Vec<String> = {
                    let sql = "SELECT config FROM images WHERE name IS NULL ORDER BY created";
                    let mut query = tx.prepare_cached(sql)?;
                    let rows = query.query_map([], |row| row.get(0))?;
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

    fn try_prune(&self, prune: &Prune) -> Result<Removed> {
        if prune.all
            && prune.keep.is_none()
            && prune.classes.is_empty()
            && prune.unused_for.is_none()
        {
            while self.forget_nameless()? > 0 {}
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

    /// Removes what `choose` picks of all items, and what `more` does in the same transaction.
    fn remove(
        &self,
        choose: impl FnOnce(&Transaction<'_>, Vec<Item>) -> Result<Vec<Item>>,
        more: impl FnOnce(&Transaction<'_>, &[Item]) -> Result<usize>,
    ) -> Result<Removed> {
        let (mut items, mut forgotten, mut locks) = (Vec::new(), 0, Vec::new());
        self.behind_gate(|leased| {
            self.write(|tx| {
                let all = survey::survey(self, tx, leased)?;
                note_files(tx, all.iter())?;
                items = choose(tx, all)?;
                // A mount is held until its directory is away.
                let mut busy = HashSet::new();
                for item in items.iter().filter(|i| i.class == Class::Mounts) {
                    match self.lock_mount(&item.name, false)? {
                        Some(lock) => locks.push(lock),
                        None => drop(busy.insert(item.name.clone())),
                    }
                }
                items.retain(|item| !busy.contains(&item.name));
                delete_rows(tx, &items)?;
                forgotten = more(tx, &items)?;
                Ok(())
            })?;
            // A blob may come again under its name as soon as the gate is open, so its file goes
            // now.
            for item in items.iter().filter(|i| i.class != Class::Layers) {
                self.discard(&self.path_of(item))?;
            }
            Ok(())
        })?;
        // Names of layers never come again.
        for item in items.iter().filter(|i| i.class == Class::Layers) {
            self.discard(&self.path_of(item))?;
        }
        drop(locks);
        let items = items.into_iter();
        Ok(Removed {
            items: items.map(|i| (i.class, i.name, i.title, i.bytes)).collect(),
            forgotten,
        })
    }

    fn path_of(&self, item: &Item) -> PathBuf {
        let below = match item.class {
            Class::Content | Class::Downloads => item.name.replace(':', "/"),
            _ => item.name.clone(),
        };
        self.path(survey::folder_of(item.class)).join(below)
    }

    /// Measures what takes room and has no rows.
    ///
    /// # Errors
    /// The database refused, or a folder cannot be listed.
    pub fn measure_files(&self) -> Result<()> {
        let files = survey::files(self, &|_| Ok(false))?;
        self.write(|tx| note_files(tx, files.iter()))
    }

    /// Throws away files among the blobs that have no row: a process died before it could give
    /// them one, or the row was dropped after a power cut.
    ///
    /// # Errors
    /// The database refused, or a file cannot be moved.
    pub fn discard_unknown_blobs(&self) -> Result<()> {
        let unknown = self.unknown_blobs()?;
        if unknown.is_empty() {
            return Ok(());
        }
        self.behind_gate(|leased| {
            self.write(|tx| {
                for (digest, path) in &unknown {
                    // Its row may have been written meanwhile, or is about to be.
                    let sql = "SELECT EXISTS (SELECT 1 FROM contents WHERE digest = ?1)";
                    let known: bool = tx.query_row(sql, [digest], |row| row.get(0))?;
                    if !known && !leased(digest)? {
                        self.discard(path)?;
                    }
                }
                Ok(())
            })
        })
    }

    /// Files among the blobs that have no row, by what their digests would be.
    pub(crate) fn unknown_blobs(&self) -> Result<Vec<(String, PathBuf)>> {
        let known: HashSet<String> = {
            let db = self.db();
            let mut query = db.prepare("SELECT digest FROM contents")?;
            let rows = query.query_map([], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        let mut unknown = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let dir = self.path("content-v1").join(algorithm);
            // A store that never held a blob of this algorithm has no such folder.
            let Ok(folder) = kiln_sys::RootDir::open_trusted(&dir) else {
                continue;
            };
            for entry in folder.read_dir(Path::new(""))? {
                let digest = format!("{algorithm}:{}", entry.name.to_string_lossy());
                if !known.contains(&digest) {
                    unknown.push((digest, dir.join(&entry.name)));
                }
            }
        }
        Ok(unknown)
    }

    /// Removes what this process has put into the trash.
    fn empty_own_trash(&self) -> Result<()> {
        let trash = kiln_sys::RootDir::open_trusted(&self.path("trash"))?;
        let own = format!("{}-", self.owner());
        for entry in trash.read_dir(Path::new(""))? {
            if entry.name.to_string_lossy().starts_with(&own) {
                // Upkeep may remove the same at the same time.
                let _ = self.remove_tree(&self.path("trash").join(&entry.name));
            }
        }
        Ok(())
    }

    /// Notes that everything that this store has leased was used. Rows that say so already, to the
    /// minute, are left alone.
    ///
    /// # Errors
    /// The database refused.
    pub fn note_uses(&self) -> Result<()> {
        let names = serde_json::to_string(&self.leased()).unwrap_or_else(|_| "[]".into());
        let now = nanos(SystemTime::now());
        let recent = now - 60_000_000_000;
        let due: bool = self.db().query_row(
            "SELECT EXISTS (SELECT 1 FROM json_each(?1) n LEFT JOIN uses u ON u.name = n.value
             WHERE coalesce(u.used, 0) < ?2)",
            (&names, recent),
            |row| row.get(0),
        )?;
        if !due {
            return Ok(());
        }
        self.write(|tx| {
            tx.execute(
                "INSERT OR REPLACE INTO uses (name, used) SELECT value, ?2 FROM json_each(?1)",
                (&names, now),
            )?;
            Ok(())
        })
    }
}

/// The sum of all sums.
fn total(db: &rusqlite::Connection) -> Result<u64> {
    let sum: i64 = db
        .prepare_cached("SELECT coalesce(sum(bytes), 0) FROM totals")?
        .query_row([], |row| row.get(0))?;
    Ok(sum.max(0).cast_unsigned())
}

/// Writes down the sum of what has no rows.
fn note_files<'a>(tx: &Transaction<'_>, items: impl Iterator<Item = &'a Item>) -> Result<()> {
    let files =
        items.filter(|i| matches!(i.class, Class::StatCaches | Class::Logs | Class::Partial));
    let bytes: u64 = files.map(|i| i.bytes).sum();
    tx.prepare_cached("INSERT OR REPLACE INTO totals (class, bytes) VALUES ('files', ?1)")?
        .execute([bytes.cast_signed()])?;
    Ok(())
}

fn as_nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn is_older(item: &Item, age: Duration, now: i64) -> bool {
    item.used < now.saturating_sub(as_nanos(age))
}

/// Deletes the rows of these items, a statement for each table.
fn delete_rows(tx: &Transaction<'_>, items: &[Item]) -> Result<()> {
    let names = |classes: &[Class]| -> Option<String> {
        let names: Vec<&str> = items
            .iter()
            .filter(|i| classes.contains(&i.class))
            .map(|i| i.name.as_str())
            .collect();
        (!names.is_empty())
            .then(|| serde_json::to_string(&names).ok())
            .flatten()
    };
    let run = |names: &str, statements: &[&str]| -> Result<()> {
        for statement in statements {
            let sql = format!("{statement} IN (SELECT value FROM json_each(?1))");
            tx.execute(&sql, [names])?;
        }
        Ok(())
    };
    if let Some(names) = names(&[Class::Layers]) {
        let all = [
            "DELETE FROM records WHERE layer",
            "DELETE FROM uses WHERE name",
            "DELETE FROM layers WHERE id",
        ];
        run(&names, &all)?;
    }
    if let Some(names) = names(&[Class::Content, Class::Downloads]) {
        let all = [
            "DELETE FROM downloads WHERE digest",
            "DELETE FROM blobs WHERE digest",
            "DELETE FROM uses WHERE name",
            "DELETE FROM contents WHERE digest",
        ];
        run(&names, &all)?;
    }
    if let Some(names) = names(&[Class::Mounts]) {
        run(&names, &["DELETE FROM mounts WHERE home"])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
