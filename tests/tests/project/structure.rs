//! The shape of the project itself: who may depend on whom, and where unsafe code may be.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folder, and the folders that it depends on. Any other edge is an error.
pub(crate) const EDGES: &[(&str, &[&str])] = &[
    ("parser", &[]),
    ("image", &["sys"]),
    ("sys", &[]),
    ("solver", &["parser", "image"]),
    ("registry", &["image"]),
    ("cache", &["image", "solver", "sys"]),
    ("remote", &["cache", "image", "registry", "solver", "sys"]),
    ("sandbox", &["image", "sys"]),
    ("runtime", &["cache", "image", "sandbox", "sys"]),
    (
        "executor",
        &[
            "solver", "cache", "image", "registry", "remote", "sandbox", "sys",
        ],
    ),
    (
        "engine",
        &[
            "parser", "image", "sys", "solver", "registry", "cache", "remote", "sandbox",
            "runtime", "executor",
        ],
    ),
    ("cli", &["engine", "parser"]),
    ("testkit", &["image", "registry"]),
    ("tests", &["parser", "testkit"]),
    ("xtask", &["tests"]),
];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    rust_files(&root().join(folder).join("src"), &mut files);
    files
        .into_iter()
        .map(|p| (p.clone(), std::fs::read_to_string(p).unwrap()))
        .collect()
}

#[test]
fn crates_depend_only_on_those_that_the_table_allows() {
    let metadata = metadata();
    for (folder, allowed) in EDGES {
        let name = format!("kiln-{folder}");
        let package = metadata["packages"]
            .as_array()
            .unwrap()
            .iter()
            .find(|p| p["name"] == name.as_str())
            .unwrap_or_else(|| panic!("no package {name}"));
        let found: BTreeSet<&str> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            // What tests use is not part of the crate.
            .filter(|d| d["kind"].is_null())
            .filter_map(|d| d["name"].as_str()?.strip_prefix("kiln-"))
            .collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        let extra: Vec<_> = found.difference(&allowed).collect();
        assert!(extra.is_empty(), "{folder}/ must not depend on {extra:?}");
        let unused: Vec<_> = allowed.difference(&found).collect();
        assert!(unused.is_empty(), "{folder}/ does without {unused:?}");
    }
}

#[test]
fn the_table_names_every_package() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let folder = package["name"]
            .as_str()
            .unwrap()
            .strip_prefix("kiln-")
            .unwrap();
        let known = EDGES.iter().any(|(f, _)| *f == folder);
        assert!(known, "add {folder}/ to the table of dependencies");
    }
}

#[test]
fn unsafe_code_is_in_sys_alone_and_each_block_has_its_reason() {
    for (folder, _) in EDGES {
        for (path, text) in sources(folder) {
            let lines: Vec<&str> = text.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                let code = line.split("//").next().unwrap();
                if !code.contains("unsafe {") && !code.contains("unsafe fn") {
                    continue;
                }
                assert_eq!(
                    *folder,
                    "sys",
                    "{}:{}: unsafe code outside sys/",
                    path.display(),
                    at + 1
                );
                let reason = lines[at.saturating_sub(6)..=at]
                    .iter()
                    .any(|l| l.contains("SAFETY:"));
                assert!(reason, "{}:{}: no SAFETY comment", path.display(), at + 1);
            }
        }
    }
}

#[test]
fn only_lowering_and_checks_know_the_parser_inside_the_solver() {
    for (path, text) in sources("solver") {
        let path_text = path.to_string_lossy();
        if !path_text.contains("/lower/") && !path_text.contains("/lint/") {
            assert!(
                !text.contains("kiln_parser"),
                "{} uses the parser",
                path.display()
            );
        }
    }
}

/// They know what the solver and they tell each other: keys, events, inputs of explanations.
#[test]
fn the_store_and_the_remote_caches_do_not_know_the_ports() {
    for folder in ["cache", "remote"] {
        for (path, text) in sources(folder) {
            assert!(
                !text.contains("kiln_solver::ports"),
                "{} uses a port",
                path.display()
            );
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (folder, _) in EDGES {
        for (path, text) in sources(folder) {
            let test_module =
                path.ends_with("tests.rs") || path.to_string_lossy().contains("/tests/");
            assert!(
                test_module || text.starts_with("//!"),
                "{} has no module text",
                path.display()
            );
        }
    }
}

#[test]
fn only_the_store_opens_the_database_and_only_the_registry_client_a_connection_to_a_registry() {
    for (folder, _) in EDGES {
        for (path, text) in sources(folder) {
            let shown = path.display();
            assert!(
                *folder == "cache" || !text.contains("rusqlite::"),
                "{shown} uses the database"
            );
            assert!(
                ["registry", "executor", "testkit"].contains(folder) || !text.contains("reqwest::"),
                "{shown} opens connections"
            );
        }
    }
}

#[test]
fn trees_of_others_are_only_reached_through_the_root_type() {
    // Where trees of images, contexts and layers are read and written.
    let guarded = [
        "executor/src/file",
        "cache/src/unpack",
        "cache/src/pack",
        "cache/src/fingerprint/tree.rs",
    ];
    for path in guarded {
        let path = root().join(path);
        assert!(path.exists(), "{}", path.display());
    }
    for (folder, _) in EDGES {
        for (path, text) in sources(folder) {
            let shown = path.strip_prefix(root()).unwrap().display().to_string();
            let is_test = shown.ends_with("/tests.rs");
            if is_test || !guarded.iter().any(|g| shown.starts_with(g)) {
                continue;
            }
            let code = text.split("#[cfg(test)]").next().unwrap();
            for (at, line) in code.lines().enumerate() {
                let after = line.split("std::fs::").nth(1);
                let function = after.is_some_and(|a| a.starts_with(|c: char| c.is_lowercase()));
                let call = function || line.contains("File::open") || line.contains("File::create");
                // Work directories of the store are kiln's own.
                let own = line.contains("create_dir(&work)");
                assert!(!call || own, "{shown}:{}: {line}", at + 1);
            }
        }
    }
}

/// Methods of a port at most: who carries one out need not carry all out.
const MOST_METHODS: usize = 8;

/// The traits of a file, and how many methods each of them has.
fn traits(text: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let mut of = None;
    for line in text.lines() {
        if let Some(after) = line.strip_prefix("pub trait ") {
            let is_name = |c: &char| c.is_alphanumeric() || *c == '_';
            let name: String = after.chars().take_while(is_name).collect();
            found.insert(name.clone(), 0);
            of = Some(name);
        } else if line.starts_with('}') {
            of = None;
        } else if let Some(name) = &of
            && ["    fn ", "    async fn "]
                .iter()
                .any(|f| line.starts_with(f))
        {
            *found.entry(name.clone()).or_default() += 1;
        }
    }
    found
}

#[test]
fn ports_are_small() {
    let text = std::fs::read_to_string(root().join("solver/src/ports.rs")).unwrap();
    let traits = traits(&text);
    assert!(traits["Results"] > 0, "{traits:?}");
    for (name, methods) in &traits {
        assert!(
            *methods <= MOST_METHODS,
            "{name} has {methods} methods, and {MOST_METHODS} are enough"
        );
    }
}

/// What each part of the executor needs is given to it; one type puts them together and is the worker.
#[test]
fn one_file_carries_out_the_ports() {
    let ports = ["WorkerTypes", "Sources", "Fingerprints", "Results", "Steps"];
    let is_port = |line: &str| {
        let of = line
            .strip_prefix("impl ")
            .and_then(|l| l.split_once(" for "));
        of.is_some_and(|(name, _)| ports.contains(&name))
    };
    let (mut carried_out, mut whole) = (BTreeSet::new(), BTreeSet::new());
    for (path, text) in sources("executor") {
        if text.lines().any(is_port) {
            carried_out.insert(path.clone());
        }
        if text.lines().any(|line| line == "impl Worker {") {
            whole.insert(path);
        }
    }
    assert_eq!(carried_out.len(), 1, "{carried_out:#?}");
    assert!(whole.len() <= 3, "{whole:#?}");
}

/// Files that may add methods to the store itself; what is apart has a type of its own, such as
/// `Maintenance`.
const MOST_FILES_OF_STORE: usize = 12;

#[test]
fn the_store_has_parts() {
    let of_store = |text: &str| text.lines().any(|line| line == "impl Store {");
    let files: Vec<PathBuf> = sources("cache")
        .into_iter()
        .filter(|(_, text)| of_store(text))
        .map(|(path, _)| path)
        .collect();
    assert!(files.len() <= MOST_FILES_OF_STORE, "{files:#?}");
}

/// Names of types that modules of one kind share: the arguments of each command.
const SHARED_NAMES: &[&str] = &["Args"];

#[test]
fn the_name_of_a_type_is_used_once_in_a_crate() {
    let declared = |line: &str| -> Option<String> {
        let line = line.trim_start();
        let line = match line.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
            Some(rest) => rest.trim_start(),
            None => line,
        };
        let kinds = ["struct ", "enum ", "trait ", "union "];
        let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
        let name: String = rest
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        // A macro's `$name` is no name yet.
        (!name.is_empty() && !SHARED_NAMES.contains(&name.as_str())).then_some(name)
    };
    assert_eq!(
        declared("pub(in crate::a) struct Name<'a> {"),
        Some("Name".into())
    );
    assert_eq!(declared("    enum Name {"), Some("Name".into()));
    assert_eq!(declared("pub struct Name(u32);"), Some("Name".into()));
    let chores = ["tests", "xtask"];
    for (folder, _) in EDGES.iter().filter(|(f, _)| !chores.contains(f)) {
        let mut places: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for (path, text) in sources(folder) {
            let of_tests = path.components().any(|part| part.as_os_str() == "tests")
                || path.ends_with("tests.rs");
            if of_tests {
                continue;
            }
            for name in code_of(&text).lines().filter_map(declared) {
                places.entry(name).or_default().push(path.clone());
            }
        }
        places.retain(|_, files| files.len() > 1);
        assert!(places.is_empty(), "{folder}: {places:#?}");
    }
}

/// Crates whose modules use each other in one direction only.
const WITHOUT_CIRCLES: &[&str] = &[
    "parser", "image", "sys", "solver", "registry", "cache", "remote", "sandbox", "executor",
    "runtime", "engine", "testkit",
];

/// Code without comments and without the tests at its end.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines().map(|l| l.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The names that follow a path: one, or those of a list in braces.
fn names_of(after: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = |text: &str| -> String { text.chars().take_while(|c| is_name(*c)).collect() };
    let Some(list) = after.strip_prefix('{') else {
        return vec![name(after)];
    };
    let (mut depth, mut names, mut item) = (0, Vec::new(), String::new());
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => names.push(name(std::mem::take(&mut item).trim())),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                item.push(c);
            }
        }
    }
    names.push(name(item.trim()));
    names
}

/// What a crate's root takes of its modules, by name.
fn taken_by_root(root: &str) -> BTreeMap<String, String> {
    let mut taken = BTreeMap::new();
    for line in code_of(root).split("use ").skip(1) {
        let Some((module, after)) = line.split_once("::") else {
            continue;
        };
        for name in names_of(after) {
            taken.insert(name, module.to_owned());
        }
    }
    taken
}

/// The modules right below the crate that a text uses, from so many modules below its root. `taken` is
/// what the root takes of its modules.
fn uses(text: &str, depth: usize, taken: &BTreeMap<String, String>) -> BTreeSet<String> {
    let code = code_of(text);
    let mut found = BTreeSet::new();
    let mut add = |after: &str| {
        for name in names_of(after) {
            // What the root has itself are types and functions, and no module is named like these.
            found.insert(taken.get(&name).cloned().unwrap_or(name));
        }
    };
    code.split("crate::").skip(1).for_each(&mut add);
    let up = "super::".repeat(depth);
    for (at, _) in code.match_indices(&up) {
        let is_whole = !code[..at].ends_with("super::");
        let after = &code[at + up.len()..];
        if is_whole && !after.starts_with("super::") {
            add(after);
        }
    }
    found
}

#[test]
fn uses_are_found_however_they_are_written() {
    let taken = taken_by_root("pub use error::{Error, Result};\nuse spec::Spec;\n");
    let text = "use crate::{a::{self, X}, Spec};\nuse super::super::b::Y;\nuse super::c;\nfn f() -> crate::Error {}";
    let found: Vec<String> = uses(text, 2, &taken).into_iter().collect();
    assert_eq!(found, ["a", "b", "error", "spec"]);
    let found: Vec<String> = uses(text, 1, &taken).into_iter().collect();
    assert_eq!(found, ["a", "c", "error", "spec"]);
}

#[test]
fn modules_use_each_other_in_one_direction() {
    for folder in WITHOUT_CIRCLES {
        let src = root().join(folder).join("src");
        let taken = taken_by_root(&std::fs::read_to_string(src.join("lib.rs")).unwrap());
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, text) in sources(folder) {
            let below = path
                .strip_prefix(&src)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let is_test = below.ends_with("tests.rs") || below.contains("/tests/");
            let module = below.split('/').next().unwrap().trim_end_matches(".rs");
            if is_test || ["lib", "testing"].contains(&module) {
                continue;
            }
            let folders = below.matches('/').count();
            let depth = folders + usize::from(!below.ends_with("/mod.rs"));
            let mut uses = uses(&text, depth, &taken);
            uses.remove(module);
            edges
                .entry(module.to_owned())
                .or_default()
                .append(&mut uses);
        }
        // What uses nothing that is left is in no circle.
        loop {
            let left: BTreeSet<String> = edges.keys().cloned().collect();
            edges.retain(|_, uses| uses.iter().any(|used| left.contains(used)));
            if edges.len() == left.len() {
                break;
            }
        }
        // Nor is what nothing uses that is left.
        loop {
            let used: BTreeSet<String> = edges.values().flatten().cloned().collect();
            let before = edges.len();
            edges.retain(|module, _| used.contains(module));
            if edges.len() == before {
                break;
            }
        }
        assert!(edges.is_empty(), "{folder}: a circle of {edges:#?}");
    }
}

/// Settings come as values; the HTTP clients read the proxies' variables themselves.
#[test]
fn only_the_command_line_reads_the_environment() {
    for (folder, _) in EDGES
        .iter()
        .filter(|(folder, _)| !["cli", "testkit", "tests", "xtask"].contains(folder))
    {
        for (path, text) in sources(folder) {
            let is_test = path.ends_with("tests.rs") || path.to_string_lossy().contains("/tests/");
            let code = text.split("#[cfg(test)]").next().unwrap();
            for call in ["env::var", "env::vars", "from_env()"] {
                assert!(
                    is_test || !code.contains(call),
                    "{}: {call}",
                    path.display()
                );
            }
        }
    }
}
