//! A bound on the work of expansions.

use super::ExpandError;

/// Bytes of values, of nested words and of searched text that one expansion may handle. A word
/// cannot otherwise be bounded by its length: `$x$x$x` multiplies, and so does `${x#*a*b}`.
const TANK: usize = 64 << 20;

/// What is left of the work that expansions may do. One that is used for several words bounds their
/// work together.
#[derive(Debug)]
pub struct Fuel {
    limit: usize,
    left: usize,
}

impl Default for Fuel {
    fn default() -> Self {
        Self::new(TANK)
    }
}

impl Fuel {
    /// For so many bytes of values, of nested words and of searched text.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, left: limit }
    }

    /// Takes the cost of `bytes`.
    ///
    /// # Errors
    /// There is less left.
    pub fn burn(&mut self, bytes: usize) -> Result<(), ExpandError> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(ExpandError::TooLarge {
                limit: self.limit >> 20,
            }),
        }
    }

    /// Does some work that may take no more than one word, and no more than there is.
    pub(super) fn for_one_word<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, ExpandError>,
    ) -> Result<T, ExpandError> {
        let share = self.left.min(TANK);
        let mut own = Self {
            // Whoever runs out first is told.
            limit: if share < TANK { self.limit } else { TANK },
            left: share,
        };
        let done = work(&mut own);
        self.left -= share - own.left;
        done
    }
}
