//! Milliseconds for a megabyte of many kinds of text, and how they grow with it.
//!
//! `cargo bench -p kiln-parser -- [--check] [FILTER]`. With `--check` it fails where a megabyte takes
//! longer than 50 ms, or where eight megabytes take more than two and a half times four times
//! what two take. What counts is the time of the processor, so that a busy machine makes little
//! difference.

#![allow(
    clippy::print_stdout,
    clippy::exit,
    reason = "a program for a developer's terminal"
)]

mod inputs;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use inputs::{DOCKERFILES, IGNORES, Input, WORDS};
use kiln_parser::{Fuel, Ignore, expand_raw, expand_word, expand_words, parse};
use rustix::time::{ClockId, clock_gettime};

const MEGABYTE: usize = 1 << 20;

/// What a megabyte may take.
const LIMIT: Duration = Duration::from_millis(50);

/// How much longer than four times as long four times as much may take: caches do not grow along.
const GROWTH: f64 = 2.5;

/// The shortest of several runs.
fn time(mut run: impl FnMut() -> Duration) -> Duration {
    let begin = Instant::now();
    let mut best = run();
    for _ in 0..8 {
        if begin.elapsed() > Duration::from_millis(600) {
            break;
        }
        best = best.min(run());
    }
    best
}

/// The time that this thread has had.
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// The time of `work`; what it makes is dropped outside of it.
fn once<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = now();
    let made = black_box(work());
    let took = now().saturating_sub(begin);
    drop(made);
    took
}

struct Report {
    filter: String,
    bad: Vec<String>,
}

impl Report {
    fn group(&mut self, title: &str, inputs: &[Input], work: &dyn Fn(&str) -> Duration) {
        println!("\n{title:32}     1 MB     2 MB     4 MB     8 MB  growth");
        for (name, make) in inputs {
            let full = format!("{title}: {name}");
            if !full.contains(&self.filter) {
                continue;
            }
            let times = [1, 2, 4, 8].map(|size| {
                let text = make(size * MEGABYTE);
                time(|| work(&text))
            });
            let ms = times.map(|t| t.as_secs_f64() * 1000.0);
            // One megabyte fits into what the allocator keeps; larger ones get fresh pages.
            let growth = ms[3] / ms[1] / 4.0;
            println!(
                "{name:32} {:8.2} {:8.2} {:8.2} {:8.2}  {growth:6.2}",
                ms[0], ms[1], ms[2], ms[3]
            );
            // What takes less than a millisecond has more noise than growth.
            if times[0] > LIMIT || (growth > GROWTH && ms[3] > 1.0) {
                self.bad.push(full);
            }
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = arguments.iter().any(|a| a == "--check");
    let filter = arguments.into_iter().find(|a| !a.starts_with("--"));
    let mut report = Report {
        filter: filter.unwrap_or_default(),
        bad: Vec::new(),
    };
    let env: BTreeMap<String, String> = [
        ("a".to_owned(), "some/value".to_owned()),
        ("big".to_owned(), "ab".repeat(MEGABYTE / 2)),
    ]
    .into();
    report.group("Dockerfile", DOCKERFILES, &|text| once(|| parse(text)));
    report.group("word", WORDS, &|text| {
        once(|| expand_word(text, '\\', &env, &mut Fuel::default()))
    });
    report.group("words", WORDS, &|text| {
        once(|| expand_words(text, '\\', &env, &mut Fuel::default()))
    });
    report.group("heredoc", WORDS, &|text| {
        once(|| expand_raw(text, '\\', &env, &mut Fuel::default()))
    });
    report.group("ignore file", IGNORES, &|text| once(|| Ignore::parse(text)));
    let path = "a/b".repeat(20);
    report.group("path against ignore file", IGNORES, &|text| {
        let Ok(ignore) = Ignore::parse(text) else {
            return Duration::ZERO;
        };
        once(|| (ignore.verdict(&path), ignore.may_reinclude_below(&path)))
    });
    if !report.bad.is_empty() {
        println!("\ntoo slow: {}", report.bad.join("; "));
        if check {
            std::process::exit(1);
        }
    }
}
