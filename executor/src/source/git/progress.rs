//! Whether a git that was started gets on, whatever way it fetches things.
//!
//! What comes over ssh or git's own protocol has no bound on slowness of its own, and of what git
//! starts for https the bound would not hold for the pauses in which a server says that it is still
//! there. So the processes themselves are looked at.

use std::time::Duration;

use kiln_sys::process_tree::{Work, kill_group, work_of};

/// How long it may make no progress. A server may prepare a large repository for minutes, and says
/// little meanwhile.
pub(super) const WINDOW: Duration = Duration::from_secs(600);
/// Bytes in a second that have to be read on average, from wherever.
const SLOWEST: u64 = 4_000;
/// Parts of the time that are processor time, which count as progress however little is read:
/// resolving deltas, checking out. One in so many.
const BUSY: u64 = 20;
/// How often what was written is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A process group that ends with this value, unless it has ended.
pub(super) struct Family {
    leader: Option<u32>,
}

impl Family {
    pub(super) fn of(leader: Option<u32>) -> Self {
        Self { leader }
    }

    pub(super) fn has_ended(&mut self) {
        self.leader = None;
    }

    fn work(&self) -> Work {
        self.leader.map(work_of).unwrap_or_default()
    }

    /// Ends when it has made no progress to speak of for so long.
    pub(super) async fn stalls(&self, window: Duration) {
        let mut before = self.work();
        loop {
            tokio::time::sleep(window).await;
            let now = self.work();
            let read = now.read.saturating_sub(before.read);
            let ticks = now.ticks.saturating_sub(before.ticks);
            if read < SLOWEST * window.as_secs() && ticks < window.as_secs() * 100 / BUSY {
                return;
            }
            before = now;
        }
    }

    /// Ends when it has written so much.
    pub(super) async fn writes_more_than(&self, bytes: u64) {
        while self.work().written <= bytes {
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            kill_group(leader);
        }
    }
}
