//! Stops asking a remote that keeps failing.

use std::sync::atomic::{AtomicU32, Ordering};

/// Failures in a row after which a remote is left alone for the rest of the process.
const LIMIT: u32 = 3;

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: AtomicU32,
}

impl Breaker {
    /// Whether the remote has failed too often.
    pub(crate) fn is_open(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= LIMIT
    }

    /// Notes an answer. One that comes late, after the limit, changes nothing.
    pub(crate) fn succeeded(&self) {
        let reset = |n: u32| (n < LIMIT).then_some(0);
        let _ = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, reset);
    }

    /// Notes a failure.
    pub(crate) fn failed(&self) {
        let more = |n: u32| Some(n.saturating_add(1));
        let _ = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_count_and_open_is_final() {
        let breaker = Breaker::default();
        for _ in 0..10 {
            breaker.failed();
            breaker.failed();
            breaker.succeeded();
        }
        assert!(!breaker.is_open());
        for _ in 0..LIMIT {
            breaker.failed();
        }
        breaker.succeeded();
        assert!(breaker.is_open());
    }
}
