//! The numbers that are recorded, and how far from them a count may be.

use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{BYTES_READ, BYTES_WRITTEN, Counts, NAMES, kinds};

/// A recorded number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The median of some runs.
    pub count: u64,
    /// How many more there may be.
    pub tolerance: u64,
}

impl Bound {
    /// What is recorded of some runs: their median, and twice of what lies between them as the tolerance,
    /// for on another machine they may lie a little further apart. There a path may have more parts, and a
    /// library or a cgroup one more file; a few bytes more or less are in every path and every number; and who
    /// meets another process at a lock tries again.
    #[must_use]
    pub fn of(kind: &str, counts: &[u64]) -> Self {
        let mut sorted = counts.to_vec();
        sorted.sort_unstable();
        let count = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
        let least = sorted.first().copied().unwrap_or(0);
        let most = sorted.last().copied().unwrap_or(0);
        let always = match kind {
            BYTES_READ | BYTES_WRITTEN => count / 20,
            "opens" | "looks" | "reads" | "locks" => count / 20 + 8,
            _ => count / 50 + 1,
        };
        Self {
            count,
            tolerance: always.max(2 * (most - least)),
        }
    }

    /// Whether so many are no more than recorded.
    #[must_use]
    pub fn allows(&self, count: u64) -> bool {
        count <= self.count + self.tolerance
    }

    /// Whether so many are so few that they should be recorded.
    #[must_use]
    pub fn is_beaten_by(&self, count: u64) -> bool {
        count + self.tolerance < self.count
    }
}

/// What is recorded of each workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    bounds: BTreeMap<String, BTreeMap<String, Bound>>,
}

/// Where the numbers are recorded: the file of the workspace.
#[must_use]
pub fn recorded_at() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/counts.json")
}

impl Recorded {
    /// Of runs of each workload.
    #[must_use]
    pub fn of(runs: &BTreeMap<String, Vec<Counts>>) -> Self {
        let of_workload = |runs: &Vec<Counts>| {
            let bound = |kind: &'static str| {
                let counts: Vec<u64> = runs
                    .iter()
                    .filter_map(|run| run.get(kind).copied())
                    .collect();
                (kind.to_owned(), Bound::of(kind, &counts))
            };
            kinds().into_iter().map(bound).collect()
        };
        let bounds = runs
            .iter()
            .map(|(name, runs)| (name.clone(), of_workload(runs)));
        Self {
            bounds: bounds.collect(),
        }
    }

    /// What is recorded of a kind in a workload.
    #[must_use]
    pub fn bound(&self, workload: &str, kind: &str) -> Option<Bound> {
        self.bounds.get(workload)?.get(kind).copied()
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or is something else.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |why: &str| Error::other(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| wrong(&e.to_string()))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| wrong(&e.to_string()))?;
        let mut recorded = Self::default();
        for workload in NAMES {
            let bounds = recorded.bounds.entry(workload.to_owned()).or_default();
            for kind in kinds() {
                let bound = &value[workload][kind];
                let (Some(count), Some(tolerance)) =
                    (bound["count"].as_u64(), bound["tolerance"].as_u64())
                else {
                    return Err(wrong(&format!("no `{kind}` of `{workload}`")));
                };
                bounds.insert(kind.to_owned(), Bound { count, tolerance });
            }
        }
        Ok(recorded)
    }

    /// Writes the file, one line for each number.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let of_workload = |workload: &str| {
            let lines = kinds().into_iter().filter_map(|kind| {
                let Bound { count, tolerance } = self.bound(workload, kind)?;
                let bound = json!({"count": count, "tolerance": tolerance});
                Some(format!("    \"{kind}\": {bound}"))
            });
            format!(
                "  \"{workload}\": {{\n{}\n  }}",
                lines.collect::<Vec<_>>().join(",\n")
            )
        };
        let all: Vec<String> = NAMES.iter().map(|name| of_workload(name)).collect();
        std::fs::write(path, format!("{{\n{}\n}}\n", all.join(",\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tolerance_is_twice_what_runs_differ_in() {
        for (kind, counts, count, tolerance) in [
            ("mounts", [10, 10, 10], 10, 1),
            ("mounts", [12, 10, 11], 11, 4),
            ("mounts", [1000, 1000, 1000], 1000, 21),
            ("opens", [1000, 1000, 1000], 1000, 58),
            (BYTES_READ, [1000, 1000, 1000], 1000, 50),
        ] {
            let bound = Bound::of(kind, &counts);
            assert_eq!(bound, Bound { count, tolerance });
            assert!(bound.allows(count + tolerance) && !bound.allows(count + tolerance + 1));
            assert!(!bound.is_beaten_by(count - tolerance));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let run: Counts = kinds().into_iter().zip(5..).collect();
        let runs = NAMES
            .iter()
            .map(|name| ((*name).to_owned(), vec![run.clone()]));
        let recorded = Recorded::of(&runs.collect());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counts.json");
        recorded.write(&path).unwrap();
        assert_eq!(Recorded::read(&path).unwrap(), recorded);
        std::fs::write(&path, "{}").unwrap();
        assert!(Recorded::read(&path).is_err());
    }
}
