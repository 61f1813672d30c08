//! Why a layer is refused, and how much of one is too much.

use std::io;

/// Why a layer was refused.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The input failed.
    #[error("archive cannot be read")]
    Io(#[from] io::Error),
    /// The input does not begin as a tar does.
    #[error("it is not a tar archive")]
    NotTar,
    /// The input ends inside a header or a file.
    #[error("archive ends in the middle of an entry")]
    Truncated,
    /// A block that is no tar header.
    #[error("archive has a damaged header at byte {0}")]
    BadHeader(u64),
    /// An extended header breaks the format.
    #[error("archive has a damaged extended header before byte {0}")]
    BadExtension(u64),
    /// A path or link target that leaves the root, has a NUL byte or is too long.
    #[error("archive has the unsafe path `{0}`")]
    UnsafePath(String),
    /// A number that does not fit.
    #[error("archive gives `{path}` an impossible {field}")]
    BadNumber {
        /// The entry.
        path: String,
        /// Which number.
        field: &'static str,
    },
    /// A sparse file whose map does not fit.
    #[error("archive gives `{0}` a damaged map of its holes")]
    BadSparse(String),
    /// A sparse file in the form of before extended headers, which few programs read.
    #[error(
        "`{0}` is a sparse file in the old form of GNU tar, which is not read; \
         `tar --format=posix` writes one that is"
    )]
    OldSparse(String),
    /// A kind of entry that is not supported.
    #[error("`{path}` is of the unsupported kind {kind}")]
    Unsupported {
        /// The entry.
        path: String,
        /// What it is.
        kind: String,
    },
    /// More than [`Limits`] allow.
    #[error("archive has more {0} than allowed")]
    TooMuch(&'static str),
}

/// How much a layer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries, removals included.
    pub entries: u64,
    /// Bytes of file data, unpacked.
    pub bytes: u64,
}

impl Default for Limits {
    /// 16 million entries and 1 TiB.
    fn default() -> Self {
        Self {
            entries: 16 << 20,
            bytes: 1 << 40,
        }
    }
}
