//! A store that much was built in: what builds and the commands that look at all of it take there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::bounds::within;
use super::context;
use super::engine::{Engine, no_cache};
use super::growth::{Growth, point};
use super::measure::Taken;
use super::report::Row;
use super::turns::Turns;
use super::{Bench, clear};

/// What `--only` calls the rows and the line.
pub(super) const ROWS: &str = "filled";
pub(super) const LINE: &str = "growth-records";

/// Records that the store has at each point of the line.
const RECORDS: [usize; 6] = [1, 1_000, 5_000, 10_000, 25_000, MOST];
/// Records of the filled store.
const MOST: usize = 50_000;
/// Records that one build leaves.
const BATCH: usize = 1_000;
/// Stages of such a build, which run side by side.
const STAGES: usize = 20;

// Seconds at most, on the filled store.
const BUILD: f64 = 0.3;
const CACHED: f64 = 0.03;
const FSCK: f64 = 30.0;
const PRUNE_NOTHING: f64 = 1.0;
const PRUNE_ALL: f64 = 3.0;
const DF: f64 = 1.0;

/// What is measured on the filled store, and the line on the way there.
pub(super) fn measure(bench: &Bench) -> Result<(Vec<Row>, Option<Growth>)> {
    let (rows, line) = (bench.wants(ROWS), bench.wants_growth(LINE));
    if !rows && !line {
        return Ok((Vec::new(), None));
    }
    let store = bench.scratch.join("filled");
    let kiln = bench.kiln.emptied(&store)?;
    let mut filler = Filler {
        kiln: &kiln,
        context: bench.contexts.join("filler"),
        records: 0,
    };
    let context = bench.contexts.join("filled");
    clear(&context)?;
    std::fs::write(context.join("Dockerfile"), context::steps(30))?;
    let mut points = Vec::new();
    for count in RECORDS.into_iter().filter(|_| line) {
        filler.fill(count)?;
        points.push(point(bench, count, || kiln.build(&context, &no_cache()))?);
    }
    let growth = line.then_some(Growth {
        of: "records in the store, each with its layer, for a build of 30 steps",
        points,
        each: None,
    });
    let mut found = Vec::new();
    if rows {
        filler.fill(MOST)?;
        kiln.build(&context, &[])?;
        found = on_filled(bench, &kiln, &context)?;
    }
    clear(&filler.context)?;
    clear(&store)?;
    Ok((found, growth))
}

/// Fills a store by building.
struct Filler<'a> {
    kiln: &'a Engine,
    context: PathBuf,
    records: usize,
}

impl Filler<'_> {
    /// Builds until the store has so many records. Each has a layer of its own, as every step has that was
    /// carried out.
    fn fill(&mut self, records: usize) -> Result<()> {
        while self.records < records {
            let batch = BATCH.min(records - self.records);
            eprintln!("filling a store: {} of {records}", self.records);
            clear(&self.context)?;
            let text = batch_of(self.records, batch);
            std::fs::write(self.context.join("Dockerfile"), text)?;
            std::fs::write(self.context.join("file"), "a small file\n")?;
            let words = ["build", "-q", "-o", "type=cacheonly"];
            let run = self.kiln.command().args(words).arg(&self.context);
            run.capture()?;
            self.records += batch;
        }
        Ok(())
    }
}

/// A Dockerfile of so many steps, none of which is in that of another beginning.
fn batch_of(begin: usize, count: usize) -> String {
    let mut text = String::new();
    // The last stage has a step for each of the others.
    let stages = STAGES.min(count / 2);
    let mut last = "FROM scratch\n".to_owned();
    let mut left = count - stages;
    for stage in 0..stages.max(1) {
        let steps = left.div_ceil(stages.max(1) - stage);
        left -= steps;
        // Writing to memory does not fail.
        let _ = writeln!(text, "FROM busybox AS s{stage}");
        for step in 0..steps {
            let _ = writeln!(text, "COPY file /{begin}-{stage}-{step}");
        }
        if stages > 0 {
            let _ = writeln!(last, "COPY --from=s{stage} /{begin}-{stage}-0 /{stage}");
        }
    }
    if stages == 0 { text } else { text + &last }
}

/// What one command or build takes.
type One<'a> = Box<dyn Fn(&Engine) -> Result<Taken> + 'a>;

fn on_filled(bench: &Bench, kiln: &Engine, context: &Path) -> Result<Vec<Row>> {
    let build = |arguments: Vec<String>| -> One<'_> {
        Box::new(move |kiln| kiln.build(context, &arguments))
    };
    let command = |words: &'static [&str]| -> One<'_> {
        Box::new(move |kiln| kiln.measure(&kiln.command().args(words.iter().copied())))
    };
    let unused = ["prune", "-f", "--filter", "unused-for=8760h"].as_slice();
    let many = bench.runs;
    let parts = [
        ("30 RUN steps, no cache", BUILD, many, build(no_cache())),
        ("30 RUN steps, cached", CACHED, many, build(Vec::new())),
        ("system df", DF, many, command(&["system", "df"])),
        ("fsck, once", FSCK, 1, command(&["fsck"])),
        (
            "prune, where nothing is old enough",
            PRUNE_NOTHING,
            many,
            command(unused),
        ),
        // The last one, and once: it leaves nothing.
        (
            "prune of all, once",
            PRUNE_ALL,
            1,
            command(&["prune", "-f", "--all"]),
        ),
    ];
    let rows = parts.into_iter().map(|(what, most, rounds, one)| {
        let turns = Turns {
            name: &format!("filled store, {what}"),
            engines: &[kiln],
            rounds,
            repeats: 1,
        };
        let measured = turns.take(|kiln, _, _| one(kiln), None)?;
        Ok(Row::new(what, within(most), &measured))
    });
    rows.collect()
}

/// What the section is called.
pub(super) fn title() -> String {
    format!("On a store of {MOST} records, each with a layer of its own")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_the_steps_it_promises() {
        for count in [1, 2, 3, 39, 40, 999, 1_000] {
            let text = batch_of(5, count);
            assert_eq!(text.matches("COPY ").count(), count, "{text}");
            let all: std::collections::BTreeSet<&str> = text
                .lines()
                .filter(|l| l.starts_with("COPY file"))
                .collect();
            assert!(all.iter().all(|line| line.starts_with("COPY file /5-")));
        }
    }
}
