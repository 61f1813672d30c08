//! A bound on the work of one expansion.

use super::ExpandError;

/// Bytes of values, of nested words and of searched text that one expansion may handle. A word
/// cannot otherwise be bounded by its length: `$x$x$x` multiplies, and so does `${x#*a*b}`.
const TANK: usize = 64 << 20;

/// What is left of the work that an expansion may do.
#[derive(Debug)]
pub(super) struct Fuel(usize);

impl Default for Fuel {
    fn default() -> Self {
        Self(TANK)
    }
}

impl Fuel {
    /// Takes the cost of `bytes`.
    pub(super) fn burn(&mut self, bytes: usize) -> Result<(), ExpandError> {
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(ExpandError::TooLarge { limit: TANK >> 20 }),
        }
    }
}
