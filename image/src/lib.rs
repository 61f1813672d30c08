//! The vocabulary of container images: digests, references, platforms, descriptors, configs,
//! manifests, layer tars, compression and archives.
//!
//! Everything here is synchronous and works on bytes, readers and writers that the caller owns.
//! The crate knows no network, no store and no Dockerfile. Digests always come from raw bytes,
//! never from a value that was parsed and serialised again.
//!
//! ```
//! use kiln_image::{Digest, Manifest, Reference, media_type};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reference: Reference = "busybox".parse()?;
//! assert_eq!(reference.name(), "docker.io/library/busybox");
//! assert_eq!(reference.tag(), Some("latest"));
//! assert_eq!(reference.familiar(), "busybox:latest");
//!
//! // A parsed manifest keeps its bytes, so its digest is that of what was read.
//! let bytes = br#"{"schemaVersion": 2, "manifests": []}"#;
//! let manifest = Manifest::parse(bytes, Some(media_type::OCI_INDEX))?;
//! assert_eq!(manifest.raw(), bytes);
//! assert_eq!(manifest.descriptor().digest, Digest::of(bytes));
//! # Ok(())
//! # }
//! ```
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
