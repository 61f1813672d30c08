//! What a layer removes and brings. Two bytes make an entry: what it is, and its path.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kiln_cache::{UnpackOptions, unpack};
use kiln_image::layer::{Entry, EntryKind, LayerWriter};
use kiln_sys::RootDir;

const NAMES: [&str; 3] = ["a", "b", "c"];
const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// An entry that hides all that is below.
const HIDES_ALL: u8 = 255;

/// Paths, and whether there is a directory.
type Tree = BTreeMap<String, bool>;

/// Checks that a layer in overlay's form, on top of a full tree, shows what the rules for layers say:
/// removals are about what is below, in whatever order they come.
pub(crate) fn check(data: &[u8]) {
    let mut tar = LayerWriter::new(Vec::new());
    let mut entries = Vec::new();
    for two in data.as_chunks::<2>().0.iter().take(40) {
        let entry = match two[0] {
            HIDES_ALL => Entry::new("", EntryKind::Opaque, 0),
            byte => Entry::new(path(two[1]), kind(byte), 0o755),
        };
        if tar.append(&entry, &mut std::io::empty()).is_ok() {
            entries.push(entry);
        }
    }
    let tar = tar.finish().unwrap_or_else(|e| panic!("{e}"));
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let root = RootDir::open_trusted(dir.path()).unwrap_or_else(|e| panic!("{e}"));
    let options = UnpackOptions {
        whiteouts: true,
        ..UnpackOptions::default()
    };
    let unpacked = unpack(tar.as_slice(), &root, &options);
    let Some(expected) = model(&entries) else {
        assert!(unpacked.is_err(), "a file has something in it");
        return;
    };
    unpacked.unwrap_or_else(|e| panic!("{e}"));
    let mut shown = Tree::new();
    let hides_all = root.xattr(Path::new(""), OPAQUE);
    let hides_all = hides_all.unwrap_or_else(|e| panic!("{e}")).is_some();
    merged(&root, "", !hides_all, &mut shown);
    assert_eq!(shown, expected, "{entries:?}");
}

fn path(byte: u8) -> String {
    let (depth, mut rest) = (1 + byte % 3, usize::from(byte / 3));
    let mut names = Vec::new();
    for _ in 0..depth {
        names.push(NAMES[rest % 3]);
        rest /= 3;
    }
    names.join("/")
}

fn kind(byte: u8) -> EntryKind {
    match byte % 4 {
        0 => EntryKind::Directory,
        1 => EntryKind::File { size: 0 },
        2 => EntryKind::Whiteout,
        _ => EntryKind::Opaque,
    }
}

/// The tree below: three names in each directory, and files in the third level.
fn below() -> Vec<(String, bool)> {
    let mut all = Vec::new();
    for a in NAMES {
        all.push((a.to_owned(), true));
        for b in NAMES {
            all.push((format!("{a}/{b}"), true));
            for c in NAMES {
                all.push((format!("{a}/{b}/{c}"), false));
            }
        }
    }
    all
}

/// The path and all above it, the topmost first.
fn ways(path: &str) -> impl Iterator<Item = &str> {
    let cuts = path.match_indices('/').map(|(at, _)| at);
    cuts.chain([path.len()]).map(|at| &path[..at])
}

fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// What is seen, by the words of the specification; none for a layer that contradicts itself.
fn model(entries: &[Entry]) -> Option<Tree> {
    let mut own: BTreeMap<String, bool> = BTreeMap::new();
    let (mut gone, mut opaque) = (BTreeSet::new(), BTreeSet::new());
    // A file in the layer takes the place of what is below, also where it gives way to a directory.
    let mut replaced = BTreeSet::new();
    for entry in entries {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        match entry.kind {
            EntryKind::Whiteout => drop(gone.insert(path)),
            EntryKind::Opaque => drop(opaque.insert(path)),
            _ => {
                let is_dir = entry.kind == EntryKind::Directory;
                let above: Vec<String> = ways(&path).map(str::to_owned).collect();
                for way in &above[..above.len() - 1] {
                    if own.get(way) == Some(&false) {
                        return None;
                    }
                    own.insert(way.clone(), true);
                }
                if !is_dir {
                    own.retain(|other, _| !is_below(other, &path));
                    replaced.insert(path.clone());
                }
                own.insert(path, is_dir);
            }
        }
    }
    let mut shown = Tree::new();
    let hides_all = opaque.remove("");
    let below = below().into_iter().filter(|_| !hides_all);
    for (path, is_dir) in below {
        let is_hidden = ways(&path).any(|way| {
            gone.contains(way) || replaced.contains(way) || (way != path && opaque.contains(way))
        });
        if !is_hidden {
            shown.insert(path, is_dir);
        }
    }
    // A directory that is opaque is one, unless what it is about is hidden by something else.
    for path in &opaque {
        let is_hidden = ways(path).any(|way| {
            gone.contains(way) || replaced.contains(way) || (way != path && opaque.contains(way))
        });
        if !is_hidden && !hides_all {
            shown.insert(path.clone(), true);
        }
    }
    shown.extend(own);
    Some(shown)
}

/// What an overlay of the layer and the tree below shows.
fn merged(dir: &RootDir, at: &str, is_merged: bool, shown: &mut Tree) {
    let join = |name: &str| {
        if at.is_empty() {
            name.to_owned()
        } else {
            format!("{at}/{name}")
        }
    };
    let mut own = BTreeSet::new();
    for entry in dir
        .read_dir(Path::new(""))
        .unwrap_or_else(|e| panic!("{e}"))
    {
        let name = entry.name.to_string_lossy().into_owned();
        let (path, at) = (join(&name), Path::new(&name));
        own.insert(path.clone());
        let st = dir.lstat(at).unwrap_or_else(|e| panic!("{e}"));
        if st.is_overlay_whiteout() {
            assert!(is_merged, "a mark at {path}, where nothing is below");
            continue;
        }
        shown.insert(path.clone(), st.is_dir());
        if st.is_dir() {
            let sub = dir.sub_dir(at).unwrap_or_else(|e| panic!("{e}"));
            let marked = sub.xattr(Path::new(""), OPAQUE);
            let is_opaque = marked.unwrap_or_else(|e| panic!("{e}")).is_some();
            let has_below = below().contains(&(path.clone(), true));
            merged(&sub, &path, is_merged && !is_opaque && has_below, shown);
        }
    }
    if !is_merged {
        return;
    }
    for (path, is_dir) in below() {
        let top = ways(&path).find(|way| is_in(way, at));
        if let Some(top) = top
            && !own.contains(top)
        {
            shown.insert(path, is_dir);
        }
    }
}

/// Whether a path is a name in this directory.
fn is_in(path: &str, dir: &str) -> bool {
    path.rsplit_once('/').map_or("", |(above, _)| above) == dir
}
