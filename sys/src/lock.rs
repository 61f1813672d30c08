//! Locks between processes on ranges of one file.
//!
//! They belong to the open file (`F_OFD_SETLK`), so the kernel drops them when the process ends,
//! however it ends.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use crate::error::{FsError, Result};

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub struct RangeLock {
    _file: File,
}

/// Tries to lock the byte at `offset` of the file at `path`, alone or shared with others.
/// Nothing if somebody else holds it.
pub fn try_lock(path: &Path, offset: u64, shared: bool) -> Result<Option<RangeLock>> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|e| FsError::new("open", path, e))?;
    // SAFETY: an all-zero flock is a valid value of this plain C structure.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    let kind = if shared { libc::F_RDLCK } else { libc::F_WRLCK };
    range.l_type = i16::try_from(kind).unwrap_or_default();
    range.l_whence = i16::try_from(libc::SEEK_SET).unwrap_or_default();
    range.l_start = i64::try_from(offset >> 1).unwrap_or_default();
    range.l_len = 1;
    // SAFETY: the descriptor and the structure are live during the call.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) };
    if done == 0 {
        return Ok(Some(RangeLock { _file: file }));
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(None),
        _ => Err(FsError::new("lock", path, error)),
    }
}

/// A file whose bytes are locked one by one, by one open file: many locks cost one descriptor.
///
/// The locks belong to this value. Taking one that it has already changes nothing or its kind, and
/// all are dropped with it.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: std::path::PathBuf,
}

/// What a [`LockFile`] is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Together with others.
    Shared,
    /// Alone.
    Alone,
    /// Not any more.
    Free,
}

impl LockFile {
    /// Opens the file, which is made where it is missing.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|e| FsError::new("open", path, e))?;
        let path = path.to_path_buf();
        Ok(Self { file, path })
    }

    /// One call for the bytes from `start` to `end`.
    fn call(&self, command: i32, kind: i32, (start, end): (i64, i64)) -> Result<libc::flock> {
        // SAFETY: an all-zero flock is a valid value of this plain C structure.
        let mut range: libc::flock = unsafe { std::mem::zeroed() };
        range.l_type = i16::try_from(kind).unwrap_or_default();
        range.l_whence = i16::try_from(libc::SEEK_SET).unwrap_or_default();
        range.l_start = start;
        range.l_len = end - start + 1;
        loop {
            // SAFETY: the descriptor and the structure are live during the call.
            let done = unsafe { libc::fcntl(self.file.as_raw_fd(), command, &raw mut range) };
            if done == 0 {
                return Ok(range);
            }
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(FsError::new("lock", &self.path, error));
            }
        }
    }

    /// Takes or gives back the lock of the byte at half of `offset`; waits for others.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn hold(&self, offset: u64, how: Hold) -> Result<()> {
        let kind = match how {
            Hold::Shared => libc::F_RDLCK,
            Hold::Alone => libc::F_WRLCK,
            Hold::Free => libc::F_UNLCK,
        };
        self.call(libc::F_OFD_SETLKW, kind, byte(offset)).map(drop)
    }

    /// Takes a shared lock of all bytes up to the one at half of `last`. Those that this value has among them become
    /// one with it.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn share_up_to(&self, last: u64) -> Result<()> {
        let range = (0, byte(last).1);
        self.call(libc::F_OFD_SETLKW, libc::F_RDLCK, range)
            .map(drop)
    }

    /// Whether another open file holds a lock on the byte at half of `offset`.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn is_held_elsewhere(&self, offset: u64) -> Result<bool> {
        let found = self.call(libc::F_OFD_GETLK, libc::F_WRLCK, byte(offset))?;
        Ok(i32::from(found.l_type) != libc::F_UNLCK)
    }

    /// All bytes that other open files hold locks on. It takes a call for each lock and for each gap
    /// between two, so it is what to ask for many bytes.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn held_elsewhere(&self) -> Result<HeldElsewhere> {
        let mut ranges = Vec::new();
        // The last byte that a lock can have is beyond what a length can tell from 0.
        let mut left = vec![(0, i64::MAX - 1)];
        while let Some((start, end)) = left.pop() {
            // The kernel tells any one lock of those in the range, not the first.
            let found = self.call(libc::F_OFD_GETLK, libc::F_WRLCK, (start, end))?;
            if i32::from(found.l_type) == libc::F_UNLCK {
                continue;
            }
            let first = found.l_start.max(start);
            let last = match found.l_len {
                0 => end,
                length => end.min(found.l_start + (length - 1)),
            };
            ranges.push((first, last));
            if first > start {
                left.push((start, first - 1));
            }
            if last < end {
                left.push((last + 1, end));
            }
        }
        ranges.sort_unstable();
        Ok(HeldElsewhere(ranges))
    }
}

/// The range of the one byte at half of `offset`.
fn byte(offset: u64) -> (i64, i64) {
    let at = i64::try_from(offset >> 1).unwrap_or_default();
    (at, at)
}

/// Bytes that others held locks on when it was asked, as ranges that do not overlap, in order.
#[derive(Debug)]
pub struct HeldElsewhere(Vec<(i64, i64)>);

impl HeldElsewhere {
    /// Whether the byte at half of `offset` is among them.
    #[must_use]
    pub fn contains(&self, offset: u64) -> bool {
        let (at, _) = byte(offset);
        let after = self.0.partition_point(|(first, _)| *first <= at);
        after > 0 && at <= self.0[after - 1].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_others_hold_is_found_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks");
        let open = || LockFile::open(&path).unwrap();
        let (asks, one, two) = (open(), open(), open());
        assert!(!asks.held_elsewhere().unwrap().contains(0));
        asks.hold(u64::MAX, Hold::Alone).unwrap();
        asks.hold(50, Hold::Shared).unwrap();
        let last = u64::MAX >> 1;
        // Neighbours of one holder become one lock; two holders may share a byte.
        for at in [0, 2, 4, 50, 100, 1 << 40, last] {
            one.hold(at, Hold::Shared).unwrap();
        }
        for at in [4, 60, 100] {
            two.hold(at, Hold::Shared).unwrap();
        }
        let held = asks.held_elsewhere().unwrap();
        for at in [0, 2, 4, 50, 60, 100, 1 << 40, last] {
            assert!(held.contains(at), "{at}");
            assert!(asks.is_held_elsewhere(at).unwrap(), "{at}");
        }
        for at in [6, 48, 52, 58, 62, 98, 102, (1 << 40) + 2, last - 2] {
            assert!(!held.contains(at), "{at}");
            assert!(!asks.is_held_elsewhere(at).unwrap(), "{at}");
        }
        one.share_up_to(last - 2).unwrap();
        let held = asks.held_elsewhere().unwrap();
        for at in [0, 6, 62, (1 << 40) + 2, last - 2, last] {
            assert!(held.contains(at), "{at}");
            assert!(asks.is_held_elsewhere(at).unwrap(), "{at}");
        }
        assert!(!held.contains(last + 1), "{last}");
    }
}
