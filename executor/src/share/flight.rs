//! The flight of a step, on this host and on others.

use std::sync::Arc;
use std::time::Instant;

use kiln_cache::Flight;
use kiln_cache::remote::{Claim, Claimed, Waiting};
use kiln_solver::key::Key;
use tokio_util::sync::CancellationToken;

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

/// A claim that is given back when its last holder is done with it.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "it is held, and dropped")]
pub(crate) struct HeldClaim(Arc<LastHolder>);

#[derive(Debug)]
struct LastHolder {
    claim: Option<Claim>,
    share: Share,
}

impl Drop for LastHolder {
    fn drop(&mut self) {
        let Some(claim) = self.claim.take() else {
            return;
        };
        // Without a runtime the process ends, and the claim goes stale.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.share.in_background(claim.release());
        }
    }
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
        let begun = Instant::now();
        let mut waiting: Option<Waiting> = None;
        loop {
            match target.remote.claim(key, waiting.take()).await {
                Ok(Claimed::Mine(claim)) => {
                    let claim = HeldClaim(Arc::new(LastHolder {
                        claim: Some(claim),
                        share: self.clone(),
                    }));
                    // Another host may have left the result since it was looked for.
                    if let Some(found) = self.find(key).await {
                        return Ok(Turn::Done(found));
                    }
                    return Ok(Turn::Ours(Some(claim)));
                }
                Ok(Claimed::Unsupported) => return Ok(Turn::Ours(None)),
                Ok(Claimed::Theirs(other)) => waiting = Some(other),
                Err(error) => {
                    self.warn(&target.remote, &error);
                    return Ok(Turn::Ours(None));
                }
            }
            if begun.elapsed() > self.0.patience {
                let label = target.remote.label();
                tracing::warn!(
                    "cache {label}: another host is still running a step; it runs here too"
                );
                return Ok(Turn::Ours(None));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = cancel.cancelled() => return Err(Error::Cancelled),
            }
            if let Some(found) = self.find(key).await {
                return Ok(Turn::Done(found));
            }
        }
    }
}
