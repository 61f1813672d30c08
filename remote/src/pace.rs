//! Gives a transfer up that is so slow that making the thing again is faster, or that holds up the end of
//! a build.
//!
//! What a remote says of a size is no measure: it may claim a terabyte and send a byte now and then. So
//! what counts is how much came lately.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::RemoteError;
use crate::limits::{MIN_BYTES_PER_SECOND, SPEED_WINDOW};

/// How often that is looked at.
const TICK: Duration = Duration::from_secs(1);

/// How much a transfer has moved, and when. Transfers that happen at once for one purpose share it.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    state: Mutex<State>,
    /// It goes to the remote, and does not come from there.
    sends: bool,
}

#[derive(Debug, Default)]
struct State {
    /// How long the remote was waited for.
    waited: Duration,
    /// Bytes that were moved.
    bytes: u64,
    /// Nothing is to be moved now.
    rests: bool,
    /// Bytes that count as moved, and may still be on their way.
    held: u64,
    /// What both were earlier, back to the beginning of the window.
    marks: VecDeque<(Duration, u64)>,
}

/// Tells a pace what one transfer has brought.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    pace: &'a Pace,
    before: AtomicU64,
}

/// Bytes on their way.
#[derive(Debug)]
pub(crate) struct Hold<'a> {
    pace: &'a Pace,
    bytes: u64,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.pace.with(|s| s.held -= self.bytes);
    }
}

impl Meter<'_> {
    /// So many bytes are here. There may be fewer than before, where it has begun anew.
    pub(crate) fn note(&self, done: u64) {
        let before = self.before.swap(done, Ordering::Relaxed);
        self.pace.moved(done.saturating_sub(before));
    }
}

impl Pace {
    /// That of something which is sent.
    pub(crate) fn of_sending() -> Self {
        Self {
            sends: true,
            ..Self::default()
        }
    }

    /// So many more bytes were moved.
    pub(crate) fn moved(&self, bytes: u64) {
        self.with(|s| s.bytes += bytes);
    }

    /// Says whether there is nothing to move for a while, during which no time passes here.
    pub(crate) fn rest(&self, rests: bool) {
        self.with(|s| s.rests = rests);
    }

    /// Counts so many bytes as being on their way until the value is dropped: they are taken at once, and
    /// nothing more is as long as they go.
    pub(crate) fn hold(&self, bytes: u64) -> Hold<'_> {
        self.with(|s| s.held += bytes);
        Hold { pace: self, bytes }
    }

    pub(crate) fn meter(&self) -> Meter<'_> {
        let before = AtomicU64::new(0);
        Meter { pace: self, before }
    }

    /// Does some work of the transfer, as long as it is fast enough. Time passes for it only here.
    ///
    /// # Errors
    /// It is too slow.
    pub(crate) async fn keep<T>(
        &self,
        action: &'static str,
        work: impl Future<Output = T>,
    ) -> Result<T, RemoteError> {
        let mut work = std::pin::pin!(work);
        loop {
            let begun = Instant::now();
            let done = tokio::time::timeout(TICK, &mut work).await;
            let fast = self.with(|s| s.is_fast_after(begun.elapsed()));
            match done {
                Ok(done) => return Ok(done),
                Err(_) if fast => {}
                Err(_) if self.sends => return Err(RemoteError::TakesLittle { action }),
                Err(_) => return Err(RemoteError::Trickles { action }),
            }
        }
    }

    /// Whether it is fast enough, also where each wait was over soon.
    pub(crate) fn is_fast(&self) -> bool {
        self.with(|s| s.is_fast_after(Duration::ZERO))
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Whether enough came in the last seconds, now that it was waited for so long again.
    fn is_fast_after(&mut self, waited: Duration) -> bool {
        if self.rests {
            return true;
        }
        if self.marks.is_empty() {
            self.marks.push_back((self.waited, 0));
        }
        self.waited += waited;
        // What is on its way counted when it was taken, and until it is there nothing else can.
        let arriving = Duration::from_secs(self.held / MIN_BYTES_PER_SECOND);
        let window = SPEED_WINDOW + arriving;
        let first = self.waited.saturating_sub(window);
        // The last mark that is no later than the window begins stays.
        while self.marks.get(1).is_some_and(|(at, _)| *at <= first) {
            self.marks.pop_front();
        }
        if (self.marks.back()).is_none_or(|(at, _)| self.waited - *at >= TICK) {
            self.marks.push_back((self.waited, self.bytes));
        }
        let Some((at, bytes)) = self.marks.front() else {
            return true;
        };
        let took = self.waited - *at;
        took < window || self.bytes - bytes >= MIN_BYTES_PER_SECOND * (took - arriving).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Brings so many bytes in each of some seconds.
    async fn bring(meter: &Meter<'_>, seconds: u64, bytes: impl Fn(u64) -> u64) {
        let mut done = 0;
        for second in 0..seconds {
            tokio::time::sleep(Duration::from_secs(1)).await;
            done += bytes(second);
            meter.note(done);
        }
    }

    async fn is_kept(seconds: u64, bytes: impl Fn(u64) -> u64) -> (bool, u64) {
        let pace = Pace::default();
        let (meter, begun) = (pace.meter(), Instant::now());
        let kept = pace.keep("try", bring(&meter, seconds, bytes)).await;
        (kept.is_ok(), begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_slow_for_the_whole_window_is_given_up() {
        assert_eq!(is_kept(100_000, |_| 1).await, (false, 30));
        assert_eq!(
            is_kept(100_000, |_| 2 * MIN_BYTES_PER_SECOND).await,
            (true, 100_000)
        );
        // What came long ago makes up for nothing.
        let (kept, after) = is_kept(1000, |s| if s < 10 { 1 << 30 } else { 1 }).await;
        assert!(!kept && (39..43).contains(&after), "{after}");
        // In bursts, with pauses that are not too long.
        let burst = |s: u64| {
            if s.is_multiple_of(20) {
                60 * MIN_BYTES_PER_SECOND
            } else {
                0
            }
        };
        assert_eq!(is_kept(1000, burst).await, (true, 1000));
        // The end of something small.
        assert_eq!(is_kept(29, |_| 1).await, (true, 29));
    }

    /// Between pieces nothing is waited for, and what came in short waits counts together.
    #[tokio::test(start_paused = true)]
    async fn only_waiting_counts() {
        let pace = Pace::default();
        for _ in 0..100 {
            tokio::time::sleep(SPEED_WINDOW).await;
            assert!(pace.keep("try", std::future::ready(())).await.is_ok());
        }
        let short = || tokio::time::sleep(Duration::from_millis(900));
        let mut waits = 0;
        while pace.is_fast() && waits < 1000 {
            assert!(pace.keep("try", short()).await.is_ok());
            waits += 1;
        }
        assert!((33..36).contains(&waits), "{waits}");
        let long = pace.keep("try", tokio::time::sleep(2 * TICK));
        assert!(long.await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_may_be_stored_for_longer_than_it_may_stall() {
        for (rests, kept) in [(true, true), (false, false)] {
            let pace = Pace::of_sending();
            let work = async {
                pace.moved(1);
                pace.rest(rests);
                tokio::time::sleep(3 * SPEED_WINDOW).await;
            };
            let done = pace.keep("try", work).await;
            assert_eq!(done.is_ok(), kept);
            let slow = |error| matches!(error, RemoteError::TakesLittle { .. });
            assert!(done.map_or_else(slow, |()| true));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_on_its_way_has_time_to_arrive() {
        for (held, seconds, kept) in [(0, 31, false), (20, 49, true), (20, 51, false)] {
            let pace = Pace::of_sending();
            let work = async {
                let _held = pace.hold(held * MIN_BYTES_PER_SECOND);
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            };
            assert_eq!(
                pace.keep("try", work).await.is_ok(),
                kept,
                "{held} {seconds}"
            );
            let after = pace.keep("try", tokio::time::sleep(SPEED_WINDOW + TICK));
            assert!(after.await.is_err(), "nothing is held any more");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_that_begins_anew_is_no_faster_for_it() {
        let pace = Pace::default();
        let meter = pace.meter();
        let work = async {
            loop {
                for done in 0..100 {
                    tokio::time::sleep(TICK / 10).await;
                    meter.note(done);
                }
                meter.note(0);
            }
        };
        assert!(pace.keep("try", work).await.is_err());
    }
}
