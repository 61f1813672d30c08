//! What can go wrong in the store.

use std::path::PathBuf;

use kiln_image::{Compression, DiffId, Digest};
use kiln_sys::FsError;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    System(#[from] FsError),
    /// The database refused.
    #[error("the store's database: {0}")]
    Database(#[source] rusqlite::Error),
    /// The system refused the database something.
    #[error("the store's database: {0}")]
    DatabaseFile(#[source] std::io::Error),
    /// The linked SQLite has a known corruption bug.
    #[error("SQLite {0} is too old: versions before 3.51.3 can corrupt a database in use")]
    SqliteTooOld(String),
    /// The store cannot be opened.
    #[error("cannot open the store at `{}`: {why}", path.display())]
    Open {
        /// Its root.
        path: PathBuf,
        /// Why.
        #[source]
        why: std::io::Error,
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
    #[error(transparent)]
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
    #[error("entry `{path}`: {why}")]
    Entry {
        /// Path in the layer.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A cache mount has more than can be shared.
    #[error("it has more than {} GiB or too many pieces", .0 >> 30)]
    MountTooLarge(u64),
    /// An image is not in the store.
    #[error("no image `{name}`")]
    NoImage {
        /// What was looked for.
        name: String,
        /// A name in the store that may have been meant.
        near: Option<String>,
    },
    /// There is no such cache mount.
    #[error("no cache mount `{0}`")]
    NoMount(String),
    /// An id prefix stands for several images.
    #[error("`{0}` is the start of more than one image id")]
    Ambiguous(String),
    /// Another process has made the database anew, without what this one has written.
    #[error(
        "the store's database was damaged, and another process has made it anew meanwhile: run the command again"
    )]
    Replaced,
    /// Stored data does not make sense.
    #[error("the store holds a damaged {0}")]
    Damaged(String),
    /// A layer is not in the store any more.
    #[error("layer {0} is gone from the store")]
    LayerGone(DiffId),
    /// The layer of a result is not in the store any more.
    #[error("layer {0} is gone from the store")]
    LayerLost(String),
    /// The files of a layer do not give the tar any more that they once gave.
    #[error("layer {diff_id} cannot be made again from its files: {why}")]
    LayerNotRepeatable {
        /// The layer.
        diff_id: DiffId,
        /// What happened.
        #[source]
        why: std::io::Error,
    },
    /// A layer cannot be compressed in this way.
    #[error("layers are not written as {0}")]
    NoLayerForm(Compression),
    /// A thread that did some work panicked.
    #[error("a worker thread ended unexpectedly: {0}")]
    Thread(String),
    /// A path does not exist in a tree.
    #[error("`{0}` not found")]
    PathNotFound(String),
}

impl Error {
    /// An error of a file operation; `what` was to be done.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    /// Whether the database is damaged.
    pub fn is_damaged_database(&self) -> bool {
        use rusqlite::Error::{
            FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, SqlInputError,
            SqliteFailure, Utf8Error,
        };
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let Self::Database(error) = self else {
            return false;
        };
        match error {
            SqliteFailure(e, _) => {
                matches!(e.code, DatabaseCorrupt | NotADatabase)
                    // A statement of kiln's that cannot be compiled: a table or column is not there.
                    || e.extended_code == rusqlite::ffi::SQLITE_ERROR
                    // Pages are missing at its end.
                    || e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHORT_READ
            }
            SqlInputError { .. }
            | FromSqlConversionFailure(..)
            | IntegralValueOutOfRange(..)
            | InvalidColumnType(..)
            | Utf8Error(..) => true,
            _ => false,
        }
    }

    /// Whether SQLite could not open a file of the database.
    pub(crate) fn is_unopened_database(&self) -> bool {
        let Self::Database(rusqlite::Error::SqliteFailure(error, _)) = self else {
            return false;
        };
        error.code == rusqlite::ErrorCode::CannotOpen
    }

    /// Whether the disk or the quota is full.
    pub fn is_no_space(&self) -> bool {
        is_no_space(self)
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        // What SQLite was told last: it keeps no account of that for others.
        let told = std::io::Error::last_os_error();
        match is_of_system(&error) && told.raw_os_error().is_some_and(|number| number != 0) {
            true => Self::DatabaseFile(told),
            false => Self::Database(error),
        }
    }
}

/// Whether the system refused SQLite an operation on a file: a full disk, a broken one and a limit of the
/// process are all the same to it.
fn is_of_system(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{
        SQLITE_IOERR_FSTAT, SQLITE_IOERR_FSYNC, SQLITE_IOERR_READ, SQLITE_IOERR_SHMMAP,
        SQLITE_IOERR_SHMOPEN, SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE,
    };
    let rusqlite::Error::SqliteFailure(error, _) = error else {
        return false;
    };
    matches!(
        error.extended_code,
        SQLITE_IOERR_FSTAT
            | SQLITE_IOERR_FSYNC
            | SQLITE_IOERR_READ
            | SQLITE_IOERR_SHMMAP
            | SQLITE_IOERR_SHMOPEN
            | SQLITE_IOERR_SHMSIZE
            | SQLITE_IOERR_TRUNCATE
            | SQLITE_IOERR_WRITE
    )
}

/// Whether a full disk or quota is the reason of an error, however deep.
pub fn is_no_space(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{QuotaExceeded, StorageFull};
            if matches!(io.kind(), StorageFull | QuotaExceeded) {
                return true;
            }
            // An error inside of an I/O error is not among its sources, only that one's are.
            if let Some(inner) = io.get_ref()
                && is_no_space(inner)
            {
                return true;
            }
        }
        if let Some(rusqlite::Error::SqliteFailure(e, _)) = error.downcast_ref()
            && e.code == rusqlite::ErrorCode::DiskFull
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// Result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Does work with the store on the pool of blocking threads.
///
/// # Errors
/// Those of the work; or it panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::Thread(e.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_seen_through_all_wrappings() {
        let full = || std::io::Error::from_raw_os_error(28);
        let sqlite = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        let full_errors = [
            Error::io("write", full()),
            Error::io("write", std::io::Error::from_raw_os_error(122)),
            Error::io("copy", std::io::Error::other(Error::io("write", full()))),
            Error::System(FsError::new("make", "x", full())),
            Error::Database(rusqlite::Error::SqliteFailure(sqlite, None)),
        ];
        for error in full_errors {
            assert!(error.is_no_space(), "{error}");
        }
        assert!(!Error::io("write", std::io::Error::from_raw_os_error(5)).is_no_space());
    }

    #[test]
    fn what_the_database_was_refused_is_told_by_the_system() {
        use rusqlite::ffi::{SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_WRITE};
        // Each leaves an error number behind.
        let full = || drop(std::fs::write("/dev/full", "x"));
        let missing = || drop(std::fs::read("/nosuch"));
        let cases: [(i32, &dyn Fn(), &str, bool); 5] = [
            (SQLITE_IOERR_WRITE, &full, "No space left", true),
            (SQLITE_IOERR_SHMSIZE, &full, "No space left", true),
            (SQLITE_IOERR_SHMSIZE, &missing, "(os error 2)", false),
            (SQLITE_IOERR_SHORT_READ, &full, "disk I/O error", false),
            (rusqlite::ffi::SQLITE_FULL, &missing, "full", true),
        ];
        for (code, refused, told, no_space) in cases {
            let error = rusqlite::ffi::Error::new(code);
            let text = Some(error.to_string()).filter(|_| told == "full");
            let error = rusqlite::Error::SqliteFailure(error, text);
            refused();
            let error = Error::from(error);
            assert!(error.to_string().contains(told), "{code}: {error}");
            assert_eq!(error.is_no_space(), no_space, "{code}: {error}");
        }
    }
}
