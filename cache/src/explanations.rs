//! What explanations are made of: earlier runs of a step, and what fingerprints cover.

use std::time::SystemTime;

use kiln_solver::explain::{Earlier, Listing};
use kiln_solver::key::{Fingerprint, Key};
use kiln_solver::plan::Origin;

use rusqlite::{OptionalExtension as _, Transaction};

use crate::db::{nanos, time};
use crate::error::Result;
use crate::store::Records;

/// The most runs of one kind that are compared with.
const MAX_EARLIER: u32 = 16;

/// The most paths of a listing that is kept.
const MAX_PATHS: usize = 50_000;

/// The most bytes of all listings that are kept; the oldest go first.
const MAX_LISTINGS: i64 = 64 << 20;

impl Records<'_> {
    /// Runs that may be earlier ones of the step at `origin`: the last of the same place, and of the
    /// same text in the same project. Another project is none of a step's past, though it may have
    /// the same text.
    ///
    /// # Errors
    /// The database refused.
    pub fn earlier(&self, origin: &Origin) -> Result<Vec<Earlier>> {
        const RUNS: &str = "SELECT key, project, step, instruction,
                                   coalesce(records.ran_at, runs.ran_at) AS ran_at, inputs,
                                   records.key IS NULL AS removed, runs.rowid
                            FROM runs LEFT JOIN records USING (key)";
        let db = self.db();
        let mut query = db.prepare_cached(&format!(
            "SELECT * FROM ({RUNS} WHERE project = ?1 AND step = ?2
                            ORDER BY runs.rowid DESC LIMIT {MAX_EARLIER})
             UNION SELECT * FROM ({RUNS} WHERE instruction = ?3 AND project = ?1
                            ORDER BY runs.rowid DESC LIMIT {MAX_EARLIER})"
        ))?;
        let project = Some(&origin.project).filter(|p| !p.is_empty());
        let parameters = (project, &origin.step, &origin.instruction);
        let rows = query.query_map(parameters, |row| {
            let (key, inputs): (String, String) = (row.get(0)?, row.get(5)?);
            let text = |n| row.get(n).map(Option::unwrap_or_default);
            let (project, step, instruction) = (text(1)?, text(2)?, text(3)?);
            let ran_at = time(row.get::<_, Option<i64>>(4)?.unwrap_or_default());
            let removed = row.get(6)?;
            let inputs = serde_json::from_str(&inputs).unwrap_or_default();
            Ok(Key::from_hex(&key).map(|key| Earlier {
                key,
                project,
                step,
                instruction,
                ran_at,
                inputs,
                removed,
            }))
        })?;
        Ok(rows.filter_map(|row| row.ok().flatten()).collect())
    }

    /// Keeps what a fingerprint covers, unless that is too much.
    ///
    /// # Errors
    /// The database refused.
    pub fn put_listing(&self, fingerprint: Fingerprint, listing: &Listing) -> Result<()> {
        if listing.paths.len() > MAX_PATHS {
            return Ok(());
        }
        let text = serde_json::to_string(listing).unwrap_or_default();
        let now = nanos(SystemTime::now());
        self.write(|tx| {
            tx.prepare_cached("INSERT OR REPLACE INTO listings VALUES (?1, ?2, ?3)")?
                .execute((fingerprint.to_hex(), text, now))?;
            Ok(())
        })
    }

    /// What a fingerprint covers, if that was kept.
    ///
    /// # Errors
    /// The database refused.
    pub fn listing(&self, fingerprint: Fingerprint) -> Result<Option<Listing>> {
        let text: Option<String> = self
            .db()
            .prepare_cached("SELECT listing FROM listings WHERE fingerprint = ?1")?
            .query_row([fingerprint.to_hex()], |row| row.get(0))
            .optional()?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Forgets the oldest listings beyond the room that all may take.
    ///
    /// # Errors
    /// The database refused.
    pub fn prune_listings(&self) -> Result<()> {
        let total: i64 = self.db().query_row(
            "SELECT coalesce(sum(octet_length(listing)), 0) FROM listings",
            [],
            |row| row.get(0),
        )?;
        if total <= MAX_LISTINGS {
            return Ok(());
        }
        self.write(|tx| {
            tx.execute(
                "DELETE FROM listings WHERE fingerprint IN (
                     SELECT fingerprint FROM (
                         SELECT fingerprint, sum(octet_length(listing)) OVER (ORDER BY written DESC) AS s
                         FROM listings)
                     WHERE s > ?1)",
                [MAX_LISTINGS],
            )?;
            Ok(())
        })
    }
}

/// The most runs that are remembered though their results were removed. One takes up to 2 kB.
const MAX_REMOVED_RUNS: u32 = 2_000;

/// Keeps the runs whose results are about to be removed, so that steps that run again can say why.
pub(crate) fn mark_removed(tx: &Transaction<'_>, layers: &[&str]) -> Result<()> {
    if layers.is_empty() {
        return Ok(());
    }
    let layers = serde_json::to_string(layers).unwrap_or_else(|_| "[]".into());
    tx.execute(
        "UPDATE runs SET removed = ?2, ran_at = records.ran_at FROM records
         WHERE records.key = runs.key
         AND records.layer IN (SELECT value FROM json_each(?1))",
        (layers, nanos(SystemTime::now())),
    )?;
    tx.execute(
        "DELETE FROM runs WHERE rowid IN (SELECT rowid FROM runs WHERE removed IS NOT NULL
         ORDER BY removed DESC LIMIT -1 OFFSET ?1)",
        [MAX_REMOVED_RUNS],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use kiln_solver::explain::PathFacts;

    #[test]
    fn listings_come_back_and_the_oldest_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let fingerprint = |n: u8| Fingerprint([n; 32]);
        let path = "p".repeat(1 << 20);
        let listing = Listing {
            paths: vec![PathFacts {
                path,
                mode: Some(0o644),
                ..PathFacts::default()
            }],
            ..Listing::default()
        };
        for n in 0..80 {
            store
                .records()
                .put_listing(fingerprint(n), &listing)
                .unwrap();
        }
        assert_eq!(
            store.records().listing(fingerprint(0)).unwrap().unwrap(),
            listing
        );
        store.records().prune_listings().unwrap();
        assert_eq!(store.records().listing(fingerprint(0)).unwrap(), None);
        assert_eq!(
            store.records().listing(fingerprint(79)).unwrap().unwrap(),
            listing
        );
        let many = Listing {
            paths: vec![PathFacts::default(); MAX_PATHS + 1],
            ..Listing::default()
        };
        store.records().put_listing(fingerprint(99), &many).unwrap();
        assert_eq!(
            store.records().listing(fingerprint(99)).unwrap(),
            None,
            "too many"
        );
    }
}
