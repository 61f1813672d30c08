//! Pages name folders, files and tests that are there.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::structure::{EDGES, root};

/// Folders of the project that are no packages of its workspace.
const OTHER_FOLDERS: &[&str] = &["fuzz", "testdata", "docs", "findings"];

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// Spans of code, which have no line ends.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn pages_name_files_that_are_there() {
    let mut pages = vec![
        root().join("ARCHITECTURE.md"),
        root().join("CONTRIBUTING.md"),
    ];
    for folder in ["docs", "docs/design"] {
        let entries = std::fs::read_dir(root().join(folder)).unwrap();
        pages.extend(entries.map(|entry| entry.unwrap().path()));
    }
    let packages = EDGES.iter().map(|(folder, _)| *folder);
    let folders: BTreeSet<&str> = packages.chain(OTHER_FOLDERS.iter().copied()).collect();
    for folder in &folders {
        assert!(root().join(folder).is_dir(), "{folder}");
    }
    let mut seen = 0;
    for page in pages
        .iter()
        .filter(|p| p.extension().is_some_and(|e| e == "md"))
    {
        let text = std::fs::read_to_string(page).unwrap();
        for word in spans(&text) {
            let first = word.split('/').next().unwrap();
            // What is made by a run, and what stands for any name.
            let is_other =
                word.contains("NAME") || word.contains("TARGET") || word.contains("artifacts");
            let is_path = folders.contains(first)
                && (word.contains("/src/") || word.ends_with(".rs") || word.ends_with(".md"));
            if !is_path || is_other || word.contains(char::is_whitespace) || word.contains('*') {
                continue;
            }
            seen += 1;
            assert!(root().join(word).exists(), "{}: `{word}`", page.display());
        }
    }
    assert!(seen > 50, "only {seen} paths were found in the pages");
}

/// The pages in a folder and below it.
fn pages_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages_below(&path, found);
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
}

/// Where the links of a text lead, without the places in pages.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|after| after.split(')').next());
    targets.filter_map(|target| target.split('#').next())
}

#[test]
fn links_lead_to_files_that_are_there() {
    let names = [
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "README.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ];
    let mut pages: Vec<PathBuf> = names.iter().map(|name| root().join(name)).collect();
    pages_below(&root().join("docs"), &mut pages);
    let mut seen = 0;
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        for link in links(&text).filter(|link| !link.contains("://")) {
            seen += 1;
            let target = page.parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link}", page.display());
        }
    }
    assert!(seen > 100, "only {seen} links were found in the pages");
}

/// The table of the code map: a folder, and those that it may depend on.
fn code_map() -> BTreeMap<String, BTreeSet<String>> {
    let page = page("ARCHITECTURE.md");
    let (_, section) = page.split_once("\n## Code map\n").unwrap();
    let lines = section.lines().skip_while(|line| !line.starts_with("|---"));
    let mut map: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in lines.skip(1).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        // A name may have a remark behind it, in parentheses and without a comma.
        let names = cells[2]
            .split(',')
            .filter_map(|s| s.split_whitespace().next());
        let uses = match cells[2] {
            "–" => BTreeSet::new(),
            "all of the above" => map.keys().cloned().collect(),
            _ => names.map(str::to_owned).collect(),
        };
        map.insert(cells[1].trim_matches('`').to_owned(), uses);
    }
    map
}

#[test]
fn the_code_map_has_the_dependencies_that_there_are() {
    let edges = EDGES.iter().map(|(folder, uses)| {
        let uses = uses.iter().map(|used| (*used).to_owned());
        ((*folder).to_owned(), uses.collect::<BTreeSet<String>>())
    });
    assert_eq!(code_map(), edges.collect::<BTreeMap<_, _>>());
}

/// The code spans in the last column of the tables of a page.
pub(crate) fn last_cells(page: &str) -> Vec<String> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit(" | ").next());
    cells.flat_map(spans).map(str::to_owned).collect()
}

/// Whether a file, or one somewhere in a folder, defines this function.
fn defines(path: &Path, function: &str) -> bool {
    if path.is_dir() {
        let mut entries = std::fs::read_dir(path).unwrap();
        return entries.any(|entry| {
            let path = entry.unwrap().path();
            let is_code = path.is_dir() || path.extension().is_some_and(|e| e == "rs");
            is_code && defines(&path, function)
        });
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.contains(&format!("fn {function}("))
}

/// Whether there is a test `PLACE: NAME`: that of a crate, or `file::name` or a file of the end to end tests.
fn is_test(name: &str) -> bool {
    let Some((place, name)) = name.split_once(": ") else {
        return false;
    };
    let file_of = |module: &str| -> PathBuf {
        let file = format!("tests/tests/{place}/{module}.rs");
        root().join(file)
    };
    match name.split_once("::") {
        Some((module, function)) => defines(&file_of(module), function),
        None if file_of(name).is_file() => true,
        None => {
            let is_crate = EDGES.iter().any(|(folder, _)| *folder == place);
            is_crate && defines(&root().join(place).join("src"), name)
        }
    }
}

#[test]
fn every_guard_has_the_test_that_its_page_names() {
    let tests = last_cells(&page("docs/security.md"));
    assert!(tests.len() > 40, "the tables were not read: {tests:?}");
    let missing: Vec<&String> = tests.iter().filter(|name| !is_test(name)).collect();
    assert!(missing.is_empty(), "not there: {missing:#?}");
}

#[test]
fn every_bound_has_the_test_that_its_page_names() {
    let tests = last_cells(&page("docs/design/bounds.md"));
    assert!(tests.len() > 10, "the table was not read: {tests:?}");
    let is_there = |name: &&String| {
        EDGES
            .iter()
            .any(|(folder, _)| defines(&root().join(folder), name))
    };
    let missing: Vec<&String> = tests.iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "not there: {missing:#?}");
}

#[test]
fn tests_that_are_not_there_are_missed() {
    assert!(is_test("security: terminal"));
    assert!(is_test(
        "security: network::packets_of_the_hosts_network_are_out_of_reach"
    ));
    assert!(is_test("sys: a_tree_of_any_depth_is_removed"));
    for name in [
        "security: nothing",
        "security: network::nothing",
        "security: nothing::packets_of_the_hosts_network_are_out_of_reach",
        "sys: text_of_others_moves_nothing",
        "a_tree_of_any_depth_is_removed",
    ] {
        assert!(!is_test(name), "{name}");
    }
}
