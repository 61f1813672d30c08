//! Kinds of entries that other programs write.

use super::foreign::raw;
use super::*;
use std::os::unix::fs::FileExt as _;

/// A tar of extended header and entry.
fn with_pax(records: &[(&str, &str)], name: &[u8], flag: u8, body: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    for (key, value) in records {
        pax::push_record(&mut header, &[key.as_bytes()], value.as_bytes());
    }
    [raw(b"x", b'x', b"", &header), raw(name, flag, b"", body)].concat()
}

#[test]
fn sparse_files_of_gnu_tar_are_read_in_each_form() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("holes")).unwrap();
    file.write_all_at(b"start", 0).unwrap();
    file.write_all_at(&[7; 5000], 1 << 20).unwrap();
    file.set_len(3 << 20).unwrap();
    let empty = std::fs::File::create(dir.path().join("nothing")).unwrap();
    empty.set_len(1 << 20).unwrap();
    // More parts than one block of a map has room for.
    let many = std::fs::File::create(dir.path().join("many")).unwrap();
    for part in 0..100 {
        many.write_all_at(&[1 + part as u8; 4096], part * 65536)
            .unwrap();
    }
    std::fs::write(dir.path().join("plain"), b"plain").unwrap();
    let names = ["holes", "nothing", "many", "plain"];
    for version in ["0.0", "0.1", "1.0"] {
        let output = Command::new("tar")
            .args(["--format=pax", "--sparse", "-cf", "-", "-C"])
            .arg(dir.path())
            .arg(format!("--sparse-version={version}"))
            .args(names)
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(
            output.stdout.len() < 1 << 20,
            "{version}: nothing is sparse"
        );
        let mut reader = LayerReader::new(output.stdout.as_slice());
        for name in names {
            let entry = reader.next().unwrap().unwrap();
            assert_eq!(entry.path, name.as_bytes(), "{version}");
            let expected = std::fs::read(dir.path().join(name)).unwrap();
            let size = expected.len() as u64;
            assert_eq!(entry.kind, EntryKind::File { size }, "{version} {name}");
            assert_eq!(reader.sparse_map().is_some(), name != "plain");
            let mut data = Vec::new();
            reader.data().read_to_end(&mut data).unwrap();
            assert!(data == expected, "{version} {name}");
        }
        assert_eq!(reader.next().unwrap(), None);
        // Who goes past it needs none of it; holes can be passed over.
        let mut reader = LayerReader::new(output.stdout.as_slice());
        reader.next().unwrap().unwrap();
        let mut data = reader.data();
        assert_eq!(data.pass_hole(), 0);
        let mut start = [0; 4096];
        data.read_exact(&mut start).unwrap();
        assert_eq!(data.pass_hole(), (1 << 20) - 4096, "{version}");
        assert_eq!(data.remaining(), 2 << 20);
        assert_eq!(reader.next().unwrap().unwrap().path, b"nothing");
    }
}

#[test]
fn damaged_maps_of_holes_are_refused() {
    let v1 = |map: &str, size: &str| {
        let records = [
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "true"),
            ("GNU.sparse.realsize", size),
        ];
        let mut body = map.as_bytes().to_vec();
        body.resize(body.len().next_multiple_of(512), 0);
        body.extend_from_slice(b"data");
        with_pax(&records, b"GNUSparseFile.0/true", b'0', &body)
    };
    let v01 = |map: &str, size: &str| {
        let records = [("GNU.sparse.size", size), ("GNU.sparse.map", map)];
        with_pax(&records, b"f", b'0', b"data")
    };
    let good = read(&v1("1\n2\n4\n", "10")).unwrap();
    assert_eq!(good[0].0.path, b"true");
    assert_eq!(good[0].1, b"\0\0data\0\0\0\0");
    assert_eq!(read(&v01("2,4", "6")).unwrap()[0].1, b"\0\0data");
    assert_eq!(read(&v01("0,1,3,3", "6")).unwrap()[0].1, b"d\0\0ata");
    let huge = u64::MAX.to_string();
    let many = format!("{}\n", 1_000_000_000);
    for (what, tar) in [
        ("more than the size", v1("1\n2\n4\n", "5")),
        ("not all of the data", v1("1\n2\n3\n", "10")),
        ("more than the data", v1("1\n2\n5\n", "10")),
        ("backwards", v1("2\n4\n2\n0\n2\n", "10")),
        ("over each other", v1("2\n0\n3\n2\n1\n", "10")),
        ("cut off", v1("2\n0\n4\n", "10")),
        ("no number", v1("1\nx\n4\n", "10")),
        ("a negative number", v1("1\n-2\n4\n", "10")),
        ("a number without an end", v1(&"1".repeat(5000), "10")),
        (
            "a sum that is too large",
            v1(&format!("1\n{huge}\n4\n"), &huge),
        ),
        ("too many parts", v1(&many, "10")),
        ("an odd number", v01("2", "10")),
        ("a gap in the list", v01("2,x", "10")),
        (
            "no size",
            with_pax(&[("GNU.sparse.map", "0,4")], b"f", b'0', b"data"),
        ),
        (
            "an unknown version",
            with_pax(
                &[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")],
                b"f",
                b'0',
                b"data",
            ),
        ),
        (
            "offsets without lengths",
            with_pax(
                &[
                    ("GNU.sparse.size", "9"),
                    ("GNU.sparse.offset", "1"),
                    ("GNU.sparse.offset", "2"),
                ],
                b"f",
                b'0',
                b"data",
            ),
        ),
    ] {
        assert!(read(&tar).is_err(), "{what}");
    }
}

#[test]
fn an_old_sparse_file_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("holes")).unwrap();
    file.set_len(1 << 20).unwrap();
    let output = Command::new("tar")
        .args(["--format=gnu", "--sparse", "-cf", "-", "-C"])
        .arg(dir.path())
        .arg("holes")
        .output()
        .unwrap();
    let error = read(&output.stdout).unwrap_err().to_string();
    assert!(
        error.starts_with("`holes` is a sparse file in the old form of GNU tar"),
        "{error}"
    );
}

#[test]
fn incremental_archives_of_gnu_tar_are_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("top/sub")).unwrap();
    std::fs::write(dir.path().join("top/sub/file"), b"x").unwrap();
    let output = Command::new("tar")
        .args(["--format=gnu", "--listed-incremental=/dev/null", "-cf", "-"])
        .arg("-C")
        .arg(dir.path())
        .arg("top")
        .output()
        .unwrap();
    assert!(output.stdout.get(156) == Some(&b'D'), "not incremental");
    let entries = read(&output.stdout).unwrap();
    let found: Vec<_> = entries
        .iter()
        .map(|(e, data)| (&e.path[..], e.kind == EntryKind::Directory, data.len()))
        .collect();
    assert_eq!(
        found,
        [
            (&b"top"[..], true, 0),
            (b"top/sub", true, 0),
            (b"top/sub/file", false, 1)
        ]
    );
}

#[test]
fn entries_that_mean_nothing_are_passed_over() {
    let tar = [
        raw(b"", b'0', b"", b"no name"),
        raw(b"./", b'2', b"x", b""),
        raw(b"", b'1', b"x", b""),
        raw(b".", b'0', b"", b"the root as a file"),
        raw(b"", b'5', b"", b""),
        raw(b"f", b'0', b"", b"x"),
        raw(b"g", b'g', b"", b"6 a=b\n"),
    ]
    .concat();
    let found: Vec<_> = read(&tar).unwrap().into_iter().map(|e| e.0.path).collect();
    assert_eq!(found, [&b""[..], b"f"]);
    // An archive of nothing but a global header is empty, as `git archive` makes it of no files.
    assert_eq!(read(&raw(b"g", b'g', b"", b"6 a=b\n")).unwrap(), []);
    // It does not come between an extended header and its entry.
    let mut header = Vec::new();
    pax::push_record(&mut header, &[b"path"], b"long name");
    let tar = [
        raw(b"x", b'x', b"", &header),
        raw(b"g", b'g', b"", b"6 a=b\n"),
        raw(b"f", b'0', b"", b""),
    ]
    .concat();
    assert_eq!(read(&tar).unwrap()[0].0.path, b"long name");
}

#[test]
fn names_of_attributes_may_have_an_equals_sign() {
    let file = EntryKind::File { size: 1 };
    let attributes: Vec<(Vec<u8>, Vec<u8>)> = vec![
        (b"user.a".into(), b"plain".into()),
        (b"user.a=b".into(), b"\0\xff=\n".into()),
        (b"user.b%3D".into(), b"".into()),
        (b"user.c==".into(), b"x".into()),
    ];
    let entry = Entry {
        xattrs: attributes.clone(),
        ..entry("f", file)
    };
    let tar = write(&[(entry.clone(), vec![7])]);
    assert_eq!(read(&tar).unwrap(), [(entry, vec![7])]);
    // libarchive writes all attributes in both forms; the plain one counts.
    let both = with_pax(
        &[
            ("LIBARCHIVE.xattr.user.a", "ZW5jb2RlZA"),
            ("SCHILY.xattr.user.a", "plain"),
            ("LIBARCHIVE.xattr.user.n%3D", "dg=="),
            ("LIBARCHIVE.xattr.user.bad", "*"),
        ],
        b"f",
        b'0',
        b"",
    );
    assert_eq!(
        read(&both).unwrap()[0].0.xattrs,
        [
            (b"user.a".to_vec(), b"plain".to_vec()),
            (b"user.n=".to_vec(), b"v".to_vec())
        ]
    );
}

/// What is passed over takes its map of holes along: the next file has none.
#[test]
fn a_map_of_holes_is_that_of_one_entry() {
    let records = [
        ("GNU.sparse.size", "5"),
        ("GNU.sparse.numblocks", "1"),
        ("GNU.sparse.map", "0,0"),
    ];
    let mut tar = with_pax(&records, b".wh..wh.aufs", b'0', b"");
    tar.extend(raw(b"x", b'0', b"", b"abc"));
    let mut reader = LayerReader::new(tar.as_slice()).whiteouts(true);
    let entry = reader.next().unwrap().unwrap();
    let mut data = Vec::new();
    std::io::Read::read_to_end(&mut reader.data(), &mut data).unwrap();
    assert_eq!(
        (entry.path.as_slice(), data.as_slice()),
        (&b"x"[..], &b"abc"[..])
    );
}
