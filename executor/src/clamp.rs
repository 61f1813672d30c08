//! Times of images, which `SOURCE_DATE_EPOCH` clamps.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// A time of the clock, clamped.
pub(crate) fn timestamp(time: SystemTime, epoch: Option<u64>) -> Option<Timestamp> {
    let nanos = time.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    let time = Timestamp::from_nanosecond(nanos.cast_signed()).ok()?;
    // Also where the clock is before it: no time of the build is in an image then.
    let epoch = epoch.and_then(|e| Timestamp::from_second(e.cast_signed()).ok());
    Some(epoch.unwrap_or(time))
}
