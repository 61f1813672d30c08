//! The claims of a build on remotes: each is given back when its last holder is done with it, and
//! the build does not end before that.

use std::sync::Arc;
use std::time::Duration;

use kiln_solver::key::Key;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::RemoteCaches;
use crate::error::RemoteError;
use crate::remote::{Claim, Claimed, Remote, Waiting};

/// How long the end of a build waits for claims that are given back. What is not by then goes stale.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Attempts to claim something, and claims that are given back. Nothing stops them in the middle: a note
/// that was written and that nobody knows of would keep other hosts waiting.
#[derive(Debug, Default)]
pub(super) struct Claims(TaskTracker);

/// A claim that is given back when its last holder is done with it.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "it is held, and dropped")]
pub struct HeldClaim(Arc<LastHolder>);

#[derive(Debug)]
struct LastHolder {
    claim: Option<Claim>,
    claims: TaskTracker,
}

impl Drop for LastHolder {
    fn drop(&mut self) {
        let Some(claim) = self.claim.take() else {
            return;
        };
        // Without a runtime the process ends, and the claim goes stale.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.claims.spawn(claim.release());
        }
    }
}

/// What became of an attempt to claim a step.
pub(super) enum Attempt {
    /// It is this build's.
    Mine(HeldClaim),
    /// It is another host's.
    Theirs(Waiting),
}

impl Claims {
    /// Waits for a while until every claim that nobody holds is given back.
    pub(super) async fn given_back(&self) {
        self.0.close();
        if tokio::time::timeout(GIVE_BACK_TIMEOUT, self.0.wait())
            .await
            .is_err()
        {
            tracing::debug!("claims are not given back, and go stale");
        }
    }
}

impl RemoteCaches {
    /// Tries to claim a step. Where the answer is not waited for, a claim is given back.
    pub(super) async fn try_claim(
        &self,
        remote: &Remote,
        key: Key,
        waiting: Option<Waiting>,
    ) -> Result<Attempt, RemoteError> {
        let (to, from) = oneshot::channel();
        let (remote, stop) = (remote.clone(), self.0.stop.clone());
        let claims = self.0.claims.0.clone();
        self.0.claims.0.spawn(async move {
            let claimed = remote.claim(key, waiting, &stop).await;
            let attempt = claimed.map(|claimed| match claimed {
                Claimed::Theirs(other) => Attempt::Theirs(other),
                Claimed::Mine(claim) => Attempt::Mine(HeldClaim(Arc::new(LastHolder {
                    claim: Some(claim),
                    claims,
                }))),
            });
            drop(to.send(attempt));
        });
        // Only a panic leaves nothing behind.
        from.await.unwrap_or(Err(RemoteError::Broken))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::Notify;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::Remotes;
    use crate::testing::remote_in;

    fn caches(stop: &CancellationToken) -> RemoteCaches {
        RemoteCaches::new(
            Remotes::default(),
            Duration::ZERO,
            stop.clone(),
            kiln_solver::event::Events::none(),
        )
    }

    fn claims(dir: &Path) -> usize {
        let notes = std::fs::read_dir(dir.join("claims-v1"));
        notes.into_iter().flatten().count()
    }

    /// Polls it once.
    async fn begin<T>(mut work: std::pin::Pin<&mut impl Future<Output = T>>) {
        tokio::select! {
            biased;
            _ = &mut work => panic!("it is over"),
            () = std::future::ready(()) => {}
        }
    }

    #[tokio::test]
    async fn a_wait_for_the_end_that_is_given_up_stops_nothing() {
        let caches = caches(&CancellationToken::new());
        let (go_on, done) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (gone_on, noted) = (go_on.clone(), done.clone());
        caches.in_background(async move {
            gone_on.notified().await;
            noted.store(true, Ordering::Relaxed);
        });
        begin(std::pin::pin!(caches.drain())).await;
        go_on.notify_one();
        caches.drain().await;
        assert!(done.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn an_interrupted_build_gives_back_what_its_transfers_hold() {
        let dir = tempfile::tempdir().unwrap();
        let (remote, stop) = (remote_in(dir.path()), CancellationToken::new());
        let caches = caches(&stop);
        for n in 0..20 {
            let claim = match caches.try_claim(&remote, Key([n; 32]), None).await.unwrap() {
                Attempt::Mine(claim) => claim,
                _ => panic!("not claimed"),
            };
            caches.in_background(async move {
                std::future::pending::<()>().await;
                drop(claim);
            });
        }
        assert_eq!(claims(dir.path()), 20);
        begin(std::pin::pin!(caches.drain())).await;
        stop.cancel();
        caches.drain().await;
        assert_eq!(claims(dir.path()), 0);
    }

    #[tokio::test]
    async fn an_attempt_that_nobody_waits_for_leaves_no_claim() {
        let dir = tempfile::tempdir().unwrap();
        let (remote, caches) = (remote_in(dir.path()), caches(&CancellationToken::new()));
        for n in 0..20 {
            begin(std::pin::pin!(caches.try_claim(
                &remote,
                Key([n; 32]),
                None
            )))
            .await;
        }
        caches.drain().await;
        assert_eq!(claims(dir.path()), 0);
        let again = caches.try_claim(&remote, Key([0; 32]), None).await.unwrap();
        assert!(matches!(again, Attempt::Mine(_)));
    }
}
