//! What a name is, and what is known of it.

use rustix::fs;

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A unix socket.
    Socket,
}

/// The metadata of a file, as `lstat` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Allocated bytes.
    pub allocated: u64,
    /// Device that holds it.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Number of hard links.
    pub nlink: u64,
    /// Device number, for devices: (major, minor).
    pub rdev: (u32, u32),
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Inode change time: seconds and nanoseconds.
    pub ctime: (i64, u32),
}

impl Stat {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == FileKind::File
    }

    /// Whether it is overlayfs's mark of a removed file: a character device 0:0.
    pub fn is_overlay_whiteout(&self) -> bool {
        self.kind == FileKind::CharDevice && self.rdev == (0, 0)
    }
}

#[expect(
    clippy::cast_sign_loss,
    reason = "the kernel's sizes and nanoseconds are never negative"
)]
#[expect(
    clippy::unnecessary_cast,
    reason = "the field types differ between architectures"
)]
impl From<fs::Stat> for Stat {
    fn from(st: fs::Stat) -> Self {
        let kind = match fs::FileType::from_raw_mode(st.st_mode) {
            fs::FileType::Directory => FileKind::Directory,
            fs::FileType::Symlink => FileKind::Symlink,
            fs::FileType::CharacterDevice => FileKind::CharDevice,
            fs::FileType::BlockDevice => FileKind::BlockDevice,
            fs::FileType::Fifo => FileKind::Fifo,
            fs::FileType::Socket => FileKind::Socket,
            _ => FileKind::File,
        };
        Self {
            kind,
            mode: st.st_mode & 0o7777,
            uid: st.st_uid,
            gid: st.st_gid,
            size: st.st_size as u64,
            allocated: st.st_blocks as u64 * 512,
            dev: st.st_dev,
            ino: st.st_ino,
            nlink: st.st_nlink as u64,
            rdev: (rustix::fs::major(st.st_rdev), rustix::fs::minor(st.st_rdev)),
            mtime: (st.st_mtime as i64, st.st_mtime_nsec as u32),
            ctime: (st.st_ctime as i64, st.st_ctime_nsec as u32),
        }
    }
}
