//! Engines in turn: each round has one run of every engine, so that what changes on the machine meanwhile
//! meets all of them.

use anyhow::Result;

use super::engine::Engine;
use super::measure::{Taken, median};

/// Who takes turns, and how often.
pub(super) struct Turns<'a> {
    /// For what is told meanwhile.
    pub(super) name: &'a str,
    pub(super) engines: &'a [&'a Engine],
    pub(super) rounds: usize,
    /// Runs of an engine in each round. What takes some milliseconds has more than one.
    pub(super) repeats: usize,
}

/// Medians of what was measured.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// Titles and seconds of the engines, kiln first.
    pub(super) times: Vec<(&'static str, f64)>,
    /// Seconds without an engine.
    pub(super) bare: Option<f64>,
    /// The most memory that kiln took in any run, in KiB.
    pub(super) peak_kb: u64,
}

impl Measured {
    /// The medians of rounds of the same engines that were measured one by one.
    pub(super) fn of_rounds(rounds: &[Self]) -> Self {
        let engines = rounds.first().map_or(0, |first| first.times.len());
        let of_engine = |at: usize| {
            let all: Vec<_> = rounds.iter().filter_map(|r| r.times.get(at)).collect();
            let times: Vec<f64> = all.iter().map(|(_, time)| *time).collect();
            all.first().map(|(title, _)| (*title, median(&times)))
        };
        let bare: Vec<f64> = rounds.iter().filter_map(|r| r.bare).collect();
        Self {
            times: (0..engines).filter_map(of_engine).collect(),
            bare: (!bare.is_empty()).then(|| median(&bare)),
            peak_kb: rounds.iter().map(|r| r.peak_kb).max().unwrap_or(0),
        }
    }
}

/// Measures something bare, in seconds; gets the number of the round and of the run in it.
pub(super) type BareRun<'a> = &'a mut dyn FnMut(usize, usize) -> Result<f64>;

impl Turns<'_> {
    /// Has each engine do `one`, which gets the engine, the number of the round and of the run in it.
    pub(super) fn take(
        &self,
        mut one: impl FnMut(&Engine, usize, usize) -> Result<Taken>,
        mut bare: Option<BareRun<'_>>,
    ) -> Result<Measured> {
        let mut times = vec![Vec::new(); self.engines.len()];
        let (mut bare_times, mut peak_kb) = (Vec::new(), 0);
        for round in 1..=self.rounds {
            eprintln!("{}: round {round} of {}", self.name, self.rounds);
            for (engine, times) in self.engines.iter().zip(&mut times) {
                for run in 1..=self.repeats {
                    let taken = one(engine, round, run)?;
                    times.push(taken.seconds);
                    if engine.is_kiln() {
                        peak_kb = peak_kb.max(taken.peak_kb);
                    }
                }
            }
            if let Some(bare) = &mut bare {
                for run in 1..=self.repeats {
                    bare_times.push(bare(round, run)?);
                }
            }
        }
        let titles = self.engines.iter().map(|e| e.title());
        Ok(Measured {
            times: titles.zip(times.iter().map(|t| median(t))).collect(),
            bare: (!bare_times.is_empty()).then(|| median(&bare_times)),
            peak_kb,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn engines_take_turns_and_medians_are_kept() {
        let kiln = Engine::kiln(Path::new("kiln"), Path::new("a"));
        let before = Engine::before(Path::new("kiln"), Path::new("b"));
        let mut order = Vec::new();
        let turns = Turns {
            name: "test",
            engines: &[&kiln, &before],
            rounds: 3,
            repeats: 1,
        };
        let one = |engine: &Engine, round: usize, _: usize| {
            order.push((engine.title(), round));
            let of_kiln = if engine.is_kiln() { 1.0 } else { 2.0 };
            Ok(Taken {
                seconds: of_kiln * [5.0, 1.0, 3.0][round - 1],
                peak_kb: round as u64,
            })
        };
        let measured = turns.take(one, Some(&mut |_, _| Ok(0.5))).unwrap();
        assert_eq!(
            order,
            [
                ("kiln", 1),
                ("before", 1),
                ("kiln", 2),
                ("before", 2),
                ("kiln", 3),
                ("before", 3)
            ]
        );
        assert_eq!(measured.times, [("kiln", 3.0), ("before", 6.0)]);
        assert_eq!((measured.bare, measured.peak_kb), (Some(0.5), 3));
        let mut slow = measured.clone();
        slow.times[0].1 = 9.0;
        slow.peak_kb = 7;
        let both = Measured::of_rounds(&[measured, slow]);
        assert_eq!(both.times, [("kiln", 6.0), ("before", 6.0)]);
        assert_eq!((both.bare, both.peak_kb), (Some(0.5), 7));
    }
}
