//! Tells why a step ran, beside its run: nothing waits for it but the end of the build.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use super::Run;
use super::reads::{Reads, base_of};
use crate::event::Event;
use crate::explain::{Earlier, LabelledInput, Listing, Nearest, Reason, compare, nearest};
use crate::key::Fingerprint;
use crate::plan::{Forced, Op, Vertex, VertexId};
use crate::ports::{PortError, Solved, Worker};

/// How long the end of a step is held back for its explanation.
const SHORT_STORY: Duration = Duration::from_millis(50);

/// What is known of a miss when it happens.
#[derive(Clone, Debug)]
pub(super) struct Miss {
    /// The cache was not asked.
    pub(super) forced: Option<Forced>,
    /// There is a result that is too old.
    pub(super) expired: Option<SystemTime>,
    /// The key was not known, so that nothing was looked up.
    pub(super) early: bool,
    /// What may be compared with. It is asked for before the step writes its own record.
    earlier: Vec<Earlier>,
}

impl<W: Worker> Run<W> {
    /// Says that a step was found.
    pub(super) fn tell(&self, vertex: VertexId, reason: Reason) {
        self.options
            .events
            .send(Event::Explained { vertex, reason });
    }

    /// Notes what may be compared with a step that was not found.
    pub(super) fn missed(&self, vertex: &Vertex, expired: Option<SystemTime>, early: bool) -> Miss {
        let forced = vertex.ignore_cache.clone();
        let ask = forced.is_none() && expired.is_none();
        let earlier = if ask {
            self.worker.earlier(&vertex.origin).unwrap_or_else(|error| {
                tracing::debug!(%error, "earlier runs are not known");
                Vec::new()
            })
        } else {
            Vec::new()
        };
        Miss {
            forced,
            expired,
            early,
            earlier,
        }
    }

    /// Tells why a step runs, as soon as its key is known.
    pub(super) fn begin_story(
        self: &Arc<Self>,
        id: VertexId,
        vertex: &Vertex,
        inputs: &[Solved<W::Output>],
        reads: &Reads,
        miss: Miss,
    ) {
        // A second solve of the same plan for its bytes alone is no news.
        if self.options.unrecorded {
            return;
        }
        let at_once = match (&miss.forced, miss.expired) {
            (Some(forced), _) => Some(Reason::Forced(forced.clone())),
            (None, Some(ran_at)) => Some(Reason::Expired { ran_at }),
            (None, None) if miss.earlier.is_empty() => Some(Reason::New),
            (None, None) => None,
        };
        if let Some(reason) = at_once {
            return self.tell(id, reason);
        }
        let (run, vertex, inputs) = (self.clone(), vertex.clone(), inputs.to_vec());
        let reads = reads.clone();
        let (told, hear) = oneshot::channel();
        if let Ok(mut untold) = self.untold.lock() {
            untold.insert(id, hear);
        }
        let story = async move {
            match run.explanation(&vertex, &inputs, reads, miss).await {
                Ok(reason) => run.tell(id, reason),
                // The step fails for the same cause, or nobody wants to know any more.
                Err(error) => tracing::debug!(%error, "a step is not explained"),
            }
            // Nobody listens any more if it took long.
            let _ = told.send(());
        };
        if let Ok(mut stories) = self.stories.lock() {
            stories.spawn(story);
        }
    }

    /// Waits a little for the explanation of a vertex, so that it comes before the end of that.
    pub(super) async fn await_story(&self, id: VertexId) {
        let hear = self
            .untold
            .lock()
            .ok()
            .and_then(|mut untold| untold.remove(&id));
        if let Some(hear) = hear {
            let _ = tokio::time::timeout(SHORT_STORY, hear).await;
        }
    }

    async fn explanation(
        &self,
        vertex: &Vertex,
        inputs: &[Solved<W::Output>],
        mut reads: Reads,
        miss: Miss,
    ) -> Result<Reason, PortError> {
        let base = match base_of(&vertex.op, inputs) {
            Some(base) => Some(base.identity.wait().await?),
            None => None,
        };
        let key = reads.key(vertex, base);
        let now = reads.inputs(&self.plan, vertex, base);
        let (ran_at, before) = match nearest(
            key,
            &now,
            &vertex.origin,
            &self.instructions(vertex),
            miss.earlier,
        ) {
            Nearest::Same(run) if self.oldest().is_some_and(|t| run.ran_at < t) => {
                return Ok(Reason::Expired { ran_at: run.ran_at });
            }
            Nearest::Same(run) if miss.early => return Ok(Reason::Early { ran_at: run.ran_at }),
            Nearest::Same(run) => {
                return Ok(Reason::Gone {
                    ran_at: run.ran_at,
                    removed: run.removed,
                });
            }
            Nearest::Other(run) => (run.ran_at, run.inputs),
            Nearest::None => return Ok(Reason::New),
        };
        // A command is explained while it runs, and what it reads has not been listed yet.
        if matches!(vertex.op, Op::Exec(_)) && !reads.is_empty() {
            reads = Reads::of(&*self.worker, &self.plan, vertex, inputs, true).await?;
        }
        let now = reads.inputs(&self.plan, vertex, base);
        let listings = self.listings(&before, &now).await?;
        let changes = compare(&before, &now, |digits| {
            let found = listings.iter().find(|(f, _)| f.to_hex() == digits);
            found.map(|(_, listing)| listing.clone())
        });
        Ok(Reason::Changed { ran_at, changes })
    }

    /// The instructions of all steps but this one.
    fn instructions(&self, vertex: &Vertex) -> BTreeSet<String> {
        let ids = self.cells.keys();
        let all = ids.map(|id| &self.plan.vertex(*id).origin);
        all.filter(|o| o.instruction != vertex.origin.instruction)
            .map(|o| o.instruction.clone())
            .collect()
    }

    /// What those fingerprints cover that only one side has.
    async fn listings(
        &self,
        before: &[LabelledInput],
        now: &[LabelledInput],
    ) -> Result<Vec<(Fingerprint, Listing)>, PortError> {
        let digests = |of: &[LabelledInput]| -> BTreeSet<String> {
            let files = of
                .iter()
                .filter(|i| i.kind == crate::explain::InputKind::Files);
            files.map(|i| i.digest.clone()).collect()
        };
        let (a, b) = (digests(before), digests(now));
        let mut out = Vec::new();
        for digits in a.symmetric_difference(&b) {
            let Some(fingerprint) = Fingerprint::from_hex(digits) else {
                continue;
            };
            if let Some(listing) = self.worker.listing(fingerprint).await? {
                out.push((fingerprint, listing));
            }
        }
        Ok(out)
    }
}
