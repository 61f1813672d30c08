//! A regular file that is being made.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, Uid};

use crate::error::{Context as _, Result};
use crate::root_dir::RootDir;
use crate::stat::{FileKind, Stat};
use crate::xattr;

/// A new file. All that it gets comes through its descriptor, so that no path is looked up again, and
/// only what differs from what the kernel gave it is set.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    /// For errors.
    path: PathBuf,
}

/// What a file has beside its content.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// The owner and the group.
    pub owner: (u32, u32),
    /// The permissions, with the set-id and sticky bits.
    pub mode: u32,
    /// Names and values of extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
}

impl RootDir {
    /// Creates a file for writing; anything already there is an error. It may have `mode` from the
    /// start, without set-id bits: where others could reach it too early, give less.
    ///
    /// # Errors
    /// It exists or cannot be made.
    pub fn new_file(&self, path: &Path, mode: u32) -> Result<NewFile> {
        Ok(NewFile {
            file: self.create_new(path, mode & 0o777)?.into(),
            path: path.to_path_buf(),
        })
    }
}

impl NewFile {
    /// For its content.
    pub fn content(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its attributes, when its content is there, and closes it.
    ///
    /// # Errors
    /// One of them cannot be set.
    pub fn finish(self, attributes: &Attributes) -> Result<()> {
        let made = Stat::from(fs::fstat(&self.file).ctx("stat", &self.path)?);
        let (uid, gid) = attributes.owner;
        let is_given = (made.uid, made.gid) != (uid, gid);
        if is_given {
            fs::fchown(
                &self.file,
                Some(Uid::from_raw(uid)),
                Some(Gid::from_raw(gid)),
            )
            .ctx("change owner of", &self.path)?;
        }
        // Before the mode: a read-only file takes them from root only, and the change of owner has
        // cleared set-id bits that the mode brings back.
        for (name, value) in &attributes.xattrs {
            xattr::set(&self.file, name, value)?;
        }
        if is_given || made.mode != attributes.mode || !attributes.xattrs.is_empty() {
            fs::fchmod(&self.file, Mode::from_raw_mode(attributes.mode))
                .ctx("set mode of", &self.path)?;
        }
        fs::futimens(&self.file, &attributes.time()).ctx("set times of", &self.path)
    }
}

impl Attributes {
    /// Gives them to whatever is open as `file`, also as a reference (`O_PATH`); errors name `path`. A symbolic link gets
    /// its owner alone, as Docker does it.
    ///
    /// # Errors
    /// One of them cannot be set.
    pub fn set_on(&self, path: &Path, file: impl AsFd) -> Result<()> {
        let file = file.as_fd();
        let made = Stat::from(fs::fstat(file).ctx("stat", path)?);
        let is_given = (made.uid, made.gid) != self.owner;
        if is_given {
            let owner = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
            let flags = AtFlags::EMPTY_PATH;
            fs::chownat(file, "", Some(owner.0), Some(owner.1), flags)
                .ctx("change owner of", path)?;
        }
        if made.kind == FileKind::Symlink {
            return Ok(());
        }
        for (name, value) in &self.xattrs {
            xattr::set(file, name, value)?;
        }
        // `fchmod` refuses a reference, and the kernel's own link leads to the file itself.
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        if is_given || made.mode != self.mode || !self.xattrs.is_empty() {
            fs::chmod(&link, Mode::from_raw_mode(self.mode)).ctx("set mode of", path)?;
        }
        let time = self.time();
        fs::utimensat(fs::CWD, &link, &time, AtFlags::empty()).ctx("set times of", path)
    }

    fn time(&self) -> Timestamps {
        let time = Timespec {
            tv_sec: self.mtime.0,
            tv_nsec: i64::from(self.mtime.1),
        };
        Timestamps {
            last_access: time,
            last_modification: time,
        }
    }
}

impl AsFd for NewFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
