//! Rules of the workspace itself.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kiln_tests::tool;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Who may depend on whom; everything else is an error.
const EDGES: &[(&str, &[&str])] = &[
    ("parser", &[]),
    ("image", &[]),
    ("sys", &[]),
    ("solver", &["parser", "image"]),
    ("registry", &["image"]),
    ("cache", &["image", "registry", "solver", "sys"]),
    ("runtime", &["image", "sys"]),
    (
        "executor",
        &["solver", "cache", "image", "registry", "runtime", "sys"],
    ),
    (
        "cli",
        &[
            "parser", "image", "sys", "solver", "registry", "cache", "runtime", "executor",
        ],
    ),
    ("testkit", &["image", "registry", "cache"]),
    ("tests", &["testkit"]),
    ("xtask", &[]),
];

#[test]
fn crates_depend_on_nothing_but_what_the_design_allows() {
    let manifest = root().join("Cargo.toml");
    let text = tool(
        env!("CARGO"),
        [
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--manifest-path",
            manifest.to_str().unwrap(),
        ],
    );
    let data: serde_json::Value = serde_json::from_str(&text).unwrap();
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut seen = BTreeSet::new();
    for package in data["packages"].as_array().unwrap() {
        let name = package["name"]
            .as_str()
            .unwrap()
            .strip_prefix("kiln-")
            .unwrap();
        let may = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the table"));
        seen.insert(name);
        for dependency in package["dependencies"].as_array().unwrap() {
            let Some(on) = dependency["name"].as_str().unwrap().strip_prefix("kiln-") else {
                continue;
            };
            // Tests of a crate may use the kit for tests.
            let is_kit = on == "testkit" && dependency["kind"] == "dev";
            assert!(
                is_kit || may.contains(&on),
                "{name} must not depend on {on}"
            );
        }
    }
    assert_eq!(seen, allowed.keys().copied().collect());
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Rust sources of a crate, with their text.
fn texts(name: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    sources(&root().join(name).join("src"), &mut found);
    found
        .into_iter()
        .map(|p| (p.clone(), std::fs::read_to_string(p).unwrap()))
        .collect()
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    for (name, _) in EDGES.iter().filter(|(n, _)| *n != "sys") {
        for (path, text) in texts(name) {
            let has = text.lines().any(|l| {
                let code = l.split("//").next().unwrap_or_default();
                code.contains("unsafe {")
                    || code.contains("unsafe fn")
                    || code.contains("allow(unsafe_code")
            });
            assert!(!has, "unsafe code in {}", path.display());
        }
    }
}

#[test]
fn the_parser_knows_no_files_and_the_plan_no_dockerfile() {
    for (path, text) in texts("parser") {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in ["std::fs", "std::net", "std::env", "std::process", "tokio"] {
            assert!(!code.contains(word), "{word} in {}", path.display());
        }
    }
    for (path, text) in texts("solver") {
        if !path.components().any(|c| c.as_os_str() == "lower") && !path.ends_with("tests.rs") {
            assert!(
                !text.contains("kiln_parser"),
                "kiln_parser in {}",
                path.display()
            );
        }
    }
}

#[test]
fn only_the_command_line_prints_reads_the_environment_and_exits() {
    for name in [
        "parser", "image", "sys", "solver", "registry", "cache", "runtime", "executor",
    ] {
        for (path, text) in texts(name) {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            if path.ends_with("tests.rs") || path.components().any(|c| c.as_os_str() == "tests") {
                continue;
            }
            for word in ["println!", "eprintln!", "std::env::var", "process::exit("] {
                assert!(!code.contains(word), "{word} in {}", path.display());
            }
        }
    }
}
