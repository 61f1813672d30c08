//! Single flight between processes: who runs a step holds a lock named by its definition, and who brings a
//! layer in one named by its diff id.

use std::time::Duration;

use kiln_image::DiffId;
use kiln_solver::key::{Encoder, Key};
use kiln_sys::lock::{RangeLock, try_lock};

use crate::error::Result;
use crate::store::Store;

/// Held while a step runs, or a layer is brought in.
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
        self.try_flight_of(&definition.0)
    }

    /// The same of who brings a layer in.
    ///
    /// # Errors
    /// As above.
    pub fn try_layer_flight(&self, diff_id: &DiffId) -> Result<Option<Flight>> {
        let mut name = Encoder::new("flight of a layer");
        name.bytes(diff_id.to_string().as_bytes());
        self.try_flight_of(name.finish().as_bytes())
    }

    fn try_flight_of(&self, name: &[u8; 32]) -> Result<Option<Flight>> {
        let mut offset = [0; 8];
        offset.copy_from_slice(&name[..8]);
        // Two whose numbers are equal by chance wait for each other, nothing worse.
        let offset = u64::from_le_bytes(offset) >> 1;
        Ok(try_lock(&self.path(crate::db::LOCKS), offset, false)?
            .map(|lock| Flight { _lock: lock }))
    }

    /// How long to wait before trying the `n`th time again.
    pub fn flight_pause(n: u32) -> Duration {
        Duration::from_millis((2_u64 << n.min(5)).min(50))
    }
}
