//! `RUN --mount=...`.

use super::FlagError;

/// The kinds of mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MountType {
    /// Files of the context, a stage or an image (the default).
    Bind,
    /// A directory that outlives builds.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret file or variable.
    Secret,
    /// A socket of an SSH agent.
    Ssh,
}

/// How concurrent users of a cache mount share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// All use it at once.
    #[default]
    Shared,
    /// Each concurrent user gets its own.
    Private,
    /// One after the other.
    Locked,
}

/// A decoded `--mount` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// Type; bind unless given.
    pub kind: MountType,
    /// Where it appears.
    pub target: Option<String>,
    /// Stage, image or named context that `source` is in.
    pub from: Option<String>,
    /// Path inside `from`.
    pub source: Option<String>,
    /// Read-only as given; bind mounts are read-only unless this is `Some(false)`.
    pub readonly: Option<bool>,
    /// Identity of a cache, secret or agent.
    pub id: Option<String>,
    /// Sharing of a cache mount.
    pub sharing: Option<Sharing>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size limit of a tmpfs in bytes.
    pub size: Option<u64>,
    /// A missing secret or agent is an error.
    pub required: bool,
    /// Variable that gets a secret's value.
    pub env: Option<String>,
}

/// Decodes the value of `--mount`.
///
/// # Errors
/// On malformed CSV, unknown keys or types, and keys that the type does not have.
pub fn parse_mount(value: &str) -> Result<MountSpec, FlagError> {
    Err(FlagError::new(format!(
        "the mount {value:?} is not supported"
    )))
}
