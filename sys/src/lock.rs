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
