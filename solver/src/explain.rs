//! Why a step ran or did not: what became of its inputs since an earlier run of the same step.
//!
//! Nothing here decides anything. A key says whether a result may be used; this says in a
//! person's words in what two keys differ. Values of variables are compared by digest and never
//! shown: they may be secret.

mod compare;
mod input;
mod labels;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::key::Key;
use crate::plan::Forced;

pub use input::{InputKind, LabelledInput};

pub(crate) use compare::{Nearest, compare, nearest};
pub(crate) use labels::{KeyInput, base_label, inputs_of, read_label};

/// Where a result came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The store of this machine.
    Local,
    /// The remote cache of this name.
    Remote(Arc<str>),
}

/// Why a step ran or did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its result was in a cache.
    Hit {
        /// Its key.
        key: Key,
        /// When it ran.
        ran_at: SystemTime,
        /// How long it took then; nothing if that is not known.
        took: Duration,
        /// In which.
        found: Found,
    },
    /// The cache was not to be asked.
    Forced(Forced),
    /// The result is older than what counts.
    Expired {
        /// When it ran.
        ran_at: SystemTime,
    },
    /// The inputs are those of an earlier run, whose result is gone.
    Gone {
        /// When it ran.
        ran_at: SystemTime,
        /// It was removed to make room.
        removed: bool,
    },
    /// The result was known, which turned out only after the step had started: what is below was
    /// still being hashed.
    Early {
        /// When it ran.
        ran_at: SystemTime,
    },
    /// Its inputs are others than those of the nearest earlier run.
    Changed {
        /// When that ran.
        ran_at: SystemTime,
        /// In what they differ. Empty if nothing that was kept tells.
        changes: Vec<Change>,
    },
    /// No earlier run of it is known.
    New,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What kind of thing.
    pub kind: InputKind,
    /// Which: a path, the name of a variable, the target of a mount, the line of a step.
    pub name: String,
    /// What of it: `content`, `mode`, `owner`, `link target`, `xattrs`, `type`, `added`,
    /// `removed`, or a field of a mount.
    pub fields: Vec<String>,
    /// What was there before, where it may be told: the earlier base image or step.
    pub before: Option<String>,
}

/// A run of an earlier build that may be one of the same step.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// Its key.
    pub key: Key,
    /// As in [`Origin`](crate::plan::Origin).
    pub project: String,
    /// As in [`Origin`](crate::plan::Origin).
    pub step: String,
    /// As in [`Origin`](crate::plan::Origin).
    pub instruction: String,
    /// When it ran.
    pub ran_at: SystemTime,
    /// The inputs of its key.
    pub inputs: Vec<LabelledInput>,
    /// Its result was removed to make room.
    pub removed: bool,
}

/// What a fingerprint of selected paths covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Digest of the patterns of the ignore file; empty without one.
    pub ignore: String,
    /// Name of the ignore file.
    pub ignore_file: String,
    /// The paths, sorted.
    pub paths: Vec<PathFacts>,
}

/// What counts of one path, as far as it counts for the step that reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathFacts {
    /// Relative to the root of the tree.
    pub path: String,
    /// `file`, `directory`, `link`, …
    pub kind: String,
    /// Permission bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// User and group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(u32, u32)>,
    /// Digest of what a link says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub link: String,
    /// Digest of the extended attributes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub xattrs: String,
    /// Digest of the content, or numbers of a device.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content: String,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.kind {
            InputKind::Files => "files",
            InputKind::Command => "command",
            InputKind::Shell => "shell",
            InputKind::Arg => "arg",
            InputKind::Env => "env",
            InputKind::EnvOrder => "order of variables",
            InputKind::WorkingDirectory => "working directory",
            InputKind::User => "user",
            InputKind::Network => "network",
            InputKind::Security => "security",
            InputKind::Device => "device",
            InputKind::HostName => "host name",
            InputKind::Hosts => "hosts",
            InputKind::Platform => "platform",
            InputKind::Epoch => "SOURCE_DATE_EPOCH",
            InputKind::Mount => "mount",
            InputKind::Flag => "flag",
            InputKind::Sources => "sources",
            InputKind::Destination => "destination",
            InputKind::HereDocument => "here-document",
            InputKind::Directory => "directory",
            InputKind::Actions => "what is copied",
            InputKind::BaseImage => "base image",
            InputKind::Step if self.before.is_some() => "it comes after",
            InputKind::Step => "result of",
            InputKind::Encoding => "kiln's format of keys",
        };
        f.write_str(what)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        if let Some(before) = &self.before {
            write!(f, " instead of {before}")?;
        }
        if !self.fields.is_empty() {
            write!(f, " ({})", self.fields.join(", "))?;
        }
        Ok(())
    }
}
