//! Extended attributes of open files and of names in a [`RootDir`], links never followed.

use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;

use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;

use crate::RootDir;
use crate::error::{Context as _, FsError, Result, place_of};

/// The largest attribute value that Linux allows.
const MAX_VALUE: usize = 64 * 1024;

fn fd_path(fd: impl AsFd) -> String {
    // The magic link leads to the inode itself, also for a symbolic link opened with O_PATH.
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// All attributes of an open file (also `O_PATH`), sorted by name. A file system without
/// attributes has none.
pub fn list(fd: impl AsFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = fd_path(&fd);
    let mut names = vec![0_u8; 256];
    let len = loop {
        match fs::listxattr(&path, &mut names[..]) {
            Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::BADF) => return Ok(Vec::new()),
            Ok(len) => break len,
            Err(Errno::RANGE) if names.len() < MAX_VALUE => {
                names.resize(names.len() * 4, 0);
            }
            Err(e) => return Err(e).ctx("list attributes of", place_of(&fd)),
        }
    };
    let mut out = Vec::new();
    for name in names[..len].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        if let Some(value) = get(&fd, name)? {
            out.push((name.to_vec(), value));
        }
    }
    out.sort();
    Ok(out)
}

/// One attribute of an open file (also `O_PATH`).
pub fn get(fd: impl AsFd, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let path = fd_path(&fd);
    let mut value = vec![0_u8; 256];
    loop {
        match fs::getxattr(&path, name, &mut value[..]) {
            Ok(len) => {
                value.truncate(len);
                return Ok(Some(value));
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => return Ok(None),
            Err(Errno::RANGE) if value.len() < MAX_VALUE => value.resize(MAX_VALUE, 0),
            Err(e) => return Err(e).ctx("read attributes of", place_of(&fd)),
        }
    }
}

/// Sets one attribute of an open file (also `O_PATH`).
pub fn set(fd: impl AsFd, name: &[u8], value: &[u8]) -> Result<()> {
    let path = fd_path(&fd);
    fs::setxattr(&path, name, value, XattrFlags::empty())
        .map_err(|e| FsError::new("set attribute of", place_of(&fd), e))
}

impl RootDir {
    /// All attributes of `path` itself, sorted by name.
    pub fn xattrs(&self, path: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if path.as_os_str().is_empty() {
            return list(self);
        }
        list(self.open_path_nofollow(path)?)
    }

    /// One attribute of `path` itself.
    pub fn xattr(&self, path: &Path, name: &[u8]) -> Result<Option<Vec<u8>>> {
        if path.as_os_str().is_empty() {
            return get(self, name);
        }
        get(self.open_path_nofollow(path)?, name)
    }

    /// Sets one attribute of `path` itself.
    pub fn set_xattr(&self, path: &Path, name: &[u8], value: &[u8]) -> Result<()> {
        if path.as_os_str().is_empty() {
            return set(self, name, value);
        }
        set(self.open_path_nofollow(path)?, name, value)
    }
}

/// All attributes of a file that is open for reading or writing, sorted by name: one call where
/// there are none, which is nearly always.
pub fn list_open(fd: impl AsFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    // One byte is too small for any name: `ERANGE` says that there are some.
    match fs::flistxattr(&fd, &mut [0_u8; 1][..]) {
        Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Vec::new()),
        _ => list(fd),
    }
}
