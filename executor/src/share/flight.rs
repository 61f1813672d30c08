//! The flight of a step, on this host and on others.

use kiln_cache::Flight;
use kiln_cache::remote::{Remote, Waiting};
use kiln_solver::key::Key;
use tokio_util::sync::CancellationToken;

use super::claims::{Attempt, HeldClaim};
use super::{Share, SharedLayer};
use crate::error::{Error, Result};

/// How long a waiter waits between two looks at a remote.
const LOOK: std::time::Duration = std::time::Duration::from_millis(500);

/// Held while a step runs; what other hosts see of it is held until they can have the result.
#[derive(Debug)]
pub struct StepFlight {
    pub(crate) _local: Flight,
    pub(crate) claim: Option<HeldClaim>,
}

/// Who runs a step.
pub(crate) enum Turn {
    /// This host; others see the claim, if there is one.
    Ours(Option<HeldClaim>),
    /// Another host did, and this is its result.
    Done(SharedLayer),
}

impl Share {
    /// Claims a step, or waits for the host that has claimed it.
    ///
    /// # Errors
    /// The build was cancelled.
    pub(crate) async fn turn(&self, key: Key, cancel: &CancellationToken) -> Result<Turn> {
        // Claims mean something only where the result will be found.
        let shared = |t: &&super::Target| {
            t.mode == kiln_cache::remote::Mode::Max
                && self.0.from.iter().any(|f| f.label() == t.remote.label())
        };
        let Some(target) = self.0.to.iter().find(shared) else {
            return Ok(Turn::Ours(None));
        };
        let mut waiting: Option<Waiting> = None;
        // From the first claim of another host on, every question counts as waiting.
        let mut wait = None;
        loop {
            let attempt = self.try_claim(&target.remote, key, waiting.take());
            let attempt = tokio::select! {
                attempt = attempt => attempt,
                () = cancel.cancelled() => return Err(Error::Cancelled),
            };
            match attempt {
                Ok(Attempt::Mine(claim)) => {
                    // Another host may have left the result since it was looked for.
                    if let Some(found) = self.find(key).await {
                        return Ok(Turn::Done(found));
                    }
                    return Ok(Turn::Ours(Some(claim)));
                }
                Ok(Attempt::Unsupported) => return Ok(Turn::Ours(None)),
                Ok(Attempt::Theirs(other)) => waiting = Some(other),
                Err(error) => {
                    self.warn(&target.remote, &error);
                    return Ok(Turn::Ours(None));
                }
            }
            if wait.is_none() {
                wait = self.0.patience.wait();
            }
            let left = self.0.patience.left();
            if wait.is_none() || left.is_zero() {
                self.run_out(&target.remote);
                return Ok(Turn::Ours(None));
            }
            let found = async {
                tokio::time::sleep(LOOK.min(left)).await;
                self.find(key).await
            };
            let found = tokio::select! {
                found = found => found,
                () = cancel.cancelled() => return Err(Error::Cancelled),
            };
            if let Some(found) = found {
                return Ok(Turn::Done(found));
            }
        }
    }

    /// Tells once that other hosts were waited for long enough.
    fn run_out(&self, remote: &Remote) {
        if self.0.patience.tells() {
            let limit = humantime(self.0.patience.limit());
            tracing::warn!(
                "cache {}: other hosts still run steps after {limit} of waiting; from now on \
                 such steps run here too",
                remote.label()
            );
        }
    }
}

/// A time in words.
fn humantime(time: std::time::Duration) -> String {
    match (time.as_secs(), time.subsec_millis()) {
        (s, 0) if s > 0 && s % 60 == 0 => format!("{} min", s / 60),
        (s, 0) => format!("{s} s"),
        (s, ms) => format!("{s}.{ms:03} s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kiln_cache::remote::{Claimed, RemoteSpec, Trust};
    use kiln_registry::{Client, RegistryConfig};
    use tokio::time::Instant;

    use super::*;

    /// A host that holds on to its claims costs a build the time that it waits once, not for every
    /// step.
    #[tokio::test(start_paused = true)]
    async fn a_build_waits_for_other_hosts_once() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("type=local,dest={},mode=max", dir.path().display());
        let spec = RemoteSpec::parse(&text, true).unwrap();
        let client = Client::anonymous(RegistryConfig::default());
        let open = || Remote::open(&spec, &client, "", Trust::default()).unwrap();
        let (other, own) = (open(), open());
        let keys: Vec<Key> = (0..6).map(|n: u8| Key([n; 32])).collect();
        let mut held = Vec::new();
        for key in &keys {
            match other
                .claim(*key, None, &CancellationToken::new())
                .await
                .unwrap()
            {
                Claimed::Mine(claim) => held.push(claim),
                claimed => panic!("{claimed:?}"),
            }
        }
        let patience = Duration::from_secs(9);
        let remotes = crate::share::Remotes {
            from: vec![own.clone()],
            to: vec![(own, spec.clone())],
            ..crate::share::Remotes::default()
        };
        let share = Share::new(remotes, patience, CancellationToken::new());
        let (begun, cancel) = (Instant::now(), CancellationToken::new());
        let together = keys[..2].iter().map(|key| share.turn(*key, &cancel));
        let together = futures_util::future::join_all(together).await;
        let mut turns: Vec<Turn> = together.into_iter().map(Result::unwrap).collect();
        for key in &keys[2..] {
            turns.push(share.turn(*key, &cancel).await.unwrap());
        }
        let waited = begun.elapsed();
        assert!(turns.iter().all(|t| matches!(t, Turn::Ours(None))));
        // Time is that of the test's clock, which stands still unless all wait.
        assert!(waited >= patience && waited < patience + LOOK, "{waited:?}");
        assert_eq!(held.len(), keys.len());
    }
}
