//! The few kinds of op that every build is made of.

use std::fmt;

use kiln_image::{Digest, Platform, Reference};

use super::{Exec, File, Merge};
use crate::key::{ContentKey, Encoder, content_key};

/// What a vertex does.
#[derive(Clone, Debug)]
pub enum Op {
    /// Brings a tree in from outside.
    Source(Source),
    /// Runs a command on input 0.
    Exec(Exec),
    /// Changes files of input 0.
    File(File),
    /// Puts the layers of two inputs on top of each other.
    Merge(Merge),
}

impl Op {
    /// Whether input 0 is the tree that the op works on. Without one it starts from nothing, and
    /// all slots are for other inputs.
    pub fn on_base(&self) -> bool {
        match self {
            Self::Exec(op) => op.on_base,
            Self::File(op) => op.on_base,
            Self::Source(_) | Self::Merge(_) => false,
        }
    }

    /// What a running step needs besides what its key covers.
    pub(super) fn encode_unkeyed(&self, to: &mut Encoder) {
        if let Self::Exec(exec) = self {
            exec.proxy_env.encode(to);
        }
    }
}

impl ContentKey for Op {
    fn encode(&self, to: &mut Encoder) {
        match self {
            Self::Source(op) => op.encode(to),
            Self::Exec(op) => op.encode(to),
            Self::File(op) => op.encode(to),
            Self::Merge(op) => op.encode(to),
        }
    }
}

/// A platform as part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildPlatform(pub Platform);

impl ContentKey for BuildPlatform {
    fn encode(&self, to: &mut Encoder) {
        to.bytes(self.0.to_string().as_bytes());
    }
}

/// Where a tree comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The kind of place.
    pub kind: SourceKind,
    /// For which platform.
    pub platform: BuildPlatform,
}
content_key!(Source { kind, platform });

/// What an image is known by that a build starts from. No path of this machine: it goes into keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageName {
    /// Its name in a registry, with the digest where one is known.
    Registry(Reference),
    /// The digest of its manifest, for one of a layout.
    Layout(Digest),
    /// Its id, for one of the store that has no name.
    Id(Digest),
    /// As it was written, for one that nobody has looked up.
    Written(String),
}

impl ImageName {
    /// Where a registry has it.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Registry(reference) => Some(reference),
            Self::Layout(_) | Self::Id(_) | Self::Written(_) => None,
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout(manifest) => write!(f, "oci-layout://{manifest}"),
            Self::Id(id) => id.fmt(f),
            Self::Written(text) => f.write_str(text),
        }
    }
}

/// The places that a tree can come from.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// An image; the layers are named by what was resolved.
    Image {
        /// What it is known by.
        name: ImageName,
        /// Its id: the digest of its config.
        id: Digest,
    },
    /// A context by name, which the worker was given with the build.
    Context {
        /// Its name.
        name: String,
    },
    /// A file from the web, called [`DOWNLOADED`] in its tree.
    Http {
        /// The address.
        url: String,
        /// The expected digest.
        checksum: Option<String>,
    },
    /// A commit of a git repository.
    Git {
        /// Address with optional `#ref:subdir`.
        url: String,
        /// Keep `.git`.
        keep_git_dir: bool,
        /// The expected commit.
        checksum: Option<String>,
    },
}

/// The name of a downloaded file in its tree, whatever its address is.
pub const DOWNLOADED: &str = "download";

impl ContentKey for SourceKind {
    fn encode(&self, to: &mut Encoder) {
        match self {
            Self::Image { name, id } => {
                to.number(0);
                to.bytes(name.to_string().as_bytes());
                to.bytes(id.as_str().as_bytes());
            }
            Self::Context { name } => {
                to.number(1);
                name.encode(to);
            }
            Self::Http { url, checksum } => {
                to.number(2);
                url.encode(to);
                checksum.encode(to);
            }
            Self::Git {
                url,
                keep_git_dir,
                checksum,
            } => {
                to.number(3);
                url.encode(to);
                keep_git_dir.encode(to);
                checksum.encode(to);
            }
        }
    }
}
