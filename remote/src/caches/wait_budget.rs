//! How long a build waits for other hosts, all in all.
//!
//! Steps that wait at the same time wait together: what counts is the time during which any of them
//! does. So a host that holds on to its claims, or forges them, costs a build that long once, however
//! many steps it has.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What is left of the time that a build waits for other hosts.
#[derive(Debug)]
pub(super) struct WaitBudget {
    limit: Duration,
    spent: Mutex<Spent>,
}

#[derive(Debug, Default)]
struct Spent {
    /// By waits that are over.
    before: Duration,
    /// Steps that wait now, and since when there is any.
    waiting: usize,
    since: Option<Instant>,
    /// It was said that nobody is waited for any more.
    told: bool,
}

impl Spent {
    fn total(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |at| at.elapsed())
    }
}

/// A step that waits, until this is dropped.
#[derive(Debug)]
pub(super) struct Wait<'a>(&'a WaitBudget);

impl WaitBudget {
    pub(super) fn new(limit: Duration) -> Self {
        let spent = Mutex::default();
        Self { limit, spent }
    }

    /// The whole of it.
    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// Begins to wait. Fails when nothing is left.
    pub(super) fn wait(&self) -> Option<Wait<'_>> {
        let mut spent = self.spent();
        if spent.total() >= self.limit {
            return None;
        }
        if spent.waiting == 0 {
            spent.since = Some(Instant::now());
        }
        spent.waiting += 1;
        Some(Wait(self))
    }

    /// How long a wait may go on.
    pub(super) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.spent().total())
    }

    /// Whether this is the first to say that nothing is left.
    pub(super) fn tells(&self) -> bool {
        !std::mem::replace(&mut self.spent().told, true)
    }

    fn spent(&self) -> std::sync::MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut spent = self.0.spent();
        spent.waiting -= 1;
        if spent.waiting == 0 {
            spent.before = spent.total();
            spent.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn waits_at_the_same_time_count_once() {
        let budget = WaitBudget::new(10 * SECOND);
        let (one, two) = (budget.wait().unwrap(), budget.wait().unwrap());
        tokio::time::advance(3 * SECOND).await;
        drop(one);
        tokio::time::advance(SECOND).await;
        assert_eq!(budget.left(), 6 * SECOND);
        drop(two);
        tokio::time::advance(100 * SECOND).await;
        assert_eq!(budget.left(), 6 * SECOND);
        let three = budget.wait().unwrap();
        tokio::time::advance(6 * SECOND).await;
        assert_eq!(budget.left(), Duration::ZERO);
        assert!(budget.wait().is_none());
        drop(three);
        assert!(budget.wait().is_none());
        assert!(budget.tells());
        assert!(!budget.tells());
    }
}
