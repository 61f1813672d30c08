//! Whether files were written to between two looks, even if they have the same content again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time in which two changes of a file may have the same time: two ticks of a kernel that ticks at
/// 100 Hz, the slowest.
const TICK: Duration = Duration::from_millis(20);

/// What `stat` tells of a set of files: each of their devices, inodes, sizes and times counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilesVersion {
    /// The sum of a digest of each, so that their order does not matter.
    files: u128,
    /// The same of directories: theirs also tell of what has come and gone.
    directories: u128,
    /// When the last one was changed, in nanoseconds since 1970.
    newest: i128,
}

impl FilesVersion {
    /// That of one file: numbers that tell it and its state, and when it was changed, in seconds since 1970
    /// and nanoseconds.
    pub fn of(numbers: &[u64], changed: (i64, u32)) -> Self {
        // In one block: a hasher that can take more costs four times as much to set up.
        let mut bytes = Vec::with_capacity(64);
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&changed.0.to_le_bytes());
        bytes.extend_from_slice(&changed.1.to_le_bytes());
        let mut low = [0; 16];
        low.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
        Self {
            files: u128::from_le_bytes(low),
            directories: 0,
            newest: i128::from(changed.0) * 1_000_000_000 + i128::from(changed.1),
        }
    }

    /// The same of a directory.
    pub fn of_directory(numbers: &[u64], changed: (i64, u32)) -> Self {
        let of_file = Self::of(numbers, changed);
        Self {
            files: 0,
            directories: of_file.files,
            ..of_file
        }
    }

    /// Whether no file was written to, whatever has come and gone beside them.
    pub fn has_same_files(&self, other: &Self) -> bool {
        self.files == other.files
    }

    /// That of these and those files together.
    pub fn add(&mut self, other: Self) {
        self.files = self.files.wrapping_add(other.files);
        self.directories = self.directories.wrapping_add(other.directories);
        self.newest = self.newest.max(other.newest);
    }

    /// How long it takes from `now` on until each further change can be seen: one may come so soon after the
    /// last one that both have the same time.
    pub fn unsettled(&self, now: SystemTime) -> Duration {
        let now = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos().cast_signed());
        let settled = self.newest + TICK.as_nanos().cast_signed();
        // A time to come says nothing of ticks.
        if self.newest > now || settled <= now {
            return Duration::ZERO;
        }
        Duration::from_nanos(u64::try_from(settled - now).unwrap_or_default()).min(TICK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_and_each_of_its_changes_counts() {
        let file = |ino, changed| FilesVersion::of(&[1, ino, 5], (changed, 0));
        let all = |files: &[FilesVersion]| {
            let mut all = FilesVersion::default();
            files.iter().for_each(|file| all.add(*file));
            all
        };
        assert_eq!(
            all(&[file(1, 2), file(2, 3)]),
            all(&[file(2, 3), file(1, 2)])
        );
        for other in [
            all(&[file(1, 2)]),
            all(&[file(1, 2), file(2, 4)]),
            all(&[file(1, 2), file(3, 3)]),
            all(&[file(1, 2), file(2, 3), file(2, 3)]),
        ] {
            assert_ne!(other, all(&[file(1, 2), file(2, 3)]));
            assert!(!other.has_same_files(&all(&[file(1, 2), file(2, 3)])));
        }
        let directory = |changed| FilesVersion::of_directory(&[1, 9], (changed, 0));
        let (before, after) = ([file(1, 2), directory(3)], [file(1, 2), directory(4)]);
        assert_ne!(all(&before), all(&after));
        assert!(all(&before).has_same_files(&all(&after)));
    }

    #[test]
    fn what_changed_in_this_tick_may_change_unseen() {
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        let version = FilesVersion::of(&[], (1, 0));
        for (now, wait) in [(1_000, 20), (1_015, 5), (1_020, 0), (9_000, 0), (999, 0)] {
            assert_eq!(
                version.unsettled(at(now)),
                Duration::from_millis(wait),
                "{now}"
            );
        }
    }
}
