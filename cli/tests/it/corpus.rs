//! The corpus: each Dockerfile in `testdata/corpus` parses to what is recorded beside it. What it gives is
//! for the end to end tests, which record it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kiln_tests::corpus::{self, Case};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/corpus")
}

/// A test for each group, and one that no group is missing here.
macro_rules! groups {
    ($($name:ident),* $(,)?) => {
        mod parses {
            $(
                #[test]
                fn $name() {
                    super::check(stringify!($name));
                }
            )*
        }

        #[test]
        fn every_group_is_tested() {
            let here: BTreeSet<&str> = [$(stringify!($name)),*].into();
            let cases = corpus::all(&directory());
            let there: BTreeSet<&str> = cases.iter().map(Case::group).collect();
            assert_eq!(here, there);
        }
    };
}

groups!(
    add, args, check, copy, directives, env, errors, expand, flags, from, heredoc, history, ignore,
    json, lines, meta, onbuild, run, stages,
);

/// What is recorded of the parser.
fn recorded(case: &Case) -> Vec<String> {
    let path = directory().join(format!("{}.golden", case.name));
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = text
        .lines()
        .skip_while(|line| *line != "== parsed ==")
        .skip(1);
    let lines = lines.take_while(|line| !line.starts_with("== "));
    lines.map(str::to_owned).collect()
}

fn check(group: &str) {
    let mut count = 0;
    for case in corpus::all(&directory()) {
        let Some(dockerfile) = case.dockerfile().filter(|_| case.group() == group) else {
            continue;
        };
        count += 1;
        let parsed = corpus::parsed_form(dockerfile);
        // A form may have several lines.
        let parsed: Vec<&str> = parsed.iter().flat_map(|form| form.lines()).collect();
        assert_eq!(parsed, recorded(&case), "{}", case.name);
    }
    assert!(count >= 20, "{count} cases of {group}");
}
