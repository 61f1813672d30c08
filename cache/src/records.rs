//! Records: which layer a step made, and from what.

use std::time::{Duration, SystemTime};

use kiln_solver::explain::LabelledInput;
use kiln_solver::key::Key;
use kiln_solver::plan::Origin;
use rusqlite::OptionalExtension as _;

use crate::db::{nanos, time};
use crate::error::Result;
use crate::layers::{Layer, LayerId};
use crate::store::Records;

/// A result that is known.
#[derive(Clone, Debug)]
pub struct StoredRecord {
    /// The layer.
    pub layer: Layer,
    /// When the step last ran.
    pub ran_at: SystemTime,
    /// When the result was made, if another host made it; else the layer knows.
    pub made: Option<SystemTime>,
    /// How long the step took when it ran.
    pub took: Duration,
}

/// All that is known of a result.
#[derive(Clone, Debug)]
pub struct StoredResult {
    /// The layer.
    pub layer: Layer,
    /// When the result was made.
    pub made: SystemTime,
    /// When the step last ran.
    pub ran_at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Its line for progress.
    pub name: String,
    /// The inputs of its key, for explanations.
    pub inputs: Vec<LabelledInput>,
}

/// What is written down after a step ran.
#[derive(Clone, Debug)]
pub struct NewRecord<'a> {
    /// The key.
    pub key: Key,
    /// The layer that it made.
    pub layer: &'a LayerId,
    /// When it was made, if another host made it.
    pub made: Option<SystemTime>,
    /// When it started.
    pub ran_at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Its line for progress.
    pub name: &'a str,
    /// The inputs of its key, for explanations.
    pub inputs: &'a [LabelledInput],
    /// Of which step it is, for explanations.
    pub origin: &'a Origin,
}

impl Records<'_> {
    /// The record of a key, if its layer is there.
    ///
    /// # Errors
    /// The database refused.
    pub fn record(&self, key: Key) -> Result<Option<StoredRecord>> {
        let row: Option<(String, i64, Option<i64>, i64)> = self
            .db()
            .prepare_cached("SELECT layer, ran_at, made, took FROM records WHERE key = ?1")?
            .query_row([key.to_hex()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        let Some((layer, ran_at, made, took)) = row else {
            return Ok(None);
        };
        let Some(layer) = self.layer(&layer)? else {
            return Ok(None);
        };
        Ok(Some(StoredRecord {
            layer,
            ran_at: time(ran_at),
            made: made.map(time),
            took: Duration::from_nanos(took.max(0).cast_unsigned()),
        }))
    }

    /// All that is known of the result of a key, if its layer is there.
    ///
    /// # Errors
    /// The database refused.
    pub fn result(&self, key: Key) -> Result<Option<StoredResult>> {
        let Some(record) = self.record(key)? else {
            return Ok(None);
        };
        let row: Option<(i64, String, String)> = self
            .db()
            .prepare_cached(
                "SELECT took, name, runs.inputs FROM records
                 JOIN runs ON runs.key = records.key WHERE records.key = ?1",
            )?
            .query_row([key.to_hex()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let Some((took, name, inputs)) = row else {
            return Ok(None);
        };
        Ok(Some(StoredResult {
            made: record.made.unwrap_or(record.layer.created),
            layer: record.layer,
            ran_at: record.ran_at,
            took: Duration::from_nanos(took.max(0).cast_unsigned()),
            name,
            inputs: serde_json::from_str(&inputs).unwrap_or_default(),
        }))
    }

    /// Writes a record down, in place of an older one.
    ///
    /// # Errors
    /// The database refused.
    pub fn put_record(&self, record: &NewRecord<'_>) -> Result<()> {
        let inputs = serde_json::to_string(record.inputs).unwrap_or_else(|_| "[]".into());
        let (now, key) = (nanos(SystemTime::now()), record.key.to_hex());
        // What has no name is nobody's earlier run.
        let name = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        self.write(|tx| {
            tx.prepare_cached(
                "INSERT OR REPLACE INTO records
                 (key, layer, ran_at, took, created, name, boot, made)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute((
                &key,
                record.layer.as_str(),
                nanos(record.ran_at),
                i64::try_from(record.took.as_nanos()).unwrap_or(i64::MAX),
                now,
                record.name,
                self.boot(),
                record.made.map(nanos),
            ))?;
            tx.prepare_cached(
                "INSERT OR REPLACE INTO runs (key, project, step, instruction, inputs)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((
                &key,
                name(&record.origin.project),
                name(&record.origin.step),
                name(&record.origin.instruction),
                inputs,
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
