//! Layer tars: the entries of a layer, a deterministic writer and a strict reader
//! (OCI image specification, "Image Layer Filesystem Changeset").

mod data;
mod entry;
mod error;
mod header;
mod overrides;
mod path;
mod pax;
mod reader;
mod sparse;
mod writer;
mod xattr;

pub use data::{EntryData, FileData};
pub use entry::{Entry, EntryKind, Timestamp};
pub use error::{LayerError, Limits};
pub use path::clean_path;
pub use reader::LayerReader;
pub use sparse::{Run, SparseCursor, SparseMap};
pub use writer::{LayerWriter, Output};

/// The size of a tar block.
const BLOCK: usize = 512;
/// In front of the name of what a layer removes.
const WHITEOUT: &[u8] = b".wh.";
/// In front of aufs' own files, which mean nothing elsewhere.
const WHITEOUT_META: &[u8] = b".wh..wh.";
/// The marker of a directory that hides what lies below.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// In front of the name of an extended attribute in a PAX record.
const XATTR: &[u8] = b"SCHILY.xattr.";
/// The same in libarchive's form, in which name and value are encoded, so that the name may have an
/// equals sign.
const ENCODED_XATTR: &[u8] = b"LIBARCHIVE.xattr.";

/// Zero bytes up to the next block.
fn padding(size: u64) -> usize {
    ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize
}

#[cfg(test)]
mod tests;
