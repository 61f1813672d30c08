mod foreign;
mod kinds;
mod properties;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use tar::{EntryType, Header};

use super::*;
use crate::digest::Digest;

fn write(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    for (entry, data) in entries {
        writer.append(entry, &mut data.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

fn read(tar: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, LayerError> {
    let mut reader = LayerReader::new(tar);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        let mut data = Vec::new();
        reader.data().read_to_end(&mut data)?;
        entries.push((entry, data));
    }
    Ok(entries)
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        mtime: Timestamp::from_secs(1_700_000_000),
        ..Entry::new(path, kind, 0o755)
    }
}

fn samples() -> Vec<(Entry, Vec<u8>)> {
    let deep = format!("{}/file", "d".repeat(90));
    let prefixed = format!("{}/{}", "p".repeat(120), "n".repeat(90));
    let long = format!("{}/{}", "x".repeat(200), "y".repeat(200));
    let file = |size| EntryKind::File { size };
    vec![
        (entry("", EntryKind::Directory), vec![]),
        (entry("a", EntryKind::Directory), vec![]),
        (entry("a/empty", file(0)), vec![]),
        (entry("a/one", file(1)), vec![7]),
        (entry("a/block", file(512)), vec![1; 512]),
        (entry("a/more", file(513)), vec![2; 513]),
        (
            Entry {
                mode: 0o4755,
                uid: 1000,
                gid: 1001,
                ..entry("a/suid", file(3))
            },
            vec![3; 3],
        ),
        (
            Entry {
                uid: u32::MAX,
                gid: 3_000_000,
                ..entry("a/ids", file(0))
            },
            vec![],
        ),
        (
            Entry {
                mtime: Timestamp::from_secs(-5),
                ..entry("a/old", file(0))
            },
            vec![],
        ),
        (
            Entry {
                mtime: Timestamp::from_secs(1 << 40),
                ..entry("a/new", file(0))
            },
            vec![],
        ),
        (entry("a/gone", EntryKind::Whiteout), vec![]),
        (entry("top", EntryKind::Whiteout), vec![]),
        (entry("a/opaque", EntryKind::Opaque), vec![]),
        (entry("", EntryKind::Opaque), vec![]),
        (
            entry(
                "b",
                EntryKind::Symlink {
                    target: b"../../etc/passwd".into(),
                },
            ),
            vec![],
        ),
        (
            entry(
                "c",
                EntryKind::Symlink {
                    target: vec![b'l'; 300],
                },
            ),
            vec![],
        ),
        (
            entry(
                "d",
                EntryKind::Hardlink {
                    target: b"a/one".into(),
                },
            ),
            vec![],
        ),
        (
            entry(
                "e",
                EntryKind::Hardlink {
                    target: long.clone().into(),
                },
            ),
            vec![],
        ),
        (
            entry(
                "f",
                EntryKind::CharDevice {
                    major: 4095,
                    minor: 1_048_575,
                },
            ),
            vec![],
        ),
        (
            entry("g", EntryKind::BlockDevice { major: 8, minor: 1 }),
            vec![],
        ),
        (entry("h", EntryKind::Fifo), vec![]),
        (entry(&deep, file(2)), vec![9; 2]),
        (entry(&prefixed, file(2)), vec![9; 2]),
        (entry(&long, file(2)), vec![9; 2]),
        (entry(&long, EntryKind::Directory), vec![]),
        (entry("größe/日本", file(4)), vec![4; 4]),
        (
            Entry {
                path: b"bytes\xff\xfe".into(),
                xattrs: vec![
                    (
                        b"security.capability".into(),
                        vec![1, 0, 0, 2, b'\n', b'=', 0],
                    ),
                    (b"user.empty".into(), vec![]),
                    (b"user.large".into(), vec![5; 70_000]),
                ],
                ..entry("", file(1))
            },
            vec![1],
        ),
    ]
}

/// What reading makes of an entry that was written: removals keep nothing but their time.
fn normal(entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    if entry.is_removal() {
        (entry.mode, entry.uid, entry.gid, entry.xattrs) = (0, 0, 0, vec![]);
    }
    entry.mtime.nanos = 0;
    entry
}

#[test]
fn what_is_written_is_read_again() {
    let samples = samples();
    let tar = write(&samples);
    assert_eq!(tar.len() % 512, 0);
    let expected: Vec<_> = samples
        .iter()
        .map(|(entry, data)| (normal(entry), data.clone()))
        .collect();
    assert_eq!(read(&tar).unwrap(), expected);
}

/// Layers must stay the same over all versions, or every image would change.
#[test]
fn bytes_do_not_change() {
    assert_eq!(Digest::of(&write(&samples())).as_str(), GOLDEN);
    let empty = write(&[]);
    assert_eq!(empty, [0; 1024]);
}

const GOLDEN: &str = "sha256:eb625b718a2eb621c1e9d6b88881c529f50fc2909e1c45fdf2d7a20189402df9";

#[test]
fn seeking_finds_the_same_entries_and_offsets() {
    let tar = write(&samples());
    let mut plain = LayerReader::new(tar.as_slice());
    let mut seeking = LayerReader::new(std::io::Cursor::new(&tar));
    loop {
        let (a, b) = (plain.next().unwrap(), seeking.next_seeking().unwrap());
        assert_eq!(a, b);
        assert_eq!(plain.position(), seeking.position());
        if a.is_none() {
            break;
        }
    }
}

#[test]
fn gnu_tar_lists_what_is_written() {
    let tar = write(&samples());
    let mut child = Command::new("tar")
        .args(["--numeric-owner", "--quoting-style=literal", "-tf", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || stdin.write_all(&tar));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let listed = String::from_utf8_lossy(&output.stdout);
    for name in [
        "a/.wh.gone",
        ".wh.top",
        "a/opaque/.wh..wh..opq",
        "größe/日本",
        "a/ids",
    ] {
        assert!(
            listed.lines().any(|line| line == name),
            "{name} not in {listed}"
        );
    }
    assert_eq!(listed.lines().count(), samples().len());
}

#[test]
fn archives_of_gnu_tar_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let long = "n".repeat(150);
    std::fs::write(dir.path().join(&long), b"long").unwrap();
    std::os::unix::fs::symlink("t".repeat(150), dir.path().join("link")).unwrap();
    std::fs::hard_link(dir.path().join(&long), dir.path().join("other")).unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    for format in ["gnu", "pax", "ustar", "v7"] {
        let names: &[&str] = if matches!(format, "gnu" | "pax") {
            &["./link", long.as_str(), "./other", "sub"]
        } else {
            &["sub"]
        };
        let output = Command::new("tar")
            .arg(format!("--format={format}"))
            .args(["--mtime=@1234567890", "-cf", "-", "-C"])
            .arg(dir.path())
            .args(names)
            .output()
            .unwrap();
        assert!(output.status.success());
        let entries = read(&output.stdout).unwrap();
        assert_eq!(entries.len(), names.len(), "{format}");
        assert!(
            entries
                .iter()
                .all(|(entry, _)| entry.mtime.secs == 1_234_567_890)
        );
        assert_eq!(entries.last().unwrap().0.path, b"sub");
        if names.len() > 1 {
            assert_eq!(
                entries[0].0.kind,
                EntryKind::Symlink {
                    target: vec![b't'; 150]
                }
            );
            assert_eq!(
                (&entries[1].0.path[..], &entries[1].1[..]),
                (long.as_bytes(), &b"long"[..])
            );
            assert_eq!(
                entries[2].0.kind,
                EntryKind::Hardlink {
                    target: long.clone().into()
                }
            );
        }
    }
}

#[test]
fn fine_times_come_back_where_they_are_asked_for() {
    let times = [
        (0, 0),
        (0, 1),
        (1_700_000_000, 123_456_789),
        (-1, 500_000_000),
        (-5, 1),
        (i64::MIN, 7),
        (1 << 40, 999_999_999),
    ];
    let mut writer = LayerWriter::new(Vec::new());
    writer.set_fine_times(true);
    for (number, (secs, nanos)) in times.into_iter().enumerate() {
        let entry = Entry {
            mtime: Timestamp { secs, nanos },
            ..Entry::new(number.to_string(), EntryKind::Directory, 0o755)
        };
        writer.append(&entry, &mut std::io::empty()).unwrap();
    }
    let read = read(&writer.finish().unwrap()).unwrap();
    let found = read.iter().map(|(e, _)| (e.mtime.secs, e.mtime.nanos));
    let found: Vec<_> = found.collect();
    assert_eq!(found, times);
}

#[test]
fn times_are_clamped_and_whole() {
    let mut writer = LayerWriter::new(Vec::new());
    writer.set_epoch_clamp(Some(1000));
    for secs in [999, 1000, 1001] {
        let mtime = Timestamp {
            secs,
            nanos: 999_999_999,
        };
        let entry = Entry {
            mtime,
            ..Entry::new(format!("f{secs}"), EntryKind::Fifo, 0o644)
        };
        writer.append(&entry, &mut std::io::empty()).unwrap();
    }
    let times: Vec<_> = read(&writer.finish().unwrap())
        .unwrap()
        .into_iter()
        .map(|(entry, _)| entry.mtime)
        .collect();
    assert_eq!(times, [999, 1000, 1000].map(Timestamp::from_secs));
}

#[test]
fn writer_refuses_what_cannot_be_read_back() {
    let file = EntryKind::File { size: 10 };
    let cases = [
        (Entry::new("f", file.clone(), 0), "short"),
        (Entry::new("/f", EntryKind::Fifo, 0), ""),
        (Entry::new("a/../f", EntryKind::Fifo, 0), ""),
        (Entry::new("a//f", EntryKind::Fifo, 0), ""),
        (Entry::new("d/", EntryKind::Directory, 0), ""),
        (Entry::new("a\0b", EntryKind::Fifo, 0), ""),
        (Entry::new("", EntryKind::Fifo, 0), ""),
        (Entry::new("", EntryKind::Whiteout, 0), ""),
        (Entry::new("a/.wh.b", EntryKind::Fifo, 0), ""),
        (
            Entry::new("l", EntryKind::Symlink { target: vec![] }, 0),
            "",
        ),
        (
            Entry::new(
                "l",
                EntryKind::Hardlink {
                    target: b"../x".into(),
                },
                0,
            ),
            "",
        ),
        (
            Entry::new(
                "c",
                EntryKind::CharDevice {
                    major: u32::MAX,
                    minor: 0,
                },
                0,
            ),
            "",
        ),
        (
            Entry {
                xattrs: vec![(b"user.a\0b".into(), vec![])],
                ..Entry::new("x", EntryKind::Fifo, 0)
            },
            "",
        ),
    ];
    for (entry, data) in cases {
        let result = LayerWriter::new(Vec::new()).append(&entry, &mut data.as_bytes());
        assert!(result.is_err(), "{entry:?}");
    }
    let mut plain = LayerWriter::new(Vec::new());
    plain.set_whiteouts(false);
    plain
        .append(
            &Entry::new(".wh.x", EntryKind::Fifo, 0),
            &mut std::io::empty(),
        )
        .unwrap();
    assert!(
        plain
            .append(
                &Entry::new("x", EntryKind::Whiteout, 0),
                &mut std::io::empty()
            )
            .is_err()
    );
}

/// Owners are in the header itself as far as eight octal digits go, and in binary beyond: readers that know no
/// PAX records have them too.
#[test]
fn ids_are_where_most_readers_look_for_them() {
    for (id, field, has_record) in [
        (0, *b"0000000\0", false),
        (0o777_7777, *b"7777777\0", false),
        (0o1000_0000, *b"10000000", false),
        (0o7777_7777, *b"77777777", false),
        (0o1_0000_0000, [0x80, 0, 0, 0, 1, 0, 0, 0], true),
        (u32::MAX, [0x80, 0, 0, 0, 255, 255, 255, 255], true),
    ] {
        let mut entry = entry("f", EntryKind::File { size: 0 });
        (entry.uid, entry.gid) = (id, id);
        let tar = write(&[(entry.clone(), vec![])]);
        let at = if has_record { 1024 } else { 0 };
        assert_eq!(tar[at + 108..at + 116], field, "{id}");
        assert_eq!(tar[at + 116..at + 124], field, "{id}");
        assert_eq!(tar[156] == b'x', has_record, "{id}");
        let read = read(&tar).unwrap();
        assert_eq!((read[0].0.uid, read[0].0.gid), (id, id));
    }
}
