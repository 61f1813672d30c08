//! The error of a file or mount operation: what was tried, on what, and why it failed.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};

/// A failed system call, with the operation in words and the path it concerned.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} `{}`: {source}", path.display())]
pub struct FsError {
    /// The operation as a verb phrase, such as `open` or `mount overlay on`.
    pub op: &'static str,
    /// The path as the caller gave it, relative to its root; of the root itself, where that is.
    pub path: PathBuf,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

impl FsError {
    /// Names the operation and the path of a failed call.
    pub fn new(op: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self {
            op,
            path: path.as_ref().to_path_buf(),
            source: source.into(),
        }
    }

    /// The kernel's error kind.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the object was not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
            || self.source.raw_os_error() == Some(libc::ENOTDIR)
    }

    /// Whether the file system cannot do it.
    pub fn is_unsupported(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EOPNOTSUPP)
    }

    /// Whether links lead in a circle.
    pub fn is_loop(&self) -> bool {
        self.source.raw_os_error() == Some(libc::ELOOP)
    }

    /// Whether the disk or the quota is full.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.raw_os_error(),
            Some(libc::ENOSPC | libc::EDQUOT)
        )
    }
}

/// Where an open file or directory is, for an error about it: its path, as far as the kernel knows one.
pub(crate) fn place_of(fd: impl AsFd) -> PathBuf {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    std::fs::read_link(&link).unwrap_or_else(|_| link.into())
}

/// Result of a system operation.
pub type Result<T> = std::result::Result<T, FsError>;

/// Adds the operation and path to an errno-like error.
pub(crate) trait Context<T> {
    fn ctx(self, op: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn ctx(self, op: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| FsError::new(op, path, e))
    }
}
