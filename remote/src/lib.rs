//! Remote caches: places where hosts leave results of steps for each other.
//!
//! Every result is one small record under the step's key, and one blob, the layer. Nothing is ever
//! rewritten as a whole, so any number of hosts write at once. A remote is advisory: it costs time
//! and a warning when it is slow, away or wrong, never a build. What comes from it is checked:
//! records by their key and, where that is asked for, their signature; blobs by their digest.
//!
//! | kind | record | layer | bundle |
//! |---|---|---|---|
//! | registry | manifest under the tag `k1-<name>`; the record is an annotation | blob of the repository | the same, `b1-<name>` |
//! | directory, S3 | `records-v1/<xx>/<name>` | `blobs/sha256/<hex>` | `bundles-v1/<xx>/<name>` |
//!
//! `<name>` is a hash of the namespace and the key: who does not know a namespace finds nothing.
//! Fingerprints of what steps copied from other results are kept in the same way, without a blob, and
//! cache mounts with a blob for each of their pieces. Bundles have copies of what the steps of a build
//! looked up, so that the next one with the same steps asks for all of it at once.
#![forbid(unsafe_code)]

mod backend;
mod breaker;
mod caches;

mod error;
mod limits;
mod pace;
mod record;
mod remote;
mod sending;
mod spec;
#[cfg(test)]
mod testing;
mod trust;
mod words;

pub use caches::{
    ClaimOutcome, ExportSummary, FetchError, HeldClaim, MountSummary, RemoteCaches, Remotes,
    SharedLayer, WantedMount,
};
pub use error::RemoteError;
pub use record::RemoteRecord;
pub use remote::{
    Claim, Claimed, Held, INLINE_CACHE, InlineCache, InlineRecord, Remote, RemoteMount, Rewrite,
    Waiting,
};
pub use spec::{BucketSettings, Mode, RemoteKind, RemoteSpec, S3Spec, SpecError};
pub use trust::{SigningKey, Trust, TrustError, VerifyingKey};
