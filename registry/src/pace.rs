//! How slow a server may be: one that sends a byte now and then would keep a build waiting for ever, and no
//! limit on a single pause sees it.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes in a second that a server has to send on average: half of what the oldest mobile networks carry, so
/// that a slow line is good enough also while several things come over it at once. A remote cache has to be
/// faster (`SLOWEST` in `kiln-remote`), for what it has can be made instead; what comes from here cannot.
pub const SLOWEST: u64 = 4_000;

/// Over how long that is looked at, which is also the longest silence. Servers that fetch what they are asked
/// for from elsewhere are silent for some seconds; proxies in front of them give up after a minute.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The server is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it sent {bytes} bytes in {} s, and less than {} kB in a second is given up",
    WINDOW.as_secs(),
    SLOWEST / 1000
)]
pub struct TooSlow {
    /// What came lately.
    pub bytes: u64,
}

/// How long a server was waited for, and how much came. Time passes only while it is waited for.
#[derive(Debug, Default)]
pub struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// So many bytes came.
    pub fn came(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Waits for something that the server does.
    ///
    /// # Errors
    /// It has sent too little for too long.
    pub async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Result<T, TooSlow> {
        let mut work = std::pin::pin!(work);
        loop {
            let begun = Instant::now();
            let left = WINDOW.saturating_sub(self.waited);
            let done = tokio::time::timeout(left, &mut work).await;
            self.waited += begun.elapsed();
            // What is there counts, though it came at the last moment; too little of it is told the next time.
            if let Ok(done) = done {
                return Ok(done);
            }
            if self.waited >= WINDOW {
                let bytes = std::mem::take(&mut self.bytes);
                if bytes < SLOWEST * self.waited.as_secs() {
                    return Err(TooSlow { bytes });
                }
                self.waited = Duration::ZERO;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a server is kept that sends so many bytes in each second, and until when.
    async fn is_kept(seconds: u64, bytes: impl Fn(u64) -> u64) -> (bool, u64) {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        for second in 0..seconds {
            let next = tokio::time::sleep(Duration::from_secs(1));
            if pace.wait(next).await.is_err() {
                return (false, begun.elapsed().as_secs());
            }
            pace.came(usize::try_from(bytes(second)).unwrap());
        }
        (true, begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_is_good_enough_and_a_drip_is_not() {
        assert_eq!(is_kept(100_000, |_| 1).await, (false, 60));
        assert_eq!(is_kept(100_000, |_| SLOWEST + 100).await, (true, 100_000));
        // What came long ago makes up for nothing.
        let (kept, after) = is_kept(1000, |s| if s < 10 { 1 << 30 } else { 1 }).await;
        assert!(!kept && after <= 180, "{after}");
        // In bursts, with pauses.
        let burst = |s: u64| {
            if s.is_multiple_of(20) {
                30 * SLOWEST
            } else {
                0
            }
        };
        assert_eq!(is_kept(1000, burst).await, (true, 1000));
        // The end of something small.
        assert_eq!(is_kept(50, |_| 1).await, (true, 50));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_and_only_waiting_counts() {
        let begun = Instant::now();
        let mut pace = Pace::default();
        assert!(pace.wait(std::future::pending::<()>()).await.is_err());
        assert_eq!(begun.elapsed(), WINDOW);
        // What this machine does meanwhile is not the server's fault.
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert!(pace.wait(std::future::ready(())).await.is_ok());
            tokio::time::sleep(WINDOW).await;
        }
    }
}
