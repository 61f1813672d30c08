//! The life of one step: key, lookup, flight, run, commit.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::reads::{Reads, Since, base_of};
use super::{Inputs, Run, SharedResult, VertexResult};
use crate::event::{Outcome, Warning, WarningCode};
use crate::explain::Reason;
use crate::hint::Hint;
use crate::key::Key;
use crate::plan::{Op, Vertex, VertexId};
use crate::ports::{
    Committed, Hit, Lookup, Made, Pending, PortError, Record, Solved, Step, Unused, Worker,
};

/// How long a step waits for the hash of the layer below before it starts without.
pub(super) const SMALL_LAYER: Duration = Duration::from_millis(25);

/// How often it is waited for files to be still.
const MAX_WAITS: usize = 5;

/// How often a step is carried out again because a context changed meanwhile.
const MAX_CHANGES: usize = 3;

impl<W: Worker> Run<W> {
    /// The result of a step: found, or made.
    pub(super) async fn step(
        self: &Arc<Self>,
        vertex: &Vertex,
        inputs: &Inputs<W::Output>,
        step: &Step,
    ) -> Result<(VertexResult<W::Output>, Option<Key>), PortError> {
        let base = base_of(&vertex.op, inputs);
        // Results of other hosts count where old results count.
        let shared = self.options.shared && vertex.ignore_cache.is_none();
        if shared && let Some(base) = base {
            base.identity.wait().await?;
        }
        let mut reads = Reads::of(&*self.worker, &self.plan, vertex, inputs, false).await?;
        let key_of = |reads: &Reads| match base {
            None => Some(reads.key(vertex, None)),
            Some(base) => base.identity.now().map(|id| reads.key(vertex, Some(id))),
        };
        let mut key = key_of(&reads);
        let mut expired = None;
        if let Some(key) = key
            && let Some(done) = self.look(key, base, vertex, step, &mut expired).await?
        {
            return Ok((done, Some(key)));
        }
        if shared && let Some(key) = key {
            let hit = self.worker.lookup_shared(key, base, step, &vertex.origin);
            if let Some(hit) = hit.await?
                && self.is_fresh(&hit, &mut expired)
            {
                return Ok((self.found(hit, key, step).await?, Some(key)));
            }
        }
        let mut flight = tokio::select! {
            flight = self.worker.flight(step) => flight?,
            () = step.cancel.cancelled() => return Err(PortError::cancelled()),
        };
        // Another process may have done it while this one waited.
        if let Some(key) = key
            && let Some(done) = self.look(key, base, vertex, step, &mut expired).await?
        {
            return Ok((done, Some(key)));
        }
        if shared && let Some(key) = key {
            let hit = (self.worker).claim(key, &mut flight, base, step, &vertex.origin);
            if let Some(hit) = hit.await?
                && self.is_fresh(&hit, &mut expired)
            {
                return Ok((self.found(hit, key, step).await?, Some(key)));
            }
        }
        let miss = self.missed(vertex, expired, key.is_none());
        let slot = tokio::select! {
            slot = self.slots.acquire() => slot.map_err(|_| PortError::cancelled())?,
            () = step.cancel.cancelled() => return Err(PortError::cancelled()),
        };
        // Without a key nothing was looked up.
        let was_early = key.is_none();
        let mut tries = 0;
        let is_command = matches!(vertex.op, Op::Exec(_));
        let mut miss = Some(miss);
        if is_command && let Some(miss) = miss.take() {
            self.begin_story(step.vertex, vertex, inputs, &reads, miss);
        }
        let (made, started, took) = loop {
            // A change in the same tick as the last one could not be told from it.
            let mut is_still = false;
            for _ in 0..MAX_WAITS {
                let unsettled = reads.unsettled(SystemTime::now());
                is_still = unsettled.is_zero();
                if is_still {
                    break;
                }
                tokio::time::sleep(unsettled).await;
                reads = Reads::of(&*self.worker, &self.plan, vertex, inputs, false).await?;
                key = key_of(&reads);
            }
            let (started, begun) = (SystemTime::now(), Instant::now());
            let made = match &vertex.op {
                Op::Exec(op) => self.worker.exec(op, inputs, step).await?,
                Op::File(op) => self.worker.file(op, inputs, step).await?,
                _ => return Err(PortError::new("this kind of op has no step")),
            };
            let took = step.begun.get().copied().unwrap_or(begun).elapsed();
            if reads.is_empty() {
                break (made, started, took);
            }
            let after = Reads::of(&*self.worker, &self.plan, vertex, inputs, true).await?;
            let since = after.since(&reads);
            reads = after;
            // A command may run for long, and what comes and goes meanwhile is seldom what it reads; a copy
            // is soon made again.
            let is_enough = is_command || tries >= MAX_CHANGES;
            match since {
                Since::Nothing => {
                    if !is_still {
                        // A change may have been missed.
                        reads.keep_for_nobody();
                    }
                    key = key_of(&reads);
                    break (made, started, took);
                }
                Since::ComeAndGone if is_enough => {
                    let text = format!(
                        "files came and went in the context while it was read: the result is not used \
                         again (step: {})",
                        step.name
                    );
                    let warning = Warning::new(WarningCode::ContextChanged, text);
                    step.events.warn(warning.of(step.vertex));
                    reads.keep_for_nobody();
                    key = key_of(&reads);
                    break (made, started, took);
                }
                Since::ComeAndGone | Since::Written => {}
            }
            self.worker.discard(made)?;
            key = key_of(&reads);
            tries += 1;
            if tries > MAX_CHANGES {
                return Err(PortError::new("the files of the context keep changing")
                    .with_hint(Hint::CopyContext));
            }
        };
        drop(slot);
        // What a copy reads has been listed by now.
        if let Some(miss) = miss {
            self.begin_story(step.vertex, vertex, inputs, &reads, miss);
        }
        // Without a key nothing was found to be too old, though it may be.
        let expired = expired.is_some() || was_early && self.options.ttl.is_some();
        let replaceable = vertex.ignore_cache.is_some() || expired;
        let done = self
            .commit(
                vertex,
                inputs,
                made,
                (key, reads),
                (started, took),
                replaceable,
                flight,
                step,
            )
            .await?;
        Ok((done, key))
    }

    /// When results must have been made to count. A time before all times is no limit.
    pub(super) fn oldest(&self) -> Option<SystemTime> {
        let ttl = self.options.ttl?;
        self.options.started.checked_sub(ttl)
    }

    /// What is in the cache under `key`; notes in `expired` when it ran if that is too long ago.
    async fn look(
        &self,
        key: Key,
        base: Option<&Solved<W::Output>>,
        vertex: &Vertex,
        step: &Step,
        expired: &mut Option<SystemTime>,
    ) -> Result<Option<VertexResult<W::Output>>, PortError> {
        if self.options.unrecorded {
            return Ok(None);
        }
        let started = self.options.started;
        let not_before = match vertex.ignore_cache {
            Some(_) => Some(started),
            None => self.oldest(),
        };
        let found = self.worker.lookup(key, base, not_before).await?;
        tracing::debug!(
            step = vertex.name.as_str(),
            key = key.to_hex(),
            found = matches!(found, Lookup::Hit(_)),
            "looked a step up"
        );
        match found {
            Lookup::Hit(hit) => {
                self.worker.used(key, &hit.solved, step);
                Ok(Some(self.found(hit, key, step).await?))
            }
            Lookup::Expired { ran_at } => {
                *expired = Some(ran_at);
                Ok(None)
            }
            Lookup::Miss => Ok(None),
        }
    }

    /// Whether a result of another host is young enough; notes in `expired` when it ran if not.
    fn is_fresh(&self, hit: &Hit<W::Output>, expired: &mut Option<SystemTime>) -> bool {
        let old = self.oldest().is_some_and(|oldest| hit.ran_at < oldest);
        if old {
            *expired = Some(hit.ran_at);
        }
        !old
    }

    /// The end of a step whose result was found.
    async fn found(
        &self,
        hit: Hit<W::Output>,
        key: Key,
        step: &Step,
    ) -> Result<VertexResult<W::Output>, PortError> {
        let reason = Reason::Hit {
            key,
            ran_at: hit.ran_at,
            took: hit.took,
            found: hit.found.clone(),
        };
        self.tell(step.vertex, reason);
        let identity = hit.solved.identity.wait().await?;
        let committed = Committed {
            output: hit.solved.output.clone(),
            identity,
        };
        let committed = SharedResult::now(committed);
        let outcome = Outcome::Cached(hit.found);
        Ok(VertexResult {
            solved: hit.solved,
            committed,
            outcome,
            arrival: None,
        })
    }

    /// Has the new layer hashed and stored; waits for it only where that is worth it.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, and a struct would say no more"
    )]
    async fn commit(
        &self,
        vertex: &Vertex,
        inputs: &Inputs<W::Output>,
        made: Made<W::Output, W::Layer>,
        (key, reads): (Option<Key>, Reads),
        (started, took): (SystemTime, Duration),
        replaceable: bool,
        flight: W::Flight,
        step: &Step,
    ) -> Result<VertexResult<W::Output>, PortError> {
        let (send_key, receive_key) = oneshot::channel();
        let output = made.output.clone();
        let unused = Unused::new(replaceable);
        // What runs again on this result in any case asks no cache for what follows from it. What reads
        // files of it remembers what it found under the identity.
        let mut users = self.plan.users(step.vertex).peekable();
        let is_used = users.peek().is_some();
        let only_reruns =
            is_used && users.all(|u| u.ignore_cache.is_some() && is_only_base(u, step.vertex));
        let record = Record {
            definition: step.definition,
            key: receive_key,
            base: base_of(&vertex.op, inputs).cloned(),
            name: step.name.clone(),
            origin: vertex.origin.clone(),
            started,
            took,
            unused: unused.clone(),
            awaited: is_used && !only_reruns,
            unrecorded: self.options.unrecorded,
        };
        let below = record.base.as_ref().and_then(|base| base.identity.now());
        match key {
            Some(key) => {
                let _ = send_key.send((key, reads.inputs(&self.plan, vertex, below)));
            }
            None => {
                // The identity of the tree below is on its way.
                let (vertex, base) = (vertex.clone(), record.base.clone());
                let plan = self.plan.clone();
                tokio::spawn(async move {
                    let identity = match &base {
                        Some(base) => base.identity.wait().await.map(Some),
                        None => Ok(None),
                    };
                    // Without it the layer is thrown away: the build has failed meanwhile.
                    if let Ok(identity) = identity {
                        let key = reads.key(&vertex, identity);
                        let _ = send_key.send((key, reads.inputs(&plan, &vertex, identity)));
                    }
                });
            }
        }
        let (to, from) = tokio::sync::watch::channel(None);
        let (promise, identity) = Pending::new();
        let commit = self.worker.commit(made, record, flight);
        tokio::spawn(async move {
            let committed = commit.await;
            promise.deliver(committed.as_ref().map(|c| c.identity).map_err(Clone::clone));
            to.send_replace(Some(committed));
        });
        let committed = SharedResult(from);
        // A re-run may turn out to have made what was there before: then all that follows stays
        // cached, so the answer is worth waiting for. Otherwise wait only as long as a small
        // layer takes.
        let patience = if replaceable && !only_reruns {
            Duration::MAX
        } else {
            SMALL_LAYER
        };
        let output = match tokio::time::timeout(patience, committed.wait()).await {
            Ok(committed) => committed?.output,
            Err(_) if unused.used() => output,
            Err(_) => committed.wait().await?.output,
        };
        let solved = Solved { output, identity };
        Ok(VertexResult {
            solved,
            committed,
            outcome: Outcome::Ran,
            arrival: None,
        })
    }
}

/// Whether a vertex uses another as what it starts from, and for nothing else.
fn is_only_base(user: &Vertex, of: VertexId) -> bool {
    let on_base = match &user.op {
        Op::Exec(op) => op.on_base,
        Op::File(op) => op.on_base,
        _ => false,
    };
    on_base
        && user
            .inputs
            .split_first()
            .is_some_and(|(base, rest)| *base == of && !rest.contains(&of))
}
