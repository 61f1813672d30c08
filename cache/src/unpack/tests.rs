//! Archives in, directories out: what was packed comes back, and hostile archives stay inside.

mod layers;

use std::path::Path;

use kiln_image::layer::LayerWriter;
use kiln_image::{Entry, EntryKind, Timestamp};
use kiln_sys::RootDir;
use proptest::prelude::*;

use super::*;
use crate::pack::pack;

fn tar(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    for (entry, data) in entries {
        writer.append(entry, &mut data.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

fn file(path: &str, data: &str) -> (Entry, Vec<u8>) {
    let kind = EntryKind::File {
        size: data.len() as u64,
    };
    (Entry::new(path, kind, 0o644), data.as_bytes().to_vec())
}

fn entry(path: &str, kind: EntryKind) -> (Entry, Vec<u8>) {
    (Entry::new(path, kind, 0o755), vec![])
}

fn symlink(path: &str, target: &str) -> (Entry, Vec<u8>) {
    entry(
        path,
        EntryKind::Symlink {
            target: target.into(),
        },
    )
}

fn hardlink(path: &str, target: &str) -> (Entry, Vec<u8>) {
    entry(
        path,
        EntryKind::Hardlink {
            target: target.into(),
        },
    )
}

/// A canary beside the target directory.
struct Place {
    dir: tempfile::TempDir,
    root: RootDir,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("canary"), "untouched").unwrap();
    std::fs::create_dir(dir.path().join("root")).unwrap();
    let root = RootDir::open_trusted(&dir.path().join("root")).unwrap();
    Place { dir, root }
}

impl Place {
    fn canary_is_untouched(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let path = self.dir.path().join("canary");
        let meta = std::fs::metadata(&path).unwrap();
        std::fs::read(&path).unwrap() == b"untouched"
            && meta.nlink() == 1
            && meta.mode() & 0o7777 == 0o644
    }
}

const LAYER: fn() -> UnpackOptions<'static> = || UnpackOptions {
    whiteouts: true,
    ..UnpackOptions::default()
};
const PLAIN: fn() -> UnpackOptions<'static> = || UnpackOptions {
    into_tree: true,
    ..UnpackOptions::default()
};

#[test]
fn hostile_archives_change_nothing_outside() {
    let device = EntryKind::CharDevice { major: 0, minor: 0 };
    type Archive = Vec<(Entry, Vec<u8>)>;
    let cases: &[(&str, Archive)] = &[
        (
            "file through an absolute link",
            vec![symlink("l", "/"), file("l/canary", "x")],
        ),
        (
            "file through a link up",
            vec![symlink("l", ".."), file("l/canary", "x")],
        ),
        (
            "file over a link",
            vec![symlink("l", "../canary"), file("l", "x")],
        ),
        (
            "directory over a link",
            vec![symlink("l", "../canary"), entry("l", EntryKind::Directory)],
        ),
        (
            "hard link to a link",
            vec![
                symlink("l", "../canary"),
                hardlink("h", "l"),
                file("h", "x"),
            ],
        ),
        (
            "hard link out",
            vec![symlink("d", ".."), hardlink("h", "d/canary")],
        ),
        (
            "whiteout through a link",
            vec![symlink("l", ".."), entry("l/canary", EntryKind::Whiteout)],
        ),
        ("overlay's mark as a device", vec![entry("d", device)]),
        ("hard link to nothing", vec![hardlink("h", "nothing")]),
        (
            "hard link to a directory",
            vec![entry("d", EntryKind::Directory), hardlink("h", "d")],
        ),
    ];
    for (what, entries) in cases {
        for options in [LAYER(), PLAIN()] {
            let place = place();
            // An error is as good as a result: only the outside counts.
            let _ = unpack(tar(entries).as_slice(), &place.root, &options);
            assert!(place.canary_is_untouched(), "{what}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_plain_archive_follows_links_of_the_tree_inside_it() {
    let place = place();
    place.root.mkdir(Path::new("usr"), 0o755).unwrap();
    place
        .root
        .symlink("/usr".as_ref(), Path::new("lib"))
        .unwrap();
    unpack(tar(&[file("lib/x", "1")]).as_slice(), &place.root, &PLAIN()).unwrap();
    assert_eq!(place.root.read(Path::new("usr/x"), 10).unwrap(), b"1");
}

#[test]
#[ignore = "needs root"]
fn a_hard_link_into_the_layer_below_becomes_a_copy() {
    let (below, place) = (place(), place());
    unpack(tar(&[file("f", "below")]).as_slice(), &below.root, &LAYER()).unwrap();
    let options = UnpackOptions {
        below: vec![&below.root],
        ..LAYER()
    };
    unpack(tar(&[hardlink("h", "f")]).as_slice(), &place.root, &options).unwrap();
    assert_eq!(place.root.read(Path::new("h"), 10).unwrap(), b"below");
    assert_eq!(place.root.lstat(Path::new("h")).unwrap().nlink, 1);
}

#[test]
#[ignore = "needs root"]
fn a_file_that_comes_twice_is_the_second_one_with_all_its_names_whole() {
    for (first, second) in [(10, 20), (300 << 10, 20), (20, 300 << 10), (128 << 10, 0)] {
        let (old, new) = ("a".repeat(first), "b".repeat(second));
        let place = place();
        let entries = [file("f", &old), hardlink("g", "f"), file("f", &new)];
        unpack(&*tar(&entries), &place.root, &LAYER()).unwrap();
        let read = |name: &str| place.root.read(Path::new(name), 1 << 20).unwrap();
        assert_eq!(read("f"), new.as_bytes(), "{first} {second}");
        assert_eq!(read("g"), old.as_bytes(), "{first} {second}");
    }
}

#[test]
fn a_file_that_cannot_be_finished_is_an_error_however_many_follow() {
    for follow in [0, 1, 1000] {
        let place = place();
        let mut bad = file("bad", "x");
        // Longer than Linux takes.
        bad.0.xattrs = vec![(b"user.long".to_vec(), vec![7; 70_000])];
        let mut entries = vec![bad];
        entries.extend((0..follow).map(|n| file(&format!("f{n}"), "x")));
        let error = unpack(&*tar(&entries), &place.root, &LAYER()).unwrap_err();
        assert!(matches!(error, Error::System(_)), "{follow}: {error}");
    }
}

#[test]
#[ignore = "needs root"]
fn whiteouts_take_overlays_form_and_come_back() {
    let entries = [
        entry("d", EntryKind::Directory),
        entry("d", EntryKind::Opaque),
        file("d/new", "1"),
        entry("gone", EntryKind::Whiteout),
    ];
    let place = place();
    unpack(tar(&entries).as_slice(), &place.root, &LAYER()).unwrap();
    assert!(
        place
            .root
            .lstat(Path::new("gone"))
            .unwrap()
            .is_overlay_whiteout()
    );
    let opaque = place
        .root
        .xattr(Path::new("d"), b"trusted.overlay.opaque")
        .unwrap();
    assert_eq!(opaque.as_deref(), Some(&b"y"[..]));
    let mut again = Vec::new();
    pack(&place.dir.path().join("root"), None, &mut again).unwrap();
    let mut reader = kiln_image::layer::LayerReader::new(again.as_slice()).whiteouts(true);
    let mut seen = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        seen.push((
            String::from_utf8(entry.path.clone()).unwrap(),
            entry.is_removal(),
        ));
    }
    let want = [("d", false), ("d", true), ("d/new", false), ("gone", true)];
    assert_eq!(seen, want.map(|(p, r)| (p.to_owned(), r)));
}

/// Names and contents of a flat tree with directories one deep.
fn trees() -> impl Strategy<Value = Vec<(Entry, Vec<u8>)>> {
    let name = "[a-zA-Zäß0-9 ._-]{1,20}".prop_filter("names are plain", |n| {
        n != "." && n != ".." && !n.starts_with(".wh.")
    });
    let object = (
        0_u8..4,
        prop::collection::vec(any::<u8>(), 0..3000),
        0_u32..0o10000,
        (0_u32..70000, 0_u32..70000),
        0_i64..4_000_000_000,
        prop::collection::btree_map(
            "user\\.[a-z]{1,8}",
            prop::collection::vec(any::<u8>(), 1..40),
            0..3,
        ),
    );
    prop::collection::btree_map((prop::option::of("[d-f]"), name), object, 0..20).prop_map(|all| {
        let mut out: std::collections::BTreeMap<Vec<u8>, (Entry, Vec<u8>)> = Default::default();
        for ((dir, name), (kind, data, mode, (uid, gid), secs, xattrs)) in all {
            let mut path = String::new();
            if let Some(dir) = dir {
                // A directory by that name holds it, whatever else has the name.
                out.insert(dir.clone().into_bytes(), entry(&dir, EntryKind::Directory));
                path = format!("{dir}/");
            } else if ["d", "e", "f"].contains(&name.as_str()) {
                continue;
            }
            path.push_str(&name);
            let kind = match kind {
                0 => EntryKind::Directory,
                1 => EntryKind::Symlink {
                    target: format!("../{name}").into_bytes(),
                },
                2 => EntryKind::Fifo,
                _ => EntryKind::File {
                    size: data.len() as u64,
                },
            };
            let data = if matches!(kind, EntryKind::File { .. }) {
                data
            } else {
                vec![]
            };
            let link = matches!(kind, EntryKind::Symlink { .. });
            let takes_xattrs = matches!(kind, EntryKind::File { .. } | EntryKind::Directory);
            let mut entry = Entry::new(path.clone(), kind, if link { 0o777 } else { mode });
            (entry.uid, entry.gid, entry.mtime) = (uid, gid, Timestamp::from_secs(secs));
            if takes_xattrs {
                entry.xattrs = xattrs
                    .into_iter()
                    .map(|(k, v)| (k.into_bytes(), v))
                    .collect();
            }
            out.insert(path.into_bytes(), (entry, data));
        }
        // The order of a walk: a directory, what is in it, then its next neighbour.
        let mut list: Vec<_> = out.into_values().collect();
        list.sort_by(|(a, _), (b, _)| {
            let parts = |e: &Entry| -> Vec<Vec<u8>> {
                e.path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect()
            };
            parts(a).cmp(&parts(b))
        });
        list
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "needs root"]
    fn what_is_unpacked_packs_to_the_same_bytes(mut entries in trees(), hides_all in any::<bool>()) {
        let place = place();
        if hides_all {
            entries.insert(0, entry("", EntryKind::Opaque));
            entries[0].0.mode = 0;
        }
        let bytes = tar(&entries);
        let options = UnpackOptions { tree: true, ..LAYER() };
        let unpacked = unpack(bytes.as_slice(), &place.root, &options).unwrap();
        let mut again = Vec::new();
        let packed = pack(&place.dir.path().join("root"), None, &mut again).unwrap();
        prop_assert_eq!(unpacked.tree, Some(packed.tree));
        prop_assert!(again == bytes, "{} bytes became {}", bytes.len(), again.len());
        prop_assert_eq!(packed.diff_id.digest().clone(), kiln_image::Digest::of(&bytes));
        prop_assert_eq!(packed.tar_size, bytes.len() as u64);
    }

    #[test]
    fn a_digest_of_any_tar_is_that_of_its_directory(
        mut entries in trees(),
        changes in prop::collection::vec((0_u8..10, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4),
    ) {
        prop_assume!(!entries.is_empty());
        for (kind, at, other) in changes {
            let (at, other) = (at.index(entries.len()), other.index(entries.len()));
            let path = entries[other].0.path.clone();
            let more = |kind, mode| (Entry::new(path.clone(), kind, mode), vec![]);
            match kind {
                0 => entries.swap(at, other),
                1 => entries.push(entries[at].clone()),
                2 => entries.insert(at, more(EntryKind::Whiteout, 0)),
                3 => entries.insert(other + 1, more(EntryKind::Opaque, 0)),
                4 => entries.insert(at, (Entry::new("", EntryKind::Directory, 0o700), vec![])),
                5 => {
                    let link = EntryKind::Hardlink { target: path.clone() };
                    entries.push((Entry::new("zz", link, 0o644), vec![]));
                }
                6 => entries[at].0.xattrs.insert(0, (b"trusted.overlay.opaque".to_vec(), b"y".to_vec())),
                9 => entries.insert(at / 2, (Entry::new("", EntryKind::Opaque, 0), vec![])),
                7 => {
                    entries.remove(at);
                    if entries.is_empty() {
                        return Ok(());
                    }
                }
                _ => entries.insert(at, more(EntryKind::File { size: 0 }, 0o600)),
            }
        }
        let place = place();
        let options = UnpackOptions { tree: true, ..LAYER() };
        // Some of these tars contradict themselves, and some cannot be written.
        let mut writer = LayerWriter::new(Vec::new());
        for (entry, data) in &entries {
            prop_assume!(writer.append(entry, &mut data.as_slice()).is_ok());
        }
        let bytes = writer.finish().unwrap();
        if let Ok(Unpacked { tree: Some(tree), .. }) = unpack(bytes.as_slice(), &place.root, &options) {
            let packed = pack(&place.dir.path().join("root"), None, &mut std::io::sink()).unwrap();
            prop_assert_eq!(tree, packed.tree);
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn the_tree_digest_ignores_times_and_nothing_else(entries in trees(), at in any::<prop::sample::Index>()) {
        prop_assume!(!entries.is_empty());
        let digest = |entries: &[(Entry, Vec<u8>)]| {
            let place = place();
            unpack(tar(entries).as_slice(), &place.root, &LAYER()).unwrap();
            pack(&place.dir.path().join("root"), None, &mut std::io::sink()).unwrap().tree
        };
        let before = digest(&entries);
        let at = at.index(entries.len());
        let mut later = entries.clone();
        later[at].0.mtime = Timestamp::from_secs(77);
        prop_assert_eq!(digest(&later), before);
        let mut owned = entries.clone();
        owned[at].0.uid += 1;
        prop_assert_ne!(digest(&owned), before);
    }
}

/// What is kept open from entry to entry must not outlive what it stands for.
#[test]
#[ignore = "needs root"]
fn a_directory_that_was_replaced_is_not_written_to() {
    let dir = |path: &str| entry(path, EntryKind::Directory);
    let (old, new) = (file("a/b/c/old", "old"), file("a/b/c/new", "new"));
    type Entries = Vec<(Entry, Vec<u8>)>;
    let cases: Vec<(&str, Entries)> = vec![
        (
            "by a file and a directory",
            vec![file("a/b", "x"), dir("a/b")],
        ),
        ("by a link", vec![dir("z/c"), symlink("a/b", "../z")]),
        (
            "through a link",
            vec![symlink("l", "a"), file("l/b", "x"), dir("l/b")],
        ),
        (
            "by a hard link",
            vec![file("f", "x"), hardlink("a/b", "f"), dir("a/b")],
        ),
        ("above", vec![file("a", "x"), dir("a"), dir("a/b/c")]),
    ];
    for (how, between) in cases {
        for into_tree in [false, true] {
            let place = place();
            let mut all = vec![old.clone()];
            all.extend(between.clone());
            all.push(new.clone());
            let options = UnpackOptions {
                into_tree,
                ..UnpackOptions::default()
            };
            unpack(tar(&all).as_slice(), &place.root, &options).expect(how);
            let read = |path: &str| place.root.read(Path::new(path), 10).ok();
            assert_eq!(
                read("a/b/c/new").as_deref(),
                Some(b"new".as_slice()),
                "{how}"
            );
            assert_eq!(read("a/b/c/old"), None, "{how}");
        }
    }
}

/// With a walk from the root for each directory on the way of each entry this takes minutes.
#[test]
#[ignore = "needs root"]
fn a_deep_tree_is_unpacked() {
    let levels = 1500;
    let paths = (1..=levels).map(|depth| vec!["d"; depth].join("/"));
    let mut all: Vec<(Entry, Vec<u8>)> = paths.map(|p| entry(&p, EntryKind::Directory)).collect();
    let deepest = vec!["d"; levels].join("/");
    all.push(file(&format!("{deepest}/f"), "x"));
    all.push(file(&format!("d/{}", "e/".repeat(levels) + "f"), "y"));
    for into_tree in [false, true] {
        let place = place();
        let options = UnpackOptions {
            into_tree,
            ..UnpackOptions::default()
        };
        unpack(tar(&all).as_slice(), &place.root, &options).unwrap();
        let read = place.root.read(Path::new(&format!("{deepest}/f")), 10);
        assert_eq!(read.unwrap(), b"x");
    }
}

/// A link on the way may be replaced through itself, by an entry that lies behind it.
#[test]
#[ignore = "needs root"]
fn a_link_that_was_replaced_leads_nowhere() {
    let place = place();
    let all = [
        entry("a", EntryKind::Directory),
        symlink("a/l", "."),
        file("a/l/one", "1"),
        file("a/l/l", "no link any more"),
        file("a/l/two", "2"),
    ];
    let options = UnpackOptions {
        into_tree: true,
        ..UnpackOptions::default()
    };
    assert!(unpack(tar(&all).as_slice(), &place.root, &options).is_err());
    let there = |path: &str| place.root.try_lstat(Path::new(path)).unwrap().is_some();
    assert!(there("a/one") && !there("a/two"));
}
