//! Removing what is worth least: to stay below a cap, by age, or because somebody asked.
//!
//! Everything is decided in one transaction behind the gate of the leases: what is there, who holds
//! it, what goes. Rows go first; files are renamed into the trash afterwards, and what a process that
//! dies in between leaves is a directory without a row, which the upkeep throws away.

mod collect;
mod files;
mod prune;
mod survey;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension as _, Transaction};

use crate::db::nanos;
use crate::error::Result;
use crate::store::Maintenance;

use files::note_files;

pub use collect::Policy;
pub use prune::Prune;
pub use survey::{Class, Held, Item};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The things, what was worth least first.
    pub items: Vec<(Class, String, String, u64)>,
    /// Records that were forgotten though their layers stay.
    pub forgotten: usize,
    /// Why, if nobody asked for it.
    pub cause: Option<Cause>,
}

/// Why things were removed that nobody wanted to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The store was larger than its cap.
    Cap,
    /// Less of the disk was free than shall be.
    Disk,
}

impl Removed {
    /// Bytes of all of it.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|i| i.3).sum()
    }
}

impl Maintenance<'_> {
    /// Everything that is in the store, in no order.
    ///
    /// # Errors
    /// The database refused, or a folder cannot be listed.
    pub fn items(&self) -> Result<Vec<Item>> {
        self.leases()
            .behind_gate(|leased| self.write(|tx| survey::survey(self, tx, leased)))
    }

    /// Bytes that the store takes, from sums that are kept up to date. What a step that runs has
    /// written is not in it, nor is what the store takes for itself.
    ///
    /// # Errors
    /// The database refused.
    pub fn total(&self) -> Result<u64> {
        total(&self.db())
    }

    /// Removes what `choose` picks of all items; `before` and `more` are called in the same
    /// transaction, before and after that.
    fn remove(
        &self,
        choose: impl FnOnce(&Transaction<'_>, Vec<Item>) -> Result<Vec<Item>>,
        before: impl FnOnce(&Transaction<'_>, &[Item]) -> Result<()>,
        more: impl FnOnce(&Transaction<'_>, &[Item]) -> Result<usize>,
    ) -> Result<Removed> {
        let (mut items, mut forgotten, mut locks) = (Vec::new(), 0, Vec::new());
        self.leases().behind_gate(|leased| {
            self.write(|tx| {
                let all = survey::survey(self, tx, leased)?;
                note_files(tx, all.iter())?;
                items = choose(tx, all)?;
                // A mount is held until its directory is away.
                let mut busy = HashSet::new();
                for item in items.iter().filter(|i| i.class == Class::Mounts) {
                    match self.cache_mounts().lock_mount(&item.name, false)? {
                        Some(lock) => locks.push(lock),
                        None => drop(busy.insert(item.name.clone())),
                    }
                }
                items.retain(|item| !busy.contains(&item.name));
                before(tx, &items)?;
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
            cause: None,
        })
    }

    fn path_of(&self, item: &Item) -> PathBuf {
        let below = match item.class {
            Class::Content | Class::Downloads => item.name.replace(':', "/"),
            _ => item.name.clone(),
        };
        self.path(survey::folder_of(item.class)).join(below)
    }

    /// Notes the beginning of a build that has ended: what was used since is not removed for free
    /// space. A beginning that is noted already, to the minute, is left alone.
    ///
    /// # Errors
    /// The database refused.
    pub fn note_build(&self, began: SystemTime) -> Result<()> {
        let began = nanos(began);
        if self
            .noted_build()?
            .is_some_and(|noted| began - noted < USES_NOTED)
        {
            return Ok(());
        }
        self.write(|tx| {
            tx.execute(
                "INSERT INTO marks (name, value) VALUES ('last-build', ?1)
                 ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                [began],
            )?;
            Ok(())
        })
    }

    /// When the last build began that is noted, in nanoseconds since 1970.
    fn noted_build(&self) -> Result<Option<i64>> {
        let began = self
            .db()
            .prepare_cached("SELECT value FROM marks WHERE name = 'last-build'")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(began)
    }

    /// What was used at this time or later, in nanoseconds since 1970, was used by the last build.
    fn last_build(&self) -> Result<i64> {
        // Uses are noted to the minute.
        let began = self.noted_build()?;
        Ok(began.map_or(i64::MAX, |began| began - USES_NOTED))
    }

    /// Notes that every layer and blob that this session has leased was used. Rows that say so already,
    /// to the minute, are left alone, so that a build that changes nothing writes nothing.
    ///
    /// # Errors
    /// The database refused.
    pub fn note_uses(&self) -> Result<()> {
        let names = serde_json::to_string(&self.leases().held()).unwrap_or_else(|_| "[]".into());
        let now = nanos(SystemTime::now());
        let recent = now - USES_NOTED;
        let due: bool = self.db().query_row(
            &format!(
                "SELECT EXISTS (SELECT 1 FROM json_each(?1) n LEFT JOIN uses u ON u.name = n.value
                 WHERE coalesce(u.used, 0) < ?2 AND {})",
                is_kept("n.value")
            ),
            (&names, recent),
            |row| row.get(0),
        )?;
        if !due {
            return Ok(());
        }
        self.write(|tx| {
            tx.execute(
                &format!(
                    "INSERT OR REPLACE INTO uses (name, used)
                     SELECT value, ?2 FROM json_each(?1) WHERE {}",
                    is_kept("json_each.value")
                ),
                (&names, now),
            )?;
            Ok(())
        })
    }
}

/// Whether a layer or a blob has the name in this column: nothing else has uses, though sessions have
/// leases on more.
fn is_kept(column: &str) -> String {
    format!(
        "(EXISTS (SELECT 1 FROM layers WHERE id = {column})
          OR EXISTS (SELECT 1 FROM contents WHERE digest = {column}))"
    )
}

/// Nanoseconds within which another use of the same thing is not written down.
const USES_NOTED: i64 = 60_000_000_000;

/// The sum of all sums.
fn total(db: &rusqlite::Connection) -> Result<u64> {
    let sum: i64 = db
        .prepare_cached("SELECT coalesce(sum(bytes), 0) FROM totals")?
        .query_row([], |row| row.get(0))?;
    Ok(sum.max(0).cast_unsigned())
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
            "DELETE FROM layers WHERE id",
        ];
        run(&names, &all)?;
    }
    if let Some(names) = names(&[Class::Content, Class::Downloads]) {
        let all = [
            "DELETE FROM downloads WHERE digest",
            "DELETE FROM blobs WHERE digest",
            "DELETE FROM contents WHERE digest",
        ];
        run(&names, &all)?;
    }
    if let Some(names) = names(&[Class::Mounts]) {
        run(&names, &["DELETE FROM mounts WHERE home"])?;
    }
    tx.execute(
        &format!("DELETE FROM uses WHERE NOT {}", is_kept("uses.name")),
        [],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests;
