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

    fn call(&self, command: i32, kind: i32, offset: u64) -> Result<libc::flock> {
        // SAFETY: an all-zero flock is a valid value of this plain C structure.
        let mut range: libc::flock = unsafe { std::mem::zeroed() };
        range.l_type = i16::try_from(kind).unwrap_or_default();
        range.l_whence = i16::try_from(libc::SEEK_SET).unwrap_or_default();
        range.l_start = i64::try_from(offset >> 1).unwrap_or_default();
        range.l_len = 1;
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
        self.call(libc::F_OFD_SETLKW, kind, offset).map(drop)
    }

    /// Whether another open file holds a lock on the byte at half of `offset`.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn is_held_elsewhere(&self, offset: u64) -> Result<bool> {
        let found = self.call(libc::F_OFD_GETLK, libc::F_WRLCK, offset)?;
        Ok(i32::from(found.l_type) != libc::F_UNLCK)
    }
}
