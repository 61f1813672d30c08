//! [`RootDir`]: the only way into a foreign tree (root file system, context, archive target).
//!
//! A path given to it is resolved by the kernel with `openat2(RESOLVE_IN_ROOT |
//! RESOLVE_NO_MAGICLINKS)`: `..` and absolute symbolic links stay below the root, and links of
//! /proc lead nowhere. Operations on a name never follow a link in the last component unless
//! they say so.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::error::{Context as _, FsError, Result, place_of};
use crate::stat::{FileKind, Stat};

const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// A name in a directory, with its kind where the file system tells it.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// The name, without its directory.
    pub name: OsString,
    /// The kind, if the file system put it into the entry.
    pub kind: Option<FileKind>,
    /// The inode number.
    pub ino: u64,
}

/// A directory that paths cannot leave.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for RootDir {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

/// `path` in the form that `openat2` takes below a root: empty means the root itself.
fn rel(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

impl RootDir {
    /// Opens a trusted path of this machine as a root.
    pub fn open_trusted(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty()).ctx("open directory", path)?;
        Ok(Self { fd })
    }

    /// Another handle on the same directory.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            fd: (self.fd.try_clone())
                .map_err(|e| FsError::new("duplicate the handle of", place_of(self), e))?,
        })
    }

    /// The directory at `path` as a root of its own; links are followed inside this root.
    pub fn sub_dir(&self, path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            fd: self.open_at(path, flags, 0, "open directory")?,
        })
    }

    /// The directory `name` of this one; none if something else has that name, such as a link to a directory.
    pub fn own_dir(&self, name: &Path) -> Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        match self.open_at(name, flags, 0, "open directory") {
            Ok(fd) => Ok(Some(Self { fd })),
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory || e.is_loop() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The error of an operation on `path`. The root itself has no name here, and is told of by its place.
    fn failed(&self, op: &'static str, path: &Path, error: impl Into<std::io::Error>) -> FsError {
        match path.as_os_str().is_empty() {
            true => FsError::new(op, place_of(self), error),
            false => FsError::new(op, path, error),
        }
    }

    fn open_at(&self, path: &Path, flags: OFlags, mode: u32, op: &'static str) -> Result<OwnedFd> {
        let mode = Mode::from_raw_mode(mode);
        loop {
            match fs::openat2(&self.fd, rel(path), flags | OFlags::CLOEXEC, mode, RESOLVE) {
                // The kernel could not make sure of a `..` because of a rename elsewhere.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other.map_err(|e| self.failed(op, path, e)),
            }
        }
    }

    /// Opens an existing file for reading, following links inside the root. Does not block on a
    /// named pipe.
    pub fn open_read(&self, path: &Path) -> Result<OwnedFd> {
        self.open_at(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
            0,
            "open",
        )
    }

    /// Opens an existing file for reading; a link in the last place is an error.
    pub fn open_read_nofollow(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        self.open_untouched(path, flags, "open")
    }

    /// Opens for reading without a note of it on the disk, which costs more than to read a small
    /// file. The kernel allows that to owners and to root.
    fn open_untouched(&self, path: &Path, flags: OFlags, op: &'static str) -> Result<OwnedFd> {
        match self.open_at(path, flags | OFlags::NOATIME, 0, op) {
            Err(e) if e.source.raw_os_error() == Some(libc::EPERM) => {
                self.open_at(path, flags, 0, op)
            }
            other => other,
        }
    }

    /// Opens any object as a reference (`O_PATH`), following links inside the root.
    pub fn open_path(&self, path: &Path) -> Result<OwnedFd> {
        self.open_at(path, OFlags::PATH, 0, "open")
    }

    /// Opens any object as a reference (`O_PATH`) without following a link in the last place.
    pub fn open_path_nofollow(&self, path: &Path) -> Result<OwnedFd> {
        self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, 0, "open")
    }

    /// Creates a new regular file for writing; anything already there is an error.
    pub fn create_new(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        self.open_at(path, flags, mode, "create")
    }

    /// Reads a regular file of at most `limit` bytes, following links inside the root.
    /// Pipes, devices and larger files are errors. A device is not even opened: that alone may do
    /// something.
    pub fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        bounded(&self.open_regular(path)?, path, limit)
    }

    /// Opens a regular file for reading, following links inside the root. Nothing else is even opened.
    ///
    /// # Errors
    /// It is no regular file, or cannot be read.
    pub fn open_regular(&self, path: &Path) -> Result<File> {
        let seen = self.open_path(path)?;
        let st = Stat::from(fs::fstat(&seen).ctx("stat", path)?);
        if !st.is_file() {
            return Err(not_regular(path));
        }
        reopen(&seen, OFlags::NONBLOCK).ctx("open", path)
    }

    /// Metadata of an open file.
    pub fn stat_of(fd: impl AsFd) -> Result<Stat> {
        let st = fs::fstat(&fd).map_err(|e| FsError::new("stat", place_of(&fd), e))?;
        Ok(st.into())
    }

    /// Metadata of what `path` leads to.
    pub fn stat(&self, path: &Path) -> Result<Stat> {
        let fd = self.open_path(path)?;
        Ok(fs::fstat(fd).ctx("stat", path)?.into())
    }

    /// Metadata of `path` itself, links not followed in the last place.
    pub fn lstat(&self, path: &Path) -> Result<Stat> {
        if path.as_os_str().is_empty() {
            let st = fs::fstat(&self.fd).map_err(|e| self.failed("stat", path, e))?;
            return Ok(st.into());
        }
        if is_plain_name(path) {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            return Ok(fs::statat(&self.fd, path, flags).ctx("stat", path)?.into());
        }
        let fd = self.open_path_nofollow(path)?;
        Ok(fs::fstat(fd).ctx("stat", path)?.into())
    }

    /// Metadata of `path` itself, or nothing where there is nothing.
    pub fn try_lstat(&self, path: &Path) -> Result<Option<Stat>> {
        match self.lstat(path) {
            Ok(st) => Ok(Some(st)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The names in a directory, in the file system's order.
    pub fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let all = self.read_small_dir(path, usize::MAX)?;
        Ok(all.unwrap_or_default())
    }

    /// The same of a directory with at most `most` names; none if there are more.
    pub fn read_small_dir(&self, path: &Path, most: usize) -> Result<Option<Vec<DirEntry>>> {
        let fd = self.open_untouched(path, OFlags::RDONLY | OFlags::DIRECTORY, "list")?;
        let mut out = Vec::new();
        let failed = |e| self.failed("list", path, e);
        for entry in fs::Dir::new(fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if out.len() >= most {
                return Ok(None);
            }
            let kind = match entry.file_type() {
                fs::FileType::RegularFile => Some(FileKind::File),
                fs::FileType::Directory => Some(FileKind::Directory),
                fs::FileType::Symlink => Some(FileKind::Symlink),
                fs::FileType::CharacterDevice => Some(FileKind::CharDevice),
                fs::FileType::BlockDevice => Some(FileKind::BlockDevice),
                fs::FileType::Fifo => Some(FileKind::Fifo),
                fs::FileType::Socket => Some(FileKind::Socket),
                fs::FileType::Unknown => None,
            };
            out.push(DirEntry {
                name: OsStr::from_bytes(name).to_owned(),
                kind,
                ino: entry.ino(),
            });
        }
        Ok(Some(out))
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf> {
        let (dir, name) = self.parent_of(path)?;
        let target = fs::readlinkat(&dir, &name, Vec::new()).ctx("read link", path)?;
        Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    /// The directory that holds the last component of `path` (links before it followed inside
    /// the root), and that component.
    pub fn parent_of(&self, path: &Path) -> Result<(RootDir, OsString)> {
        let Some(Component::Normal(name)) = path.components().next_back() else {
            let why = std::io::Error::from(std::io::ErrorKind::InvalidInput);
            return Err(self.failed("resolve", path, why));
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((self.sub_dir(parent)?, name.to_owned()))
    }

    /// Runs `f` on the directory fd and name of `path` without opening the parent again where
    /// `path` is one plain name.
    fn at<T>(
        &self,
        path: &Path,
        op: &'static str,
        f: impl FnOnce(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<T>,
    ) -> Result<T> {
        if is_plain_name(path) {
            return f(self.fd.as_fd(), path.as_os_str()).ctx(op, path);
        }
        let (dir, name) = self.parent_of(path)?;
        f(dir.as_fd(), &name).ctx(op, path)
    }

    /// Makes one directory.
    pub fn mkdir(&self, path: &Path, mode: u32) -> Result<()> {
        self.at(path, "make directory", |d, n| {
            fs::mkdirat(d, n, Mode::from_raw_mode(mode))
        })
    }

    /// Makes the directories of `path` that are missing, following links inside the root, and
    /// calls `made` with each new one. Returns the last as a root.
    pub fn mkdir_all(
        &self,
        path: &Path,
        mode: u32,
        made: &mut dyn FnMut(&RootDir, &Path) -> Result<()>,
    ) -> Result<RootDir> {
        let mut so_far = PathBuf::new();
        let mut here = self.try_clone()?;
        for part in path.components() {
            // Each step goes from the last directory: walking from the root would take as many steps again.
            let own = match part {
                Component::Normal(name) => {
                    so_far.push(name);
                    here.own_dir(Path::new(name))
                }
                Component::ParentDir => {
                    so_far.push("..");
                    Ok(None)
                }
                _ => continue,
            };
            here = match own {
                Ok(Some(dir)) => dir,
                // Where a link leads, only the root tells.
                Ok(None) => match self.sub_dir(&so_far) {
                    Ok(dir) => dir,
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                        // A link whose target is missing: make the target, as `mkdir -p` on the
                        // resolved path would.
                        match self.dangling_target(&so_far, 0)? {
                            Some(target) => self.mkdir_all(&target, mode, made)?,
                            None => self.make_next(&here, &so_far, mode, made)?,
                        }
                    }
                    Err(e) => return Err(e),
                },
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    self.make_next(&here, &so_far, mode, made)?
                }
                Err(e) => return Err(e),
            };
        }
        Ok(here)
    }

    /// Makes the last directory of a path, in the one before it.
    fn make_next(
        &self,
        here: &RootDir,
        so_far: &Path,
        mode: u32,
        made: &mut dyn FnMut(&RootDir, &Path) -> Result<()>,
    ) -> Result<RootDir> {
        let name = Path::new(so_far.file_name().unwrap_or_default());
        match here.mkdir(name, mode) {
            Ok(()) => {
                let new = here.sub_dir(name)?;
                chmod_fd(&new.fd, mode).ctx("set mode of", so_far)?;
                made(&new, so_far)?;
                Ok(new)
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => self.sub_dir(so_far),
            Err(e) => Err(e),
        }
    }

    /// Where a dangling link at `path` points in the end, as a path below this root: what is to be
    /// made there. None where there is no link. `..` stays in the path, for the kernel to resolve:
    /// what is before it may be a link itself.
    ///
    /// # Errors
    /// More than 40 links in a row, or one that cannot be read.
    pub fn dangling(&self, path: &Path) -> Result<Option<PathBuf>> {
        self.dangling_target(path, 0)
    }

    fn dangling_target(&self, path: &Path, depth: usize) -> Result<Option<PathBuf>> {
        match self.try_lstat(path)? {
            Some(st) if st.kind == FileKind::Symlink => {
                if depth > 40 {
                    return Err(FsError::new("resolve", path, Errno::LOOP));
                }
                let link = self.read_link(path)?;
                let base = if link.is_absolute() {
                    PathBuf::new()
                } else {
                    path.parent().map(Path::to_path_buf).unwrap_or_default()
                };
                let target = base.join(link.strip_prefix("/").unwrap_or(&link));
                Ok(Some(
                    self.dangling_target(&target, depth + 1)?.unwrap_or(target),
                ))
            }
            _ => Ok(None),
        }
    }

    /// Makes a symbolic link at `path`.
    pub fn symlink(&self, target: &OsStr, path: &Path) -> Result<()> {
        self.at(path, "make link", |d, n| fs::symlinkat(target, d, n))
    }

    /// Makes `path` another name of `existing`; neither link in the last place is followed.
    pub fn hard_link(&self, existing: &Path, path: &Path) -> Result<()> {
        let (from, from_name) = self.parent_of(existing)?;
        self.at(path, "hard link", |d, n| {
            fs::linkat(&from, &from_name, d, n, AtFlags::empty())
        })
    }

    /// Makes a device, pipe or socket node.
    pub fn mknod(&self, path: &Path, kind: FileKind, mode: u32, rdev: (u32, u32)) -> Result<()> {
        let file_type = match kind {
            FileKind::CharDevice => fs::FileType::CharacterDevice,
            FileKind::BlockDevice => fs::FileType::BlockDevice,
            FileKind::Socket => fs::FileType::Socket,
            FileKind::Fifo => fs::FileType::Fifo,
            _ => fs::FileType::RegularFile,
        };
        let dev = fs::makedev(rdev.0, rdev.1);
        self.at(path, "make node", |d, n| {
            fs::mknodat(d, n, file_type, Mode::from_raw_mode(mode), dev)
        })
    }

    /// Removes a name that is not a directory.
    pub fn unlink(&self, path: &Path) -> Result<()> {
        self.at(path, "remove", |d, n| fs::unlinkat(d, n, AtFlags::empty()))
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, path: &Path) -> Result<()> {
        self.at(path, "remove directory", |d, n| {
            fs::unlinkat(d, n, AtFlags::REMOVEDIR)
        })
    }

    /// Renames inside the root.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (dir, name) = self.parent_of(from)?;
        self.at(to, "rename", |d, n| fs::renameat(&dir, &name, d, n))
    }

    /// Changes the owner of `path` itself.
    pub fn chown(&self, path: &Path, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        if path.as_os_str().is_empty() {
            return fs::chownat(&self.fd, "", uid, gid, AtFlags::EMPTY_PATH)
                .map_err(|e| self.failed("change owner of", path, e));
        }
        self.at(path, "change owner of", |d, n| {
            fs::chownat(d, n, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Changes the mode of `path`, which must not be a link.
    pub fn chmod(&self, path: &Path, mode: u32) -> Result<()> {
        if path.as_os_str().is_empty() {
            return chmod_fd(&self.fd, mode).map_err(|e| self.failed("set mode of", path, e));
        }
        let fd = self.open_path_nofollow(path)?;
        chmod_fd(&fd, mode).ctx("set mode of", path)
    }

    /// Sets access and modification time of `path` itself.
    pub fn set_mtime(&self, path: &Path, mtime: (i64, u32)) -> Result<()> {
        let t = Timespec {
            tv_sec: mtime.0,
            tv_nsec: i64::from(mtime.1),
        };
        let times = Timestamps {
            last_access: t,
            last_modification: t,
        };
        if path.as_os_str().is_empty() {
            let proc_path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
            return fs::utimensat(fs::CWD, proc_path, &times, AtFlags::empty())
                .map_err(|e| self.failed("set times of", path, e));
        }
        self.at(path, "set times of", |d, n| {
            fs::utimensat(d, n, &times, AtFlags::SYMLINK_NOFOLLOW)
        })
    }
}

/// The error of a path that is no regular file.
pub(crate) fn not_regular(path: &Path) -> FsError {
    let why = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file");
    FsError::new("read", path, why)
}

/// Opens what a reference (`O_PATH`) refers to for reading.
pub(crate) fn reopen(seen: &OwnedFd, flags: OFlags) -> rustix::io::Result<File> {
    let again = format!("/proc/self/fd/{}", seen.as_raw_fd());
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(fs::open(again, flags, Mode::empty())?.into())
}

/// All bytes of a file, which are no more than `limit`.
pub(crate) fn bounded(file: &File, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .ctx("read", path)?;
    if bytes.len() as u64 > limit {
        let why = format!("larger than {limit} bytes, which kiln reads here at most");
        let why = std::io::Error::new(std::io::ErrorKind::FileTooLarge, why);
        return Err(FsError::new("read", path, why));
    }
    Ok(bytes)
}

/// Changes the mode through an `O_PATH` descriptor, which plain `fchmod` refuses.
fn chmod_fd(fd: &OwnedFd, mode: u32) -> rustix::io::Result<()> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    fs::chmod(path, Mode::from_raw_mode(mode))
}

fn is_plain_name(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    !bytes.is_empty() && bytes != b"." && bytes != b".." && !bytes.contains(&b'/')
}

mod removal;
#[cfg(test)]
mod tests;
