//! Typed values of flags. The caller expands variables first.

mod chmod;
mod device;
mod duration;
mod fields;
mod mount;
#[cfg(test)]
mod tests;

pub use chmod::{ChmodSpec, parse_chmod};
pub use device::{DeviceSpec, parse_device};
pub use duration::parse_duration;
use fields::fields;
pub use mount::{MountSpec, MountType, Sharing, parse_mount};

/// Why the value of a flag is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FlagError {
    /// One lower-case sentence.
    pub message: String,
    /// How to repair it, when that is known.
    pub help: Option<String>,
}

impl FlagError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn with_help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }
}

/// Names of the flags of an instruction (keyword in any case), without dashes.
#[must_use]
pub fn allowed_flags(keyword: &str) -> &'static [&'static str] {
    match keyword.to_ascii_uppercase().as_str() {
        "FROM" => &["platform"],
        "RUN" => &["mount", "network", "security", "device"],
        "COPY" => &["from", "chown", "chmod", "link", "parents", "exclude"],
        "ADD" => &[
            "keep-git-dir",
            "checksum",
            "chown",
            "chmod",
            "link",
            "exclude",
            "unpack",
        ],
        "HEALTHCHECK" => &[
            "interval",
            "timeout",
            "start-period",
            "start-interval",
            "retries",
        ],
        _ => &[],
    }
}

/// True for flags that are switches and need no value.
#[must_use]
pub fn is_bool_flag(name: &str) -> bool {
    matches!(name, "link" | "parents" | "keep-git-dir" | "unpack")
}

/// True for flags that may be given more than once.
#[must_use]
pub fn is_repeatable_flag(name: &str) -> bool {
    matches!(name, "mount" | "device" | "exclude")
}

/// Decodes a boolean flag; a bare flag is true.
///
/// # Errors
/// When the value is neither `true` nor `false`.
pub fn parse_bool_flag(value: Option<&str>) -> Result<bool, FlagError> {
    match value {
        None => Ok(true),
        Some(v) if v.eq_ignore_ascii_case("true") => Ok(true),
        Some(v) if v.eq_ignore_ascii_case("false") => Ok(false),
        Some(v) => Err(FlagError::new(format!("{v:?} is neither true nor false"))),
    }
}
