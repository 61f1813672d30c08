//! What a layer says about one path.

/// A point in time of a file, as `stat` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds since 1970, negative before.
    pub secs: i64,
    /// Nanoseconds within the second, less than 10^9.
    pub nanos: u32,
}

impl Timestamp {
    /// A whole second.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self { secs, nanos: 0 }
    }
}

/// One path of a layer with its metadata. File data travels beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative and clean: no leading or trailing slash, no empty, `.` or `..` component. Empty
    /// for the root directory.
    pub path: Vec<u8>,
    /// What lies at the path.
    pub kind: EntryKind,
    /// Permission bits with set-user-id, set-group-id and sticky: at most `0o7777`.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// An entry owned by root, modified at the epoch, without attributes.
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind, mode: u32) -> Self {
        let (path, xattrs) = (path.into(), Vec::new());
        Self {
            path,
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs,
        }
    }

    /// The number of data bytes that follow the entry.
    #[must_use]
    pub const fn data_len(&self) -> u64 {
        match self.kind {
            EntryKind::File { size } => size,
            _ => 0,
        }
    }

    /// Whether the entry removes something from the layers below.
    #[must_use]
    pub const fn is_removal(&self) -> bool {
        matches!(self.kind, EntryKind::Whiteout | EntryKind::Opaque)
    }
}

/// The kind of a layer entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file with this many bytes of data.
    File {
        /// Bytes of data.
        size: u64,
    },
    /// Another name of a file of the same layer or of one below.
    Hardlink {
        /// The existing path, in the form of [`Entry::path`].
        target: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// The text of the link, untouched.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// The path (that of the removed file, not of the marker) is gone.
    Whiteout,
    /// The path is a directory of which nothing below shows through.
    Opaque,
}
