//! A client for registries (OCI distribution specification): pull, push, mount, resume, list.
//!
//! The client keeps no files: it writes to sinks and reads from sources that the caller owns, and
//! it gets its settings and credentials as values. Everything that comes from the network is
//! bounded and checked; a blob counts only when its size and digest are right.
//!
//! ```no_run
//! use kiln_image::{ImageConfig, Manifest, Reference, media_type};
//! use kiln_registry::{Client, MemorySink, RegistryConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::anonymous(RegistryConfig::default());
//! let reference: Reference = "registry.example/team/app:1".parse()?;
//!
//! let accept = media_type::ACCEPT_MANIFESTS;
//! if let Manifest::Image(image) = client.fetch_manifest(&reference, &accept).await? {
//!     let mut sink = MemorySink::default();
//!     let progress = |bytes: u64| println!("{bytes} bytes");
//!     client.fetch_blob(&reference, &image.value.config, &mut sink, &progress).await?;
//!     let config = ImageConfig::parse(&sink.into_bytes())?;
//!     println!("{} layers", config.rootfs.diff_ids.len());
//! }
//! # Ok(())
//! # }
//! ```

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![forbid(unsafe_code)]

pub mod auth;
mod client;
mod config;
mod credential_error;
mod endpoint;
mod error;
mod http;
mod io;
mod list;
mod notice;
pub mod pace;
mod pull;
mod push;
mod referrers;
mod transport;

pub use auth::{Credential, CredentialSource, DockerConfig, HelperOutput, HelperRunner};
pub use client::Client;
pub use config::{MirrorUrl, RegistryConfig, RetryPolicy, TlsConfig};
pub use credential_error::CredentialError;
pub use error::{ApiError, RegistryError};
pub use io::{BlobReader, BlobSink, BlobSource, FileSink, FileSource, MemorySink};
pub use notice::{Notice, Notices};
pub use push::Pushed;
