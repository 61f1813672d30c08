//! Single flight between processes: who runs a step holds a lock named by its definition.

use std::time::Duration;

use kiln_solver::key::Key;
use kiln_sys::lock::{RangeLock, try_lock};

use crate::error::Result;
use crate::store::Store;

/// Held while a step runs.
#[derive(Debug)]
pub struct Flight {
    _lock: RangeLock,
}

impl Store {
    /// Takes the flight of a step if nobody has it. The kernel gives it back when the holder
    /// ends, however it ends.
    ///
    /// # Errors
    /// The lock file cannot be used.
    pub fn try_flight(&self, definition: Key) -> Result<Option<Flight>> {
        let mut offset = [0; 8];
        offset.copy_from_slice(&definition.0[..8]);
        // Two steps whose numbers are equal by chance wait for each other, nothing worse.
        let offset = u64::from_le_bytes(offset) >> 1;
        Ok(try_lock(&self.path(crate::db::LOCKS), offset, false)?
            .map(|lock| Flight { _lock: lock }))
    }

    /// How long to wait before trying the `n`th time again.
    pub fn flight_pause(n: u32) -> Duration {
        Duration::from_millis((2_u64 << n.min(5)).min(50))
    }
}
