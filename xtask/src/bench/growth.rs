//! How kiln's time and memory grow with the number of something.

use std::fmt::Write as _;

use anyhow::Result;

use super::alone::{builds, different_contexts};
use super::context::{self, BUSYBOX};
use super::engine::no_cache;
use super::measure::{Taken, at_once, median};
use super::report::seconds;
use super::{Bench, clear};

/// What kiln took for so many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) count: usize,
    pub(super) seconds: f64,
    pub(super) peak_kb: u64,
}

/// A measured line.
pub(super) struct Growth {
    /// What there is a number of.
    pub(super) of: &'static str,
    pub(super) points: Vec<Point>,
    /// Two counts, and how much more time one of the second may take than one of the first.
    pub(super) each: Option<(usize, usize, f64)>,
}

/// The straight line nearest to some points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Seconds per unit.
    slope: f64,
    /// Seconds at none.
    start: f64,
    /// How much of the variation it explains (R²).
    fit: f64,
}

/// Of a straight line, R² is more than this.
const STRAIGHT: f64 = 0.99;
/// Of time that does not grow at all, the line explains nothing: it rises by no more than this part of
/// the shortest time, from the first point to the last.
const LEVEL_TIME: f64 = 0.25;
/// Memory that does not grow: the largest peak over the smallest.
const LEVEL_MEMORY: f64 = 1.25;

/// A step of 500 against one of 50, at most.
const EACH_STEP: f64 = 1.1;

const STEPS: [usize; 5] = [1, 50, 125, 250, 500];
const FILES: [usize; 5] = [1_000, 10_000, 25_000, 50_000, 100_000];
const LAYERS: [usize; 5] = [1, 50, 100, 200, 300];
const BUILDS: [usize; 5] = [1, 8, 16, 32, 64];
const STEPS_OF_A_BUILD: usize = 4;
/// Runs of a point at most.
const RUNS: usize = 3;

impl Growth {
    /// The straight line nearest to the points.
    pub(super) fn line(&self) -> Line {
        let points = self.points.iter().map(|p| (p.count as f64, p.seconds));
        let points: Vec<(f64, f64)> = points.collect();
        let count = points.len() as f64;
        let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
        let (x_mean, y_mean) = (mean(|p| p.0), mean(|p| p.1));
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for (x, y) in &points {
            xx += (x - x_mean).powi(2);
            xy += (x - x_mean) * (y - y_mean);
            yy += (y - y_mean).powi(2);
        }
        let slope = xy / xx;
        Line {
            slope,
            start: y_mean - slope * x_mean,
            fit: xy * xy / (xx * yy),
        }
    }

    /// Whether the time does not grow.
    fn is_level(&self, line: Line) -> bool {
        let counts = self.points.iter().map(|p| p.count as f64);
        let (least, most) = counts.fold((f64::MAX, 0.0_f64), |(a, b), c| (a.min(c), b.max(c)));
        let shortest = self
            .points
            .iter()
            .map(|p| p.seconds)
            .fold(f64::MAX, f64::min);
        line.slope * (most - least) <= LEVEL_TIME * shortest
    }

    /// The smallest and the largest peak of memory, in KiB.
    fn memory(&self) -> (u64, u64) {
        let peaks = self.points.iter().map(|p| p.peak_kb);
        peaks.fold((u64::MAX, 0), |(a, b), peak| (a.min(peak), b.max(peak)))
    }

    /// What one of `to` takes over what one of `from` takes.
    fn of_each(&self, from: usize, to: usize) -> Option<f64> {
        let each = |count: usize| {
            let point = self.points.iter().find(|p| p.count == count)?;
            Some(point.seconds / count as f64)
        };
        Some(each(to)? / each(from)?)
    }

    /// A section of the report.
    pub(super) fn render(&self) -> String {
        let of = self.of;
        let mut out = format!(
            "\n## Time over the number of {of}\n\n| {of} | seconds | microseconds each | memory |\n\
             | --- | --- | --- | --- |\n"
        );
        for Point {
            count,
            seconds: time,
            peak_kb,
        } in &self.points
        {
            // Writing to memory does not fail.
            let _ = writeln!(
                out,
                "| {count} | {} | {:.0} | {} |",
                seconds(*time),
                time / *count as f64 * 1e6,
                peak_kb / 1024
            );
        }
        let line = self.line();
        let time = if self.is_level(line) {
            "time does not grow".to_owned()
        } else if line.fit > STRAIGHT {
            format!("time grows in a straight line (R² > {STRAIGHT})")
        } else {
            format!("time does **not** grow in a straight line (R² > {STRAIGHT})")
        };
        let (least, most) = self.memory();
        let is_flat = most as f64 <= least as f64 * LEVEL_MEMORY;
        let memory = if is_flat {
            "is flat"
        } else {
            "is **not** flat"
        };
        let _ = writeln!(
            out,
            "\nThe nearest straight line: {:.3} s and {:.1} µs for each, R² = {:.4}: {time}. Memory {memory}: \
             {} to {} MB.",
            line.start,
            line.slope * 1e6,
            line.fit,
            least / 1024,
            most / 1024
        );
        if let Some((from, to, most)) = self.each
            && let Some(ratio) = self.of_each(from, to)
        {
            let reached = if ratio <= most { "yes" } else { "**no**" };
            let _ = writeln!(
                out,
                "\nOne of {to} takes {ratio:.2} times as long as one of {from}; at most {most}: {reached}."
            );
        }
        out
    }
}

/// The median of some runs.
pub(super) fn point(
    bench: &Bench,
    count: usize,
    mut one: impl FnMut() -> Result<Taken>,
) -> Result<Point> {
    let (mut times, mut peak_kb) = (Vec::new(), 0);
    for _ in 0..bench.runs.min(RUNS) {
        let taken = one()?;
        times.push(taken.seconds);
        peak_kb = peak_kb.max(taken.peak_kb);
    }
    Ok(Point {
        count,
        seconds: median(&times),
        peak_kb,
    })
}

/// A line, and what `--only` calls it.
type Part = (&'static str, fn(&Bench) -> Result<Growth>);

/// All but that of records, for which a store is filled.
const PARTS: [Part; 4] = [
    ("growth-steps", steps),
    ("growth-files", files),
    ("growth-layers", layers),
    ("growth-builds", builds_at_once),
];

/// What `--only` calls them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PARTS.iter().map(|(name, _)| *name)
}

/// Measures the lines that are wanted.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Growth>> {
    let wanted = PARTS.iter().filter(|(name, _)| bench.wants_growth(name));
    wanted.map(|(_, part)| part(bench)).collect()
}

/// A line of these counts; `one` measures for one of them.
fn grow(
    bench: &Bench,
    of: &'static str,
    counts: &[usize],
    mut one: impl FnMut(usize) -> Result<Point>,
) -> Result<Growth> {
    let mut points = Vec::new();
    for count in counts {
        eprintln!("time over the number of {of}: {count}");
        points.push(one(*count)?);
    }
    clear(&bench.contexts.join("growth"))?;
    Ok(Growth {
        of,
        points,
        each: None,
    })
}

fn steps(bench: &Bench) -> Result<Growth> {
    let context = bench.contexts.join("growth");
    let growth = grow(bench, "RUN steps", &STEPS, |count| {
        clear(&context)?;
        std::fs::write(context.join("Dockerfile"), context::steps(count))?;
        point(bench, count, || bench.kiln.build(&context, &no_cache()))
    })?;
    Ok(Growth {
        each: Some((50, 500, EACH_STEP)),
        ..growth
    })
}

fn files(bench: &Bench) -> Result<Growth> {
    let context = bench.contexts.join("growth");
    grow(bench, "files in a COPY", &FILES, |count| {
        clear(&context)?;
        std::fs::write(context.join("Dockerfile"), context::copy())?;
        context::write_files(&context.join("src"), count)?;
        point(bench, count, || bench.kiln.build(&context, &no_cache()))
    })
}

fn layers(bench: &Bench) -> Result<Growth> {
    let context = bench.contexts.join("growth");
    grow(bench, "layers of the base", &LAYERS, |count| {
        clear(&context)?;
        let name = format!("kiln-bench-layers-{count}");
        let mut text = BUSYBOX.to_owned();
        for layer in 1..count {
            let _ = writeln!(text, "RUN echo {layer} > /layer{layer}");
        }
        std::fs::write(context.join("Dockerfile"), text)?;
        bench
            .kiln
            .build(&context, &["-t".to_owned(), name.clone()])?;
        let text = format!("FROM {name}\nRUN ls / > /list\n");
        std::fs::write(context.join("Dockerfile"), text)?;
        point(bench, count, || bench.kiln.build(&context, &no_cache()))
    })
}

fn builds_at_once(bench: &Bench) -> Result<Growth> {
    grow(bench, "builds at once", &BUILDS, |count| {
        let contexts = different_contexts(bench, "growth-builds", count, STEPS_OF_A_BUILD)?;
        let builds = builds(&bench.kiln, &contexts, &no_cache())?;
        point(bench, count, || {
            bench.kiln.settle()?;
            at_once(&builds, true)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(points: &[(usize, f64, u64)]) -> Growth {
        let points = points.iter().map(|&(count, seconds, mb)| Point {
            count,
            seconds,
            peak_kb: mb << 10,
        });
        Growth {
            of: "steps",
            points: points.collect(),
            each: None,
        }
    }

    #[test]
    fn a_straight_line_is_found() {
        let line = growth(&[(1, 5.0, 1), (5, 13.0, 1), (9, 21.0, 1)]).line();
        assert!((line.slope - 2.0).abs() < 1e-9 && (line.start - 3.0).abs() < 1e-9);
        assert!(line.fit > 0.999, "{line:?}");
    }

    #[test]
    fn the_report_says_whether_time_is_a_line_and_memory_flat() {
        for (points, time, memory) in [
            (
                [(1, 5.0, 20), (5, 13.0, 21), (9, 21.0, 22)],
                "time grows in a straight line",
                "Memory is flat",
            ),
            (
                [(1, 1.0, 20), (5, 25.0, 30), (9, 81.0, 40)],
                "time does **not** grow in a straight line",
                "Memory is **not** flat: 20 to 40 MB",
            ),
            (
                [(1, 1.1, 20), (5, 1.0, 20), (9, 1.15, 20)],
                "time does not grow.",
                "Memory is flat",
            ),
        ] {
            let text = growth(&points).render();
            assert!(text.contains(time) && text.contains(memory), "{text}");
        }
    }

    #[test]
    fn one_of_many_is_held_against_one_of_few() {
        let mut growth = growth(&[(50, 0.2, 1), (500, 2.4, 1)]);
        growth.each = Some((50, 500, 1.1));
        let text = growth.render();
        let expected = "One of 500 takes 1.20 times as long as one of 50; at most 1.1: **no**.";
        assert!(text.contains(expected), "{text}");
    }
}
