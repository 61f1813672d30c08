//! What can go wrong in the store.

use std::path::PathBuf;

use kiln_image::Digest;
use kiln_sys::FsError;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    System(#[from] FsError),
    /// The database refused.
    #[error("the store's database: {0}")]
    Database(#[from] rusqlite::Error),
    /// The linked SQLite has a known corruption bug.
    #[error("SQLite {0} is too old: versions before 3.51.3 can corrupt a database in use")]
    SqliteTooOld(String),
    /// The store cannot be opened.
    #[error("cannot open the store at `{}`: {why}", path.display())]
    Open {
        /// Its root.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A blob is not in the store.
    #[error("blob {0} is not in the store")]
    BlobMissing(Digest),
    /// Bytes do not have the digest that they should.
    #[error("content has digest {found}, and {wanted} was expected")]
    WrongDigest {
        /// Expected.
        wanted: Digest,
        /// Found.
        found: Digest,
    },
    /// A layer cannot be read.
    #[error("layer: {0}")]
    Layer(#[from] kiln_image::layer::LayerError),
    /// Reading or writing a stream failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A layer has an entry that does not fit below it.
    #[error("layer entry `{path}`: {why}")]
    Entry {
        /// Path in the layer.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// An image is not in the store.
    #[error("no image `{0}`")]
    NoImage(String),
    /// An id prefix stands for several images.
    #[error("`{0}` is the start of more than one image id")]
    Ambiguous(String),
    /// Stored data does not make sense.
    #[error("the store holds a damaged {0}")]
    Damaged(String),
    /// A path does not exist in a tree.
    #[error("`{0}` not found")]
    PathNotFound(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::System(e) => e.is_no_space(),
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

/// Result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;
