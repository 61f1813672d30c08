//! `cargo xtask bench --counts`: numbers instead of times, which are the same on every machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use kiln_tests::counts::{self, Counts, NAMES, Recorded};

/// Counts and compares with what is recorded.
pub(super) fn compare(binary: &Path, scratch: &Path) -> Result<()> {
    let path = counts::recorded_at();
    let recorded = Recorded::read(&path)?;
    let (mut all, mut excess) = (Vec::new(), Vec::new());
    for name in NAMES {
        eprintln!("counting {name}");
        let counted = counts::fewest(binary, scratch, name, &recorded).context(name)?;
        excess.extend(counts::excess(&counted, name, &recorded));
        all.push((name, counted));
    }
    println!("{}", table(&all, &recorded));
    if !excess.is_empty() {
        bail!("more than recorded:\n{}", excess.join("\n"));
    }
    Ok(())
}

/// Counts so often, and records what is usual and how far counts may be from it.
pub(super) fn record(binary: &Path, scratch: &Path, runs: usize) -> Result<()> {
    let mut all: BTreeMap<String, Vec<Counts>> = BTreeMap::new();
    for run in 1..=runs {
        for name in NAMES {
            eprintln!("counting {name}: {run} of {runs}");
            let counted = counts::count(binary, scratch, name).context(name)?;
            all.entry(name.to_owned()).or_default().push(counted);
        }
    }
    let recorded = Recorded::of(&all);
    recorded.write(&counts::recorded_at())?;
    let last = NAMES.map(|name| {
        let last = all.get(name).and_then(|runs| runs.last());
        (name, last.cloned().unwrap_or_default())
    });
    println!("{}", table(&last, &recorded));
    Ok(())
}

/// A table of the counts. Those that are not as recorded have the recorded one beside them.
fn table(all: &[(&str, Counts)], recorded: &Recorded) -> String {
    let kinds = counts::kinds();
    let mut out = format!("| workload | {} |\n", kinds.join(" | "));
    let _ = writeln!(out, "|{}", " --- |".repeat(kinds.len() + 1));
    for (name, counted) in all {
        let cells = kinds.iter().map(|kind| {
            let count = counted.get(kind).copied().unwrap_or(0);
            match recorded.bound(name, kind) {
                Some(bound) if !bound.allows(count) => {
                    format!("**{count}** ({} + {})", bound.count, bound.tolerance)
                }
                Some(bound) if bound.is_beaten_by(count) => format!("{count} ({})", bound.count),
                _ => count.to_string(),
            }
        });
        let cells: Vec<String> = cells.collect();
        // Writing to memory does not fail.
        let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_recorded_is_shown_with_it() {
        let run = |number: u64| -> Counts {
            counts::kinds()
                .into_iter()
                .map(|kind| (kind, number))
                .collect()
        };
        let runs = [("steps".to_owned(), vec![run(100)])];
        let recorded = Recorded::of(&runs.into());
        for (number, cell) in [
            (100, "| 100 |"),
            (150, "| **150** (100 + 13) |"),
            (50, "| 50 (100) |"),
        ] {
            let text = table(&[("steps", run(number))], &recorded);
            assert!(text.contains(&format!("| steps {cell}")), "{text}");
        }
    }
}
