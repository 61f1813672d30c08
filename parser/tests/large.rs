//! Large texts of every kind take time in proportion. The benchmark measures how much.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

#[path = "../benches/parser/inputs.rs"]
mod inputs;

use std::collections::BTreeMap;
use std::time::Duration;

use inputs::{DOCKERFILES, IGNORES, Input, WORDS};
use kiln_parser::{Fuel, Ignore, expand_raw, expand_words, format, parse};

/// A quadratic step would take minutes.
const SIZE: usize = 1 << 18;

/// What this thread has used of the processor: what others use does not count. The kernel gives it in
/// hundredths of a second, user and system time (`proc_pid_stat(5)`, fields 14 and 15).
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, behind_name) = stat.rsplit_once(')').unwrap();
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|t| t.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

fn each(inputs: &[Input], work: impl Fn(&str)) {
    for (name, make) in inputs {
        let text = make(SIZE);
        let begin = processor_time();
        work(&text);
        let took = processor_time() - begin;
        assert!(took < Duration::from_secs(10), "{name} took {took:?}");
    }
}

#[test]
fn dockerfiles() {
    each(DOCKERFILES, |text| {
        let _ = parse(text);
    });
}

#[test]
fn formatted_dockerfiles() {
    each(DOCKERFILES, |text| {
        let _ = format(text);
    });
}

#[test]
fn words() {
    let env: BTreeMap<String, String> = [
        ("a".to_owned(), "some/value".to_owned()),
        ("big".to_owned(), "ab".repeat(SIZE)),
    ]
    .into();
    each(WORDS, |text| {
        let _ = expand_words(text, '\\', &env, &mut Fuel::default());
        let _ = expand_raw(text, '\\', &env, &mut Fuel::default());
    });
}

#[test]
fn ignore_files() {
    let path = "a/b".repeat(20);
    each(IGNORES, |text| {
        if let Ok(ignore) = Ignore::parse(text) {
            let _ = (ignore.verdict(&path), ignore.may_reinclude_below(&path));
        }
    });
}
