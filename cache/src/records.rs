//! Records: which layer a step made, and from what.

use std::time::{Duration, SystemTime};

use kiln_solver::key::{Key, LabelledInput};
use rusqlite::OptionalExtension as _;

use crate::db::{nanos, time};
use crate::error::Result;
use crate::layers::{Layer, LayerId};
use crate::store::Store;

/// A result that is known.
#[derive(Clone, Debug)]
pub struct StoredRecord {
    /// The layer.
    pub layer: Layer,
    /// When the step last ran.
    pub ran_at: SystemTime,
}

/// What is written down after a step ran.
#[derive(Clone, Debug)]
pub struct NewRecord<'a> {
    /// The key.
    pub key: Key,
    /// The layer that it made.
    pub layer: &'a LayerId,
    /// When it started.
    pub ran_at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Its line for progress.
    pub name: &'a str,
    /// The inputs of its key, for explanations.
    pub inputs: &'a [LabelledInput],
}

impl Store {
    /// The record of a key, if its layer is there.
    ///
    /// # Errors
    /// The database refused.
    pub fn record(&self, key: Key) -> Result<Option<StoredRecord>> {
        let row: Option<(String, i64)> = self
            .db()
            .prepare_cached("SELECT layer, ran_at FROM records WHERE key = ?1")?
            .query_row([key.to_hex()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((layer, ran_at)) = row else {
            return Ok(None);
        };
        let Some(layer) = self.layer(&layer)? else {
            return Ok(None);
        };
        Ok(Some(StoredRecord {
            layer,
            ran_at: time(ran_at),
        }))
    }

    /// Writes a record down, in place of an older one.
    ///
    /// # Errors
    /// The database refused.
    pub fn put_record(&self, record: &NewRecord<'_>) -> Result<()> {
        let inputs = serde_json::to_string(record.inputs).unwrap_or_else(|_| "[]".into());
        let now = nanos(SystemTime::now());
        self.write(|tx| {
            tx.prepare_cached(
                "INSERT OR REPLACE INTO records
                 (key, layer, ran_at, took, created, name, inputs, boot)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute((
                record.key.to_hex(),
                record.layer.as_str(),
                nanos(record.ran_at),
                i64::try_from(record.took.as_nanos()).unwrap_or(i64::MAX),
                now,
                record.name,
                inputs,
                self.boot(),
            ))?;
            Ok(())
        })
    }

    /// Notes that a step ran again and made what an older layer holds already.
    ///
    /// # Errors
    /// The database refused.
    pub fn refresh_record(&self, key: Key, ran_at: SystemTime) -> Result<()> {
        self.write(|tx| {
            tx.execute(
                "UPDATE records SET ran_at = ?2 WHERE key = ?1",
                (key.to_hex(), nanos(ran_at)),
            )?;
            Ok(())
        })
    }

    /// The fingerprint of selected paths of a tree that was computed before.
    ///
    /// # Errors
    /// The database refused.
    pub fn known_fingerprint(&self, identity: &str, selection: &str) -> Result<Option<String>> {
        Ok(self
            .db()
            .prepare_cached(
                "SELECT fingerprint FROM fingerprints WHERE identity = ?1 AND selection = ?2",
            )?
            .query_row((identity, selection), |row| row.get(0))
            .optional()?)
    }

    /// Remembers the fingerprint of selected paths of a tree.
    ///
    /// # Errors
    /// The database refused.
    pub fn put_fingerprint(&self, identity: &str, selection: &str, value: &str) -> Result<()> {
        self.write(|tx| {
            tx.execute(
                "INSERT OR REPLACE INTO fingerprints (identity, selection, fingerprint)
                 VALUES (?1, ?2, ?3)",
                (identity, selection, value),
            )?;
            Ok(())
        })
    }
}
