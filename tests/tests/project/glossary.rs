//! docs/glossary.md names types and files that exist.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::path::Path;

use crate::pages::last_cells;
use crate::structure::root;

/// Whether a file below `dir` defines a type of this name.
fn defines(dir: &Path, name: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return defines(&path, name);
        }
        path.extension().is_some_and(|e| e == "rs")
            && std::fs::read_to_string(&path)
                .unwrap()
                .lines()
                .any(|line| is_definition(line, name))
    })
}

/// Whether a line begins the definition of a type, or names it in a macro that defines it.
fn is_definition(line: &str, name: &str) -> bool {
    let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    let words: Vec<&str> = words.filter(|w| !w.is_empty()).collect();
    let kinds = ["struct", "enum", "trait"];
    words
        .windows(2)
        .any(|w| kinds.contains(&w[0]) && w[1] == name)
        || line.trim() == name
}

#[test]
fn the_glossary_names_what_exists() {
    let places = last_cells(&std::fs::read_to_string(root().join("docs/glossary.md")).unwrap());
    assert!(places.len() > 50, "the tables were not read: {places:?}");
    let missing: Vec<&String> = places
        .iter()
        .filter(|place| match place.split_once("::") {
            Some((folder, name)) => !defines(&root().join(folder).join("src"), name),
            None => !root().join(place).exists(),
        })
        .collect();
    assert!(missing.is_empty(), "not there: {missing:?}");
}

#[test]
fn definitions_are_told_from_uses() {
    for line in [
        "pub struct Key(pub [u8; 32]);",
        "enum Key {",
        "pub(crate) trait Key: Send {",
        "    Key",
    ] {
        assert!(is_definition(line, "Key"), "{line}");
    }
    for line in [
        "let key = Key::new();",
        "pub struct KeyRing;",
        "use key::Key;",
        "struct Ring(Key);",
    ] {
        assert!(!is_definition(line, "Key"), "{line}");
    }
}
