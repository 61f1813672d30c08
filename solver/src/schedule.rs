//! Walks a plan: every vertex as soon as its inputs are there, as few as possible, each once.
//!
//! For a vertex the key is computed from the identities of its inputs and looked up. On a miss
//! the step runs under a flight, so that no other process runs the same. Hashing what a step
//! wrote may take longer than starting the next one: then the next step runs at once, and its
//! key is filled in when the hash is there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{OnceCell, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::event::{Event, Events, Outcome};
use crate::key::{ContentKey, Encoder, Key, LabelledInput};
use crate::plan::{Op, Plan, Vertex, VertexId};
use crate::ports::{Committed, Made, Pending, PortError, Record, Solved, Sourced, Step, Worker};

/// How long a step waits for the hash of the layer below before it starts without.
const SMALL_LAYER: Duration = Duration::from_millis(25);

/// How often a step is carried out again because a context changed meanwhile.
const MAX_CHANGES: usize = 3;

mod reads;
#[cfg(test)]
mod tests;

use reads::{Reads, base_of};

/// How a plan is walked.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most steps that run at once.
    pub parallelism: usize,
    /// When the build began: results older than this do not count for vertices that ignore the
    /// cache.
    pub started: SystemTime,
    /// Where events go.
    pub events: Events,
    /// Stops everything.
    pub cancel: CancellationToken,
}

/// Why a plan could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// A vertex failed.
    #[error("{error}")]
    Vertex {
        /// Which.
        vertex: VertexId,
        /// Why.
        #[source]
        error: PortError,
    },
    /// The build was stopped from outside.
    #[error("the build was interrupted")]
    Cancelled,
}

/// What became of a plan.
#[derive(Debug)]
pub struct Solution<O> {
    /// The results of the targets, in their order.
    pub results: Vec<Committed<O>>,
    /// How many vertices were taken from the cache, and how many were carried out.
    pub counts: Counts,
}

/// Numbers of vertices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken from the cache.
    pub cached: usize,
    /// Carried out.
    pub ran: usize,
}

/// Carries out what `targets` need.
///
/// # Errors
/// The first vertex that failed, after all others have been stopped; or an interruption.
pub async fn solve<W: Worker>(
    plan: Arc<Plan>,
    targets: &[VertexId],
    worker: Arc<W>,
    options: Options,
) -> Result<Solution<W::Output>, SolveError> {
    let order = plan.reachable(targets);
    for id in &order {
        let vertex = plan.vertex(*id);
        options.events.send(Event::Planned {
            vertex: *id,
            name: vertex.name.as_str().into(),
            lines: vertex.lines,
        });
    }
    let cells = order
        .iter()
        .map(|id| (*id, Cell::<W::Output>::default()))
        .collect();
    let slots = Arc::new(Semaphore::new(options.parallelism.max(1)));
    let run = Arc::new(Run {
        plan,
        worker,
        options,
        cells,
        slots,
    });
    let mut tasks = tokio::task::JoinSet::new();
    for id in order {
        let run = run.clone();
        tasks.spawn(async move { (id, run.clone().vertex(id).await) });
    }
    let mut failure: Option<SolveError> = None;
    while let Some(joined) = tasks.join_next().await {
        let error = match joined {
            Ok((_, Ok(()))) => continue,
            Ok((vertex, Err(error))) => SolveError::Vertex { vertex, error },
            Err(e) => SolveError::Vertex {
                vertex: VertexId::default(),
                error: PortError::new(format!("a step ended unexpectedly: {e}")),
            },
        };
        // The first real failure counts; what it stopped is no failure.
        let real = matches!(&error, SolveError::Vertex { error, .. } if !error.cancelled);
        if failure.is_none() && real {
            failure = Some(error);
        }
        run.options.cancel.cancel();
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    if run.options.cancel.is_cancelled() {
        return Err(SolveError::Cancelled);
    }
    let mut results = Vec::new();
    for id in targets {
        let state = run
            .cells
            .get(id)
            .and_then(|c| c.done.get())
            .ok_or(SolveError::Cancelled)?;
        let committed = state.committed.wait().await;
        results.push(committed.map_err(|error| SolveError::Vertex { vertex: *id, error })?);
    }
    let counts = run.cells.values().filter_map(|c| c.done.get()).fold(
        Counts::default(),
        |mut counts, state| {
            match state.outcome {
                Outcome::Cached => counts.cached += 1,
                _ => counts.ran += 1,
            }
            counts
        },
    );
    Ok(Solution { results, counts })
}

/// A value that arrives once, for many.
#[derive(Clone, Debug)]
struct Later<T>(tokio::sync::watch::Receiver<Option<Result<T, PortError>>>);

impl<T: Clone + Send + Sync> Later<T> {
    fn now(value: T) -> Self {
        Self(tokio::sync::watch::channel(Some(Ok(value))).1)
    }

    async fn wait(&self) -> Result<T, PortError> {
        let mut from = self.0.clone();
        match from.wait_for(Option::is_some).await {
            Ok(value) => value.clone().unwrap_or_else(|| Err(PortError::cancelled())),
            Err(_) => Err(PortError::cancelled()),
        }
    }
}

/// A vertex that has its result.
#[derive(Clone)]
struct Done<O> {
    solved: Solved<O>,
    /// The definition: the op and those of its inputs, without any content.
    definition: Key,
    /// The result as the cache holds it, once it does.
    committed: Later<Committed<O>>,
    outcome: Outcome,
}

struct Cell<O> {
    done: OnceCell<Done<O>>,
    ready: tokio::sync::Notify,
}

impl<O> Default for Cell<O> {
    fn default() -> Self {
        Self {
            done: OnceCell::new(),
            ready: tokio::sync::Notify::new(),
        }
    }
}

struct Run<W: Worker> {
    plan: Arc<Plan>,
    worker: Arc<W>,
    options: Options,
    cells: HashMap<VertexId, Cell<W::Output>>,
    slots: Arc<Semaphore>,
}

type Inputs<O> = Vec<Solved<O>>;

impl<W: Worker> Run<W> {
    async fn vertex(self: Arc<Self>, id: VertexId) -> Result<(), PortError> {
        let vertex = self.plan.vertex(id);
        let mut inputs = Vec::new();
        let mut definition = Encoder::new("definition");
        vertex.op.encode(&mut definition);
        for input in &vertex.inputs {
            let done = self.wait_for(*input).await?;
            definition.bytes(&done.definition.0);
            inputs.push(done.solved);
        }
        let definition = Key::from(definition.finish());
        let begun = Instant::now();
        let step = Step {
            vertex: id,
            name: vertex.name.as_str().into(),
            events: self.options.events.clone(),
            cancel: self.options.cancel.clone(),
        };
        self.options.events.send(Event::Started { vertex: id });
        let done = self.carry_out(vertex, definition, &inputs, &step).await;
        let (outcome, error, key) = match &done {
            Ok((done, key)) => (done.outcome, None, key.map(Key::to_hex)),
            Err(e) if e.cancelled => (Outcome::Cancelled, None, None),
            Err(e) => (Outcome::Failed, Some(e.message.clone()), None),
        };
        let took = begun.elapsed();
        self.options.events.send(Event::Finished {
            vertex: id,
            outcome,
            took,
            error,
            key,
        });
        let (done, _) = done?;
        let committed = done.committed.clone();
        if let Some(cell) = self.cells.get(&id) {
            let _ = cell.done.set(done);
            cell.ready.notify_waiters();
        }
        // What runs in the background belongs to the vertex: the build ends when it is done.
        committed.wait().await.map(|_| ())
    }

    async fn wait_for(&self, id: VertexId) -> Result<Done<W::Output>, PortError> {
        let cell = self.cells.get(&id).ok_or_else(PortError::cancelled)?;
        loop {
            let ready = cell.ready.notified();
            if let Some(done) = cell.done.get() {
                return Ok(done.clone());
            }
            tokio::select! {
                () = ready => {}
                () = self.options.cancel.cancelled() => return Err(PortError::cancelled()),
            }
        }
    }

    async fn carry_out(
        &self,
        vertex: &Vertex,
        definition: Key,
        inputs: &Inputs<W::Output>,
        step: &Step,
    ) -> Result<(Done<W::Output>, Option<Key>), PortError> {
        match &vertex.op {
            Op::Source(op) => {
                let Sourced { solved, fetched } = tokio::select! {
                    sourced = self.worker.source(op, step) => sourced?,
                    () = step.cancel.cancelled() => return Err(PortError::cancelled()),
                };
                let identity = solved.identity.wait().await?;
                let committed = Committed {
                    output: solved.output.clone(),
                    identity,
                };
                let committed = Later::now(committed);
                Ok((
                    Done {
                        solved,
                        definition,
                        committed,
                        outcome: if fetched {
                            Outcome::Ran
                        } else {
                            Outcome::Cached
                        },
                    },
                    None,
                ))
            }
            Op::Merge(merge) => match self.merge(definition, inputs).await? {
                Some(done) => Ok((done, None)),
                None => {
                    let instead = Vertex {
                        op: Op::File(merge.otherwise.clone()),
                        ..vertex.clone()
                    };
                    let mut inputs = inputs.clone();
                    inputs.remove(1);
                    self.step(&instead, definition, &inputs, step).await
                }
            },
            Op::Exec(_) | Op::File(_) => self.step(vertex, definition, inputs, step).await,
        }
    }

    async fn merge(
        &self,
        definition: Key,
        inputs: &Inputs<W::Output>,
    ) -> Result<Option<Done<W::Output>>, PortError> {
        let (Some(lower), Some(upper)) = (inputs.first(), inputs.get(1)) else {
            return Err(PortError::new("a merge needs two inputs"));
        };
        let Some(output) = self.worker.merge(lower, upper).await? else {
            return Ok(None);
        };
        let mut to = Encoder::new("merge");
        for input in [lower, upper] {
            to.bytes(&input.identity.wait().await?.0);
        }
        let identity = to.finish().into();
        let committed = Committed {
            output: output.clone(),
            identity,
        };
        let solved = Solved {
            output,
            identity: Pending::ready(identity),
        };
        let committed = Later::now(committed);
        Ok(Some(Done {
            solved,
            definition,
            committed,
            outcome: Outcome::Cached,
        }))
    }

    async fn step(
        &self,
        vertex: &Vertex,
        definition: Key,
        inputs: &Inputs<W::Output>,
        step: &Step,
    ) -> Result<(Done<W::Output>, Option<Key>), PortError> {
        let base = base_of(&vertex.op, inputs);
        let fresh = vertex.ignore_cache.then_some(self.options.started);
        let mut reads = Reads::of(&*self.worker, &vertex.op, inputs).await?;
        let mut key = match base {
            None => Some(reads.key(vertex, None)),
            Some(base) => base.identity.now().map(|id| reads.key(vertex, Some(id))),
        };
        if let Some((key, _)) = &key
            && let Some(done) = self.look(*key, base, fresh, definition).await?
        {
            return Ok((done, Some(*key)));
        }
        let flight = tokio::select! {
            flight = self.worker.flight(definition, step) => flight?,
            () = step.cancel.cancelled() => return Err(PortError::cancelled()),
        };
        // Another process may have done it while this one waited.
        if let Some((key, _)) = &key
            && let Some(done) = self.look(*key, base, fresh, definition).await?
        {
            return Ok((done, Some(*key)));
        }
        let slot = tokio::select! {
            slot = self.slots.acquire() => slot.map_err(|_| PortError::cancelled())?,
            () = step.cancel.cancelled() => return Err(PortError::cancelled()),
        };
        let mut tries = 0;
        let (made, started, took) = loop {
            let (started, begun) = (SystemTime::now(), Instant::now());
            let made = match &vertex.op {
                Op::Exec(op) => self.worker.exec(op, inputs, step).await?,
                Op::File(op) => self.worker.file(op, inputs, step).await?,
                _ => return Err(PortError::new("this kind of op has no step")),
            };
            let took = begun.elapsed();
            if reads.is_empty() {
                break (made, started, took);
            }
            let after = Reads::of(&*self.worker, &vertex.op, inputs).await?;
            if after.same_as(&reads) {
                break (made, started, took);
            }
            self.worker.discard(made)?;
            reads = after;
            key = base
                .and_then(|b| b.identity.now())
                .map(|id| reads.key(vertex, Some(id)));
            if base.is_none() {
                key = Some(reads.key(vertex, None));
            }
            tries += 1;
            if tries > MAX_CHANGES {
                return Err(PortError::new("the files of the context keep changing")
                    .with_hint("build from a copy that nobody writes to"));
            }
        };
        drop(slot);
        let report_key = key.as_ref().map(|(k, _)| *k);
        let done = self
            .commit(
                vertex,
                definition,
                inputs,
                made,
                (key, reads),
                (started, took),
                flight,
                step,
            )
            .await?;
        Ok((done, report_key))
    }

    async fn look(
        &self,
        key: Key,
        base: Option<&Solved<W::Output>>,
        fresh: Option<SystemTime>,
        definition: Key,
    ) -> Result<Option<Done<W::Output>>, PortError> {
        let Some(hit) = self.worker.lookup(key, base, fresh).await? else {
            return Ok(None);
        };
        let identity = hit.solved.identity.wait().await?;
        let committed = Committed {
            output: hit.solved.output.clone(),
            identity,
        };
        let committed = Later::now(committed);
        let outcome = Outcome::Cached;
        Ok(Some(Done {
            solved: hit.solved,
            definition,
            committed,
            outcome,
        }))
    }

    /// Has the new layer hashed and stored; waits for it only where that is worth it.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, and a struct would say no more"
    )]
    async fn commit(
        &self,
        vertex: &Vertex,
        definition: Key,
        inputs: &Inputs<W::Output>,
        made: Made<W::Output, W::Layer>,
        (key, reads): (Option<(Key, Vec<LabelledInput>)>, Reads),
        (started, took): (SystemTime, Duration),
        flight: W::Flight,
        step: &Step,
    ) -> Result<Done<W::Output>, PortError> {
        let (send_key, receive_key) = oneshot::channel();
        let output = made.output.clone();
        let record = Record {
            key: receive_key,
            base: base_of(&vertex.op, inputs).cloned(),
            name: step.name.clone(),
            started,
            took,
            replaceable: vertex.ignore_cache,
        };
        match key {
            Some(key) => {
                let _ = send_key.send(key);
            }
            None => {
                // The identity of the tree below is on its way.
                let (vertex, base) = (vertex.clone(), record.base.clone());
                tokio::spawn(async move {
                    let identity = match &base {
                        Some(base) => base.identity.wait().await.map(Some),
                        None => Ok(None),
                    };
                    // Without it the layer is thrown away: the build has failed meanwhile.
                    if let Ok(identity) = identity {
                        let _ = send_key.send(reads.key(&vertex, identity));
                    }
                });
            }
        }
        let (to, from) = tokio::sync::watch::channel(None);
        let (promise, identity) = Pending::new();
        let commit = self.worker.commit(made, record);
        tokio::spawn(async move {
            let committed = commit.await;
            // Only now may others look for the result and not find themselves too early.
            drop(flight);
            promise.deliver(committed.as_ref().map(|c| c.identity).map_err(Clone::clone));
            to.send_replace(Some(committed));
        });
        let committed = Later(from);
        // A re-run may turn out to have made what was there before: then all that follows stays
        // cached, so the answer is worth waiting for. Otherwise wait only as long as a small
        // layer takes.
        let patience = if vertex.ignore_cache {
            Duration::MAX
        } else {
            SMALL_LAYER
        };
        let output = match tokio::time::timeout(patience, committed.wait()).await {
            Ok(committed) => committed?.output,
            Err(_) => output,
        };
        let solved = Solved { output, identity };
        Ok(Done {
            solved,
            definition,
            committed,
            outcome: Outcome::Ran,
        })
    }
}
