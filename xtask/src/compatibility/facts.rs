//! What is looked at in an unpacked image.

use std::fs::{Metadata, symlink_metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// How far a file may be off and still have a hole of 64 MiB.
const SLACK: u64 = 1 << 20;
/// 1960-01-01.
const OLD: i64 = -315_619_200;
/// 2001-02-03 04:05:06.123456789, in seconds and nanoseconds.
const PRECISE: (i64, i64) = (981_173_106, 123_456_789);

/// A fact of the image: what the page calls it, and how it is found out.
type Fact = (&'static str, fn(&Path) -> Option<String>);

/// All facts, in the order of the page's rows. A function gives `None` where the file is missing.
const FACTS: &[Fact] = &[
    ("owner 3,000,000 (the ids of user namespaces)", |c| {
        owner(c, "subordinate", 3_000_000)
    }),
    ("owner 2,000,000,000", |c| {
        owner(c, "highest", 2_000_000_000)
    }),
    ("a time of 1960", |c| {
        let time = meta(c, "old")?.mtime();
        Some(yes_or(time == OLD, || match time {
            0 => "1970".into(),
            time => format!("{time} s after 1970"),
        }))
    }),
    ("a time with nanoseconds", |c| {
        let file = meta(c, "precise")?;
        let time = (file.mtime(), file.mtime_nsec());
        Some(match time {
            PRECISE => yes(),
            (seconds, 0) if seconds == PRECISE.0 => "whole seconds".into(),
            (seconds, fraction) => format!("{seconds}.{fraction:09} s after 1970"),
        })
    }),
    ("a name of 120 bytes", |c| {
        meta(c, &"n".repeat(120)).map(|_| yes())
    }),
    ("a name that is not ASCII", |c| {
        meta(c, "ünïcödé").map(|_| yes())
    }),
    ("an extended attribute of `user.`", |c| {
        let path = c.join("plain");
        meta(c, "plain")?;
        let mut value = [0u8; 64];
        let found = rustix::fs::getxattr(&path, "user.kiln", &mut value);
        Some(yes_or(found.is_ok_and(|length| length == 5), || {
            "dropped".into()
        }))
    }),
    ("a hole of 64 MiB", |c| {
        let file = meta(c, "hole")?;
        Some(if file.len() != (64 << 20) + 4 {
            format!("{} bytes", file.len())
        } else if file.blocks() * 512 < SLACK {
            "yes, as a hole".into()
        } else {
            "yes, as zeros".into()
        })
    }),
    ("a hard link in a layer", |c| linked(c, "one", "two", 7)),
    ("a hard link to a file of a lower layer", |c| {
        linked(c, "lower", "upper", 0)
    }),
    ("a removed file", |c| {
        Some(yes_or(meta(c, "gone").is_none(), || "is there".into()))
    }),
    ("a directory replaced by a new one", |c| {
        meta(c, "replaced/new")?;
        let old = meta(c, "replaced/old");
        Some(yes_or(old.is_none(), || "has the old files".into()))
    }),
];

/// The names of the facts.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FACTS.iter().map(|(name, _)| *name)
}

/// What of each fact is left in a root that a reader unpacked.
pub(super) fn look(root: &Path) -> Vec<String> {
    let content = root.join("c");
    let seen = FACTS.iter().map(|(_, fact)| fact(&content));
    seen.map(|cell| cell.unwrap_or_else(|| "missing".into()))
        .collect()
}

fn meta(content: &Path, name: &str) -> Option<Metadata> {
    symlink_metadata(content.join(name)).ok()
}

fn owner(content: &Path, name: &str, id: u32) -> Option<String> {
    let file = meta(content, name)?;
    Some(yes_or(file.uid() == id && file.gid() == id, || {
        format!("{}:{}", file.uid(), file.gid())
    }))
}

/// Whether two names are one file, which has this owner.
fn linked(content: &Path, one: &str, other: &str, id: u32) -> Option<String> {
    let (one, other) = (meta(content, one)?, meta(content, other)?);
    Some(if one.ino() != other.ino() {
        "two files".into()
    } else {
        yes_or(one.uid() == id, || format!("owner {}", one.uid()))
    })
}

fn yes() -> String {
    "yes".into()
}

fn yes_or(holds: bool, else_text: impl FnOnce() -> String) -> String {
    if holds { yes() } else { else_text() }
}
