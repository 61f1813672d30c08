//! What entries of one layer make of each other, and of what is below.

use super::*;

/// What is at each path of a tree, in the order of names: a letter for the kind (`w` for what hides
/// what is below), and `!` for an opaque directory.
fn tree(root: &RootDir) -> Vec<String> {
    let mut out = Vec::new();
    let mut left = vec![String::new()];
    while let Some(path) = left.pop() {
        for entry in root.read_dir(Path::new(&path)).unwrap() {
            let name = entry.name.to_str().unwrap();
            let at = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}/{name}")
            };
            let st = root.lstat(Path::new(&at)).unwrap();
            let kind = match st.kind {
                FileKind::Directory => {
                    left.push(at.clone());
                    let opaque = root.xattr(Path::new(&at), b"trusted.overlay.opaque");
                    if opaque.unwrap().is_some() { "d!" } else { "d" }
                }
                _ if st.is_overlay_whiteout() => "w",
                FileKind::Symlink => "l",
                FileKind::File => "f",
                _ => "?",
            };
            out.push(format!("{at} {kind}"));
        }
    }
    out.sort();
    out
}

fn dir(path: &str) -> (Entry, Vec<u8>) {
    entry(path, EntryKind::Directory)
}

fn gone(path: &str) -> (Entry, Vec<u8>) {
    entry(path, EntryKind::Whiteout)
}

fn opaque(path: &str) -> (Entry, Vec<u8>) {
    entry(path, EntryKind::Opaque)
}

fn unpacked(entries: &[(Entry, Vec<u8>)]) -> Result<Vec<String>> {
    let place = place();
    unpack(tar(entries).as_slice(), &place.root, &LAYER())?;
    assert!(place.canary_is_untouched());
    Ok(tree(&place.root))
}

#[test]
#[ignore = "needs root"]
fn whiteouts_hide_what_is_below_and_nothing_of_their_own_layer() {
    for (what, entries, made) in [
        (
            "a file before its whiteout",
            vec![file("a", "x"), gone("a")],
            vec!["a f"],
        ),
        (
            "a file after its whiteout",
            vec![gone("a"), file("a", "x")],
            vec!["a f"],
        ),
        (
            "a link beside a whiteout",
            vec![symlink("a", "b"), gone("a")],
            vec!["a l"],
        ),
        (
            "a directory after its whiteout",
            vec![gone("a"), dir("a"), file("a/f", "x")],
            vec!["a d!", "a/f f"],
        ),
        (
            "a directory before its whiteout",
            vec![dir("a"), file("a/f", "x"), gone("a")],
            vec!["a d!", "a/f f"],
        ),
        (
            "a directory that only its file speaks of",
            vec![gone("a"), file("a/f", "x")],
            vec!["a d!", "a/f f"],
        ),
        (
            "the same the other way",
            vec![file("a/f", "x"), gone("a")],
            vec!["a d!", "a/f f"],
        ),
        (
            "a directory in place of a file and a whiteout",
            vec![gone("a"), file("a", "x"), dir("a")],
            vec!["a d!"],
        ),
        (
            "a whiteout in what is gone",
            vec![gone("a"), gone("a/k")],
            vec!["a w"],
        ),
        (
            "the same the other way",
            vec![gone("a/k"), gone("a")],
            vec!["a w"],
        ),
        (
            "deep in what is gone",
            vec![gone("a/b/c/k"), opaque("a/b/d"), gone("a"), gone("a/b/e")],
            vec!["a w"],
        ),
        (
            "whiteouts in what is gone and made again",
            vec![gone("a/k"), gone("a"), dir("a"), gone("a/l")],
            vec!["a d!"],
        ),
        (
            "a whiteout below a file",
            vec![file("a", "x"), gone("a/k")],
            vec!["a f"],
        ),
        (
            "whiteouts in an opaque directory",
            vec![
                dir("a"),
                gone("a/k"),
                opaque("a"),
                gone("a/l"),
                file("a/f", "x"),
            ],
            vec!["a d!", "a/f f"],
        ),
        (
            "whiteouts deep in an opaque directory",
            vec![
                dir("a"),
                opaque("a"),
                dir("a/b"),
                gone("a/b/k"),
                gone("a/c/k"),
            ],
            vec!["a d!", "a/b d"],
        ),
        (
            "whiteouts that count",
            vec![dir("a"), gone("a/k"), gone("b/c/k"), gone("c")],
            vec!["a d", "a/k w", "b d", "b/c d", "b/c/k w", "c w"],
        ),
        ("a whiteout twice", vec![gone("a"), gone("a")], vec!["a w"]),
        (
            "an opaque directory that nothing else speaks of",
            vec![opaque("a/b")],
            vec!["a d", "a/b d!"],
        ),
        (
            "whiteouts behind a link",
            vec![dir("usr/lib"), symlink("lib", "usr/lib"), gone("lib/k")],
            vec!["lib l", "usr d", "usr/lib d", "usr/lib/k w"],
        ),
    ] {
        assert_eq!(unpacked(&entries).unwrap(), made, "{what}");
    }
}

#[test]
#[ignore = "needs root"]
fn entries_go_through_links_of_their_layer_and_stay_inside() {
    for (what, entries, made) in [
        (
            "a usr-merged root",
            vec![
                dir("usr/lib"),
                symlink("lib", "usr/lib"),
                file("lib/x", "1"),
            ],
            vec!["lib l", "usr d", "usr/lib d", "usr/lib/x f"],
        ),
        (
            "an absolute link",
            vec![
                dir("etc"),
                symlink("conf", "/etc"),
                file("conf/passwd", "x"),
            ],
            vec!["conf l", "etc d", "etc/passwd f"],
        ),
        (
            "a link to what comes later",
            vec![
                symlink("lib", "usr/lib"),
                file("lib/x", "1"),
                dir("usr/lib"),
            ],
            vec!["lib l", "usr d", "usr/lib d", "usr/lib/x f"],
        ),
        (
            "further up than the root",
            vec![symlink("l", "../../.."), file("l/x", "1")],
            vec!["l l", "x f"],
        ),
        (
            "a link in a link",
            vec![symlink("a", "b"), symlink("b", "c/d"), file("a/e/x", "1")],
            vec!["a l", "b l", "c d", "c/d d", "c/d/e d", "c/d/e/x f"],
        ),
        (
            "a hard link through a link",
            vec![
                file("usr/x", "1"),
                symlink("u", "usr"),
                hardlink("u/y", "u/x"),
            ],
            vec!["u l", "usr d", "usr/x f", "usr/y f"],
        ),
        (
            "a link that is replaced by a directory",
            vec![
                symlink("l", "usr"),
                file("l/x", "1"),
                dir("l"),
                file("l/y", "1"),
            ],
            vec!["l d!", "l/y f", "usr d", "usr/x f"],
        ),
    ] {
        assert_eq!(unpacked(&entries).unwrap(), made, "{what}");
    }
    for (what, entries, why) in [
        (
            "a circle",
            vec![symlink("a", "b"), symlink("b", "a"), file("a/x", "1")],
            "circle",
        ),
        (
            "a link to a file",
            vec![file("f", "1"), symlink("a", "f"), file("a/x", "1")],
            "not a directory",
        ),
    ] {
        let error = unpacked(&entries).unwrap_err();
        assert!(
            matches!(&error, Error::Entry { path, why: told } if path == "a/x" && told.contains(why)),
            "{what}: {error}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn the_last_header_of_a_file_counts() {
    let place = place();
    let with = |(mut entry, data): (Entry, Vec<u8>), mode, id, secs| {
        (entry.mode, entry.uid, entry.gid) = (mode, id, id + 1);
        entry.mtime = Timestamp::from_secs(secs);
        (entry, data)
    };
    let big = "x".repeat(1 << 20);
    let mut named = with(hardlink("m", "big"), 0o4755, 0, 9);
    named.0.xattrs = vec![(b"user.k".to_vec(), b"v".to_vec())];
    let entries = [
        with(file("f", "x"), 0o644, 1, 5),
        with(hardlink("g", "f"), 0o600, 7, 6),
        with(hardlink("h", "f"), 0o4755, 9, 7),
        with(file("big", &big), 0o644, 0, 5),
        named,
        with(symlink("l", "f"), 0o777, 3, 5),
        with(hardlink("n", "l"), 0o600, 4, 8),
    ];
    unpack(&*tar(&entries), &place.root, &LAYER()).unwrap();
    for (name, mode, id, secs) in [
        ("f", 0o4755, 9, 7),
        ("h", 0o4755, 9, 7),
        ("big", 0o4755, 0, 9),
        ("l", 0o777, 4, 5),
    ] {
        let st = place.root.lstat(Path::new(name)).unwrap();
        assert_eq!(
            (st.mode, st.uid, st.gid, st.mtime),
            (mode, id, id + 1, (secs, 0)),
            "{name}"
        );
    }
    let value = place.root.xattr(Path::new("big"), b"user.k").unwrap();
    assert_eq!(value.as_deref(), Some(&b"v"[..]));
    assert_eq!(
        place.root.read(Path::new("m"), 2 << 20).unwrap(),
        big.as_bytes()
    );
}

#[test]
#[ignore = "needs root"]
fn a_layers_root_entry_says_nothing_of_the_root() {
    let (mut root, data) = dir("");
    (root.mode, root.uid) = (0o700, 7);
    let entries = [(root, data), file("f", "x")];
    for (options, mode, uid) in [
        (LAYER(), 0o755, 0),
        (PLAIN(), 0o755, 0),
        // What is packed for its own sake comes back as it was.
        (UnpackOptions::default(), 0o700, 7),
    ] {
        let place = place();
        place.root.chmod(Path::new(""), 0o755).unwrap();
        unpack(&*tar(&entries), &place.root, &options).unwrap();
        let st = place.root.lstat(Path::new("")).unwrap();
        assert_eq!((st.mode, st.uid), (mode, uid));
    }
}

#[test]
#[ignore = "needs root"]
fn zeros_become_holes() {
    let place = place();
    let size = 64 << 20;
    let mut data = vec![0; size];
    data[20 << 20] = 7;
    let kind = EntryKind::File { size: size as u64 };
    let entries = [(Entry::new("f", kind, 0o644), data.clone())];
    let options = UnpackOptions {
        tree: true,
        ..LAYER()
    };
    let bytes = tar(&entries);
    let unpacked = unpack(&*bytes, &place.root, &options).unwrap();
    let st = place.root.lstat(Path::new("f")).unwrap();
    assert_eq!(st.size, size as u64);
    assert!(st.allocated < 1 << 20, "{}", st.allocated);
    assert!(place.root.read(Path::new("f"), 1 << 30).unwrap() == data);
    let packed = pack(&place.dir.path().join("root"), None, &mut std::io::sink()).unwrap();
    assert_eq!(unpacked.tree, Some(packed.tree));
    assert_eq!(packed.tar_size, bytes.len() as u64);
}

#[test]
fn an_error_names_the_whole_path() {
    let place = place();
    let mut bad = file("some/where/bad", "x");
    bad.0.kind = EntryKind::Fifo;
    bad.1.clear();
    bad.0.xattrs = vec![(b"user.on-a-pipe".to_vec(), b"v".to_vec())];
    let error = unpack(&*tar(&[bad]), &place.root, &LAYER()).unwrap_err();
    assert!(error.to_string().contains("`some/where/bad`"), "{error}");
}
