//! What others write, by mistake or on purpose.

use super::*;

/// A tar of one entry made by hand.
pub(super) fn raw(name: &[u8], flag: u8, link: &[u8], body: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(EntryType::new(flag));
    header.set_size(body.len() as u64);
    for set in [Header::set_uid, Header::set_gid, Header::set_mtime] {
        set(&mut header, 0);
    }
    header.set_mode(0o644);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.extend_from_slice(body);
    tar.resize(tar.len().next_multiple_of(512), 0);
    tar
}

#[test]
fn reader_refuses_hostile_archives() {
    let pax = |key: &str, value: &[u8]| {
        let mut body = Vec::new();
        pax::push_record(&mut body, &[key.as_bytes()], value);
        [raw(b"x", b'x', b"", &body), raw(b"f", b'0', b"", b"")].concat()
    };
    let mut damaged = raw(b"f", b'0', b"", b"");
    damaged[0] ^= 1;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("parent", raw(b"../f", b'0', b"", b"")),
        ("inner parent", raw(b"a/../../f", b'0', b"", b"")),
        ("absolute parent", raw(b"/../f", b'5', b"", b"")),
        ("link out", raw(b"f", b'1', b"../../etc/shadow", b"")),
        ("link to root", raw(b"f", b'1', b"/", b"")),
        ("empty link", raw(b"f", b'2', b"", b"")),
        ("unknown kind", raw(b"f", b'Z', b"", b"")),
        ("sparse", raw(b"f", b'S', b"", b"")),
        ("whiteout of parent", raw(b"a/.wh...", b'0', b"", b"")),
        ("whiteout of self", raw(b"a/.wh..", b'0', b"", b"")),
        ("whiteout of nothing", raw(b".wh.", b'0', b"", b"")),
        ("checksum", damaged),
        (
            "truncated data",
            raw(b"f", b'0', b"", &[1; 600])[..1000].to_vec(),
        ),
        (
            "truncated header",
            raw(b"f", b'0', b"", b"")[..300].to_vec(),
        ),
        ("extension without entry", raw(b"x", b'x', b"", b"6 a=b\n")),
        (
            "lone zero block",
            [vec![0; 512], raw(b"f", b'0', b"", b"")].concat(),
        ),
        (
            "large extension",
            raw(b"x", b'L', b"", &vec![b'a'; (1 << 20) + 1]),
        ),
        (
            "long path",
            [
                raw(b"x", b'L', b"", &vec![b'a'; 40_000]),
                raw(b"f", b'0', b"", b""),
            ]
            .concat(),
        ),
        ("pax parent", pax("path", b"../../f")),
        ("pax NUL", pax("path", b"a\0b")),
        ("pax size", pax("size", b"18446744073709551615")),
        ("pax size sign", pax("size", b"-1")),
        ("pax owner", pax("uid", b"4294967296")),
        ("pax sparse", pax("GNU.sparse.major", b"1")),
        (
            "pax garbage",
            [raw(b"x", b'x', b"", b"99 a=b\n"), raw(b"f", b'0', b"", b"")].concat(),
        ),
    ];
    for (name, tar) in cases {
        assert!(read(&tar).is_err(), "{name}");
    }
}

#[test]
fn paths_and_markers_are_understood() {
    let tar = [
        raw(b"./a//b/./c", b'0', b"", b"x"),
        raw(b"/abs", b'0', b"", b""),
        raw(b"dir/", b'0', b"", b""),
        raw(b"g", b'g', b"", b"6 a=b\n"),
        raw(b".wh..wh.plnk/1.2", b'0', b"", b"ignored"),
        raw(b"link", b'1', b"/abs", b""),
        raw(b"x/.wh.gone", b'0', b"", b""),
        raw(b"x/.wh..wh..opq", b'0', b"", b""),
    ]
    .concat();
    let found: Vec<_> = read(&tar)
        .unwrap()
        .into_iter()
        .map(|(e, _)| (e.path, e.kind))
        .collect();
    assert_eq!(
        found,
        [
            (b"a/b/c".to_vec(), EntryKind::File { size: 1 }),
            (b"abs".to_vec(), EntryKind::File { size: 0 }),
            (b"dir".to_vec(), EntryKind::Directory),
            (
                b"link".to_vec(),
                EntryKind::Hardlink {
                    target: b"abs".to_vec()
                }
            ),
            (b"x/gone".to_vec(), EntryKind::Whiteout),
            (b"x".to_vec(), EntryKind::Opaque),
        ]
    );
    let mut plain = LayerReader::new(tar.as_slice()).whiteouts(false);
    let mut names = Vec::new();
    while let Some(entry) = plain.next().unwrap() {
        names.push(entry.path);
    }
    assert!(
        names.contains(&b"x/.wh.gone".to_vec()) && names.contains(&b".wh..wh.plnk/1.2".to_vec())
    );
}

#[test]
fn limits_hold() {
    let tar = [
        raw(b"a", b'0', b"", &[1; 100]),
        raw(b"b", b'0', b"", &[1; 100]),
    ]
    .concat();
    for (limits, fits) in [
        (
            Limits {
                entries: 2,
                bytes: 200,
            },
            true,
        ),
        (
            Limits {
                entries: 1,
                bytes: 200,
            },
            false,
        ),
        (
            Limits {
                entries: 2,
                bytes: 199,
            },
            false,
        ),
    ] {
        let mut reader = LayerReader::new(tar.as_slice()).limits(limits);
        let all = std::iter::from_fn(|| reader.next().transpose()).collect::<Result<Vec<_>, _>>();
        assert_eq!(all.is_ok(), fits, "{limits:?}");
    }
}

#[test]
fn numbers_in_base_256_are_read() {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..1].copy_from_slice(b"f");
    header.set_entry_type(EntryType::Regular);
    header.set_size(0);
    header.set_mode(0o600);
    header.set_uid(4_000_000_000);
    header.set_gid(0);
    header.as_old_mut().mtime = [0xff; 12];
    header.set_cksum();
    let entry = read(header.as_bytes()).unwrap().remove(0).0;
    assert_eq!((entry.uid, entry.mtime.secs), (4_000_000_000, -1));
}

#[test]
fn a_size_that_nothing_can_have_is_refused_whatever_has_it() {
    for flag in [b'0', b'7', b'D'] {
        let mut tar = raw(b"x", b'x', b"", b"29 size=18446744073709551615\n");
        tar.extend(raw(b"d/", flag, b"", b""));
        assert!(read(&tar).is_err(), "{flag}");
    }
}
