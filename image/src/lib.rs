//! The vocabulary of container images: digests, references, platforms, descriptors, configs,
//! manifests, layer tars, compression and archives.
//!
//! Everything here is synchronous and works on bytes, readers and writers that the caller owns.
//! The crate knows no network, no store and no Dockerfile. Digests always come from raw bytes,
//! never from a value that was parsed and serialised again.
#![forbid(unsafe_code)]

pub mod archive;
mod causes;
pub mod compression;
pub mod config;
pub mod descriptor;
pub mod digest;
mod full;
mod json;
pub mod layer;
pub mod manifest;
pub mod platform;
pub mod reference;
mod safe_url;
pub mod search;
pub mod validate;
pub mod verify;

pub use causes::{innermost, with_causes};
pub use compression::Compression;
pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::{Descriptor, media_type};
pub use digest::{Algorithm, ChainId, DiffId, Digest, DigestError, Hasher, Sha256Writer};
pub use full::read_full;
pub use layer::{Entry, EntryKind, Timestamp};
pub use manifest::{ImageIndex, ImageManifest, Manifest, ManifestError, Parsed};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use safe_url::SafeUrl;
pub use verify::{Mismatch, VerifyingReader};
