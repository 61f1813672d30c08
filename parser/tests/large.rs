//! Large texts of every kind take time in proportion. The benchmark measures how much.

#[path = "../benches/parser/inputs.rs"]
mod inputs;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use inputs::{DOCKERFILES, IGNORES, Input, WORDS};
use kiln_parser::{Ignore, expand_raw, expand_words, format, parse};

/// A quadratic step would take minutes.
const SIZE: usize = 1 << 18;

fn each(inputs: &[Input], work: impl Fn(&str)) {
    for (name, make) in inputs {
        let text = make(SIZE);
        let begin = Instant::now();
        work(&text);
        let took = begin.elapsed();
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
        let _ = expand_words(text, '\\', &env);
        let _ = expand_raw(text, '\\', &env);
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
