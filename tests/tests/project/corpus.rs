//! The corpus: each Dockerfile in testdata/corpus parses to, and gives, what is recorded beside it.
//!
//! `KILN_UPDATE_GOLDEN=1 cargo xtask test corpus` records anew. What is recorded is compared with
//! Docker by `cargo xtask conformance`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kiln_tests::Lab;
use kiln_tests::corpus::{self, Case, Facts, Tree};

fn directory() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("testdata/corpus")
}

/// One test for each group, and one that no group is missing here.
macro_rules! groups {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            group(stringify!($name));
        })*

        #[test]
        fn every_group_is_tested() {
            let here: BTreeSet<&str> = [$(stringify!($name)),*].into();
            let cases = corpus::all(&directory());
            let there: BTreeSet<&str> = cases.iter().map(Case::group).collect();
            assert_eq!(here, there);
            assert!(cases.len() >= 300, "{} cases", cases.len());
        }
    };
}

groups!(
    add, args, check, copy, directives, env, errors, expand, flags, from, heredoc, history, ignore,
    json, lines, meta, onbuild, run, stages,
);

fn group(name: &str) {
    let lab = Lab::new();
    let bases = ["busybox", "debian:bookworm"].map(|base| {
        lab.kiln(["pull", "-q", base]).output().ok();
        facts(&lab, base)
    });
    let update = std::env::var_os("KILN_UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in corpus::all(&directory())
        .iter()
        .filter(|c| c.group() == name)
    {
        let found = match of_case(&lab, case, &bases) {
            Ok(found) => found,
            Err(why) => {
                wrong.push(why);
                continue;
            }
        };
        let path = directory().join(format!("{}.golden", case.name));
        if update {
            std::fs::write(&path, &found).unwrap();
            continue;
        }
        let recorded = std::fs::read_to_string(&path).unwrap_or_default();
        if recorded != found {
            wrong.push(format!("{}:\n{}", case.name, difference(&recorded, &found)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lines that are on one side only.
fn difference(recorded: &str, found: &str) -> String {
    let mut text = String::new();
    for (sign, these, those) in [("-", recorded, found), ("+", found, recorded)] {
        let those: BTreeSet<&str> = those.lines().collect();
        for line in these.lines().filter(|l| !those.contains(l)) {
            text.push_str(&format!("  {sign} {line}\n"));
        }
    }
    text
}

fn facts(lab: &Lab, image: &str) -> Facts {
    let archive = lab.path("corpus.tar");
    let _ = std::fs::remove_file(&archive);
    lab.kiln(["save", "-o"])
        .arg(&archive)
        .arg(image)
        .output()
        .ok();
    Facts::of_archive(&archive)
}

/// What is recorded of a case.
fn of_case(lab: &Lab, case: &Case, bases: &[Facts]) -> Result<String, String> {
    let mut text = String::new();
    let mut section = |title: &str, lines: Vec<String>| {
        text.push_str(&format!("== {title} ==\n"));
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
    };
    if let Some(dockerfile) = case.dockerfile() {
        section("parsed", corpus::parsed_form(dockerfile));
    }
    let context = lab.path(&case.name.replace('/', "-"));
    case.write(&context);
    let build = |words: &[&str]| {
        let mut kiln = lab.kiln(["build", "--network", "host"]).dir(&context);
        for (name, value) in &case.env {
            kiln = kiln.env(name, value);
        }
        kiln.args(words).last(".").output()
    };
    for base in &case.bases {
        let file = format!("{base}.Dockerfile");
        build(&["-t", base, "-f", &file]).ok();
    }
    let words: Vec<&str> = case.build.iter().map(String::as_str).collect();
    if case.check_only {
        let mut words = words;
        words.push("--call=check,format=json");
        section("check", corpus::check_lines(&build(&words).out));
        return Ok(text);
    }
    let tag = format!("corpus-{}", case.name.replace('/', "-").to_lowercase());
    let mut words = words;
    words.extend(["-t", &tag]);
    let built = build(&words);
    match (built.succeeded(), case.fails) {
        (true, true) => return Err(format!("{}: it should fail", case.name)),
        (false, false) => return Err(format!("{}: {}", case.name, built.err)),
        (false, true) => {
            let err = &built.err;
            let named = case.error.as_ref().is_none_or(|e| err.contains(e));
            if !named || err.contains("panicked") {
                return Err(format!("{}: fails otherwise: {err}", case.name));
            }
        }
        (true, false) => {
            let found = facts(lab, &tag);
            let base = bases.iter().find(|b| found.layers.starts_with(&b.layers));
            let nothing = Tree::default();
            let base_tree = base.map_or(&nothing, |b| &b.tree);
            let known = base.map_or(0, |b| b.history.len());
            section("config", found.config);
            section("history", found.history.into_iter().skip(known).collect());
            section("files", found.tree.lines(base_tree));
        }
    }
    std::fs::remove_dir_all(&context).unwrap();
    Ok(text)
}
