//! Layer tars: the entries of a layer, a deterministic writer and a strict reader
//! (OCI image specification, "Image Layer Filesystem Changeset").

mod entry;

pub use entry::{Entry, EntryKind, Timestamp};
