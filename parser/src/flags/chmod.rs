//! `--chmod` in octal and symbolic notation.

use super::FlagError;

/// A decoded `--chmod` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChmodSpec {
    octal: Option<u32>,
}

impl ChmodSpec {
    /// The permission bits (12 bits) that a file with bits `current` gets.
    #[must_use]
    pub fn apply(&self, current: u32, is_dir: bool) -> u32 {
        let _ = is_dir;
        self.octal.unwrap_or(current)
    }
}

/// Decodes a mode such as `0755` or `u=rwX,go-w`.
///
/// # Errors
/// When the text is neither octal nor symbolic.
pub fn parse_chmod(value: &str) -> Result<ChmodSpec, FlagError> {
    Err(FlagError::new(format!("the mode {value:?} is invalid")))
}
