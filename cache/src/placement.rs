//! Where new files come to lie on the disk: away from those that were just removed.
//!
//! ext4 does not use the inodes of removed files again for some minutes, and for each new file it looks
//! at all of them in a block group: a build that writes many files where many were removed takes several
//! times as long. Left to itself it even prefers such a place, for nothing else is in it. So work
//! directories are spread over the disk, and the store remembers for those minutes where it removed much.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use kiln_sys::{RootDir, system};

use crate::error::Result;
use crate::store::Store;

/// Inodes of a block group, as mke2fs makes them.
const GROUP: u64 = 8192;
/// Fewer that were removed from a group are not worth a thought.
const MANY: u32 = 256;
/// Seconds for which a removed inode is left alone: a minute, and five more while the removal has not
/// reached the disk.
const MEMORY: u64 = 60 + 300;
/// Groups behind its first one that the files of a large directory may take.
const REACH: u64 = 32;
/// Places that are tried.
const TRIES: usize = 8;
/// Bytes of the file that remembers; what is old is dropped beyond them.
const MOST: u64 = 64 << 10;

/// Groups from which much was removed, and when, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Removal {
    at: u64,
    first: u64,
    last: u64,
}

impl Removal {
    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split(' ').map(|n| n.parse().ok());
        Some(Self {
            at: numbers.next()??,
            first: numbers.next()??,
            last: numbers.next()??,
        })
    }

    fn is_remembered(&self, now: u64) -> bool {
        // A clock that was once ahead is forgiven as well.
        now.abs_diff(self.at) < MEMORY
    }

    /// Whether files from this group on come near it.
    fn is_near(&self, group: u64) -> bool {
        group <= self.last && self.first <= group + REACH
    }
}

/// Neighbours among the groups from which much was removed.
fn regions(removed: &BTreeMap<u64, u32>, at: u64) -> Vec<Removal> {
    let mut regions: Vec<Removal> = Vec::new();
    for (&group, _) in removed.iter().filter(|(_, n)| **n >= MANY) {
        match regions.last_mut() {
            Some(last) if group <= last.last + REACH => last.last = group,
            _ => regions.push(Removal {
                at,
                first: group,
                last: group,
            }),
        }
    }
    regions
}

fn seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs())
}

impl Store {
    /// Removes a directory of the store with everything in it.
    pub(crate) fn remove_tree(&self, path: &Path) -> Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(());
        };
        let mut removed = BTreeMap::new();
        let mut seen = |inode: u64| *removed.entry(inode / GROUP).or_default() += 1;
        let done = RootDir::open_trusted(parent)?.remove_all_seen(Path::new(name), &mut seen);
        self.note_removed(&removed);
        done?;
        Ok(())
    }

    fn note_removed(&self, removed: &BTreeMap<u64, u32>) {
        let regions = regions(removed, seconds());
        if regions.is_empty() || !system::spread_folders(&self.path("work-v1")) {
            return;
        }
        let lines = regions
            .iter()
            .map(|r| format!("{} {} {}\n", r.at, r.first, r.last));
        let lines: String = lines.collect();
        let path = self.path("removed");
        let written = std::fs::File::options()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| {
                if file.metadata()?.len() > MOST {
                    // Without it a build may be slow, no more.
                    file.set_len(0)?;
                }
                file.write_all(lines.as_bytes())
            });
        if let Err(error) = written {
            tracing::debug!(%error, "where much was removed is not remembered");
        }
    }

    /// Gives a new work directory, which is empty, a place where little was removed of late.
    pub(crate) fn place_well(&self, dir: &Path) {
        if !system::spread_folders(&self.path("work-v1")) {
            return;
        }
        let Ok(text) = std::fs::read_to_string(self.path("removed")) else {
            return;
        };
        let now = seconds();
        let removed: Vec<Removal> = text
            .lines()
            .filter_map(Removal::parse)
            .filter(|r| r.is_remembered(now))
            .collect();
        let mut rejected = Vec::new();
        for _ in 0..TRIES {
            let Ok(meta) = std::fs::metadata(dir) else {
                break;
            };
            if !removed.iter().any(|r| r.is_near(meta.ino() / GROUP)) {
                break;
            }
            // It stays until there is another: its place does not look as empty then.
            let Ok(aside) = self.put_aside(dir) else {
                break;
            };
            rejected.push(aside);
            if std::fs::create_dir(dir).is_err() {
                break;
            }
        }
        for aside in rejected {
            // It is in the trash.
            let _ = std::fs::remove_dir(aside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_remembered_by_regions() {
        let removed = |groups: &[(u64, u32)]| regions(&groups.iter().copied().collect(), 7);
        let region = |first, last| Removal { at: 7, first, last };
        for (groups, expected) in [
            (&[][..], vec![]),
            (&[(3, MANY - 1)], vec![]),
            (&[(3, MANY)], vec![region(3, 3)]),
            (&[(3, 900), (5, 900), (30, 900)], vec![region(3, 30)]),
            (&[(3, 900), (90, 900)], vec![region(3, 3), region(90, 90)]),
        ] {
            assert_eq!(removed(groups), expected, "{groups:?}");
        }
    }

    #[test]
    fn only_what_is_near_and_not_long_ago_counts() {
        let removal = Removal::parse("1000 50 60").unwrap();
        for (group, near) in [(17, false), (18, true), (50, true), (60, true), (61, false)] {
            assert_eq!(removal.is_near(group), near, "{group}");
        }
        assert!(removal.is_remembered(1000) && removal.is_remembered(1359));
        assert!(!removal.is_remembered(1360));
        let damaged = Removal::parse(&format!("{} 50 60", u64::MAX)).unwrap();
        assert!(!damaged.is_remembered(1000));
        for line in ["", "1 2", "a b c", "1 2 -3"] {
            assert_eq!(Removal::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_work_directory_lies_away_from_what_was_removed() {
        // Needs ext4, and memory has no block groups.
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let store = Store::open(dir.path()).unwrap();
        if !system::spread_folders(&dir.path().join("work-v1")) {
            return;
        }
        let group = |scratch: &crate::Scratch| {
            let own = scratch.path().parent().unwrap().to_owned();
            std::fs::metadata(own).unwrap().ino() / GROUP
        };
        // Whatever place it takes: all of the disk but one region was emptied, then all of it.
        let first = store.scratch().unwrap();
        let at = group(&first);
        drop(first);
        let now = seconds();
        let all = format!("{now} 0 {}\n", u64::MAX / 2);
        for (removed, is_far) in [(format!("{now} {at} {at}\n"), true), (all, false)] {
            std::fs::write(dir.path().join("removed"), removed).unwrap();
            let next = store.scratch().unwrap();
            assert!(next.path().is_dir());
            let near = Removal {
                at: now,
                first: at,
                last: at,
            }
            .is_near(group(&next));
            assert!(!is_far || !near);
            assert_eq!(
                std::fs::read_dir(dir.path().join("trash")).unwrap().count(),
                0
            );
        }
    }
}
