//! How kiln's time grows with the number of steps and of files.

use anyhow::Result;

use super::measure::median;
use super::{Bench, clear, workload};

/// A measured line.
pub(super) struct Growth {
    pub(super) of: &'static str,
    /// Count and seconds.
    pub(super) points: Vec<(f64, f64)>,
}

impl Growth {
    /// The straight line nearest to the points: seconds per unit, seconds at none, and how much
    /// of the variation it explains (R²).
    pub(super) fn line(&self) -> (f64, f64, f64) {
        let count = self.points.len() as f64;
        let mean = |pick: fn(&(f64, f64)) -> f64| self.points.iter().map(pick).sum::<f64>() / count;
        let (x_mean, y_mean) = (mean(|p| p.0), mean(|p| p.1));
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for (x, y) in &self.points {
            xx += (x - x_mean).powi(2);
            xy += (x - x_mean) * (y - y_mean);
            yy += (y - y_mean).powi(2);
        }
        let slope = xy / xx;
        (slope, y_mean - slope * x_mean, xy * xy / (xx * yy))
    }
}

const STEPS: [usize; 5] = [1, 50, 125, 250, 500];
const FILES: [usize; 5] = [1_000, 10_000, 25_000, 50_000, 100_000];
const RUNS: usize = 3;

/// Measures both.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Growth>> {
    let context = bench.contexts.join("growth");
    let mut steps = Growth {
        of: "RUN steps",
        points: Vec::new(),
    };
    for count in STEPS {
        clear(&context)?;
        std::fs::write(context.join("Dockerfile"), workload::steps(count))?;
        steps
            .points
            .push((count as f64, time(bench, &context, count)?));
    }
    let mut files = Growth {
        of: "files in a COPY",
        points: Vec::new(),
    };
    for count in FILES {
        clear(&context)?;
        std::fs::write(context.join("Dockerfile"), workload::copy())?;
        workload::write_files(&context.join("src"), count)?;
        files
            .points
            .push((count as f64, time(bench, &context, count)?));
    }
    clear(&context)?;
    Ok(vec![steps, files])
}

fn time(bench: &Bench, context: &std::path::Path, count: usize) -> Result<f64> {
    eprintln!("growth: {count}");
    let mut times = Vec::new();
    for _ in 0..RUNS {
        times.push(bench.kiln.build(context, true)?.seconds);
    }
    Ok(median(&times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_is_found() {
        let points = [1.0, 5.0, 9.0].map(|x| (x, 2.0 * x + 3.0)).to_vec();
        let (slope, start, fit) = Growth { of: "", points }.line();
        assert!((slope - 2.0).abs() < 1e-9 && (start - 3.0).abs() < 1e-9 && fit > 0.999);
    }
}
