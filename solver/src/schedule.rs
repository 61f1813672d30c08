//! Walks a plan: every vertex as soon as its inputs are there, as few as possible, each once.
//!
//! For a vertex the key is computed from the identities of its inputs and looked up. On a miss
//! the step runs under a flight, so that no other process runs the same. Hashing what a step
//! wrote may take longer than starting the next one: then the next step runs at once, and its
//! key is filled in when the hash is there.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::event::{Counts, Event, Events, Outcome};
use crate::explain::Found;
use crate::key::{Encoder, Key};
use crate::plan::{Op, Plan, Vertex, VertexId};
use crate::ports::{
    Committed, FetchProgress, Fetched, Pending, PortError, Solved, Sourced, Step, Worker,
};

use slots::{PendingGuard, SharedResult, VertexResult, VertexSlot};

/// How long explanations may take after a failure.
const LAST_WORDS: Duration = Duration::from_millis(200);

mod explanation;
mod reads;
mod slots;
mod step;
#[cfg(test)]
mod tests;

/// How a plan is walked.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most steps that run at once.
    pub parallelism: usize,
    /// When the build began: results older than this do not count for vertices that ignore the
    /// cache.
    pub started: SystemTime,
    /// Results that are older than this when the build begins do not count.
    pub ttl: Option<Duration>,
    /// Every step runs, and nothing of that is written down: the layers stay until the caller
    /// throws them away.
    pub unrecorded: bool,
    /// Results may come from other hosts: a step waits for the key that it is looked up by, however
    /// long hashing what lies below takes.
    pub shared: bool,
    /// The files of the targets are used when the build is over: they are brought in with it.
    pub files: bool,
    /// Where events go.
    pub events: Events,
    /// Stops everything.
    pub cancel: CancellationToken,
    /// Stops transfers. It is cancelled when the build has failed, and not when a result was lost
    /// that a remote cache promised: then the plan is walked again, with what is on its way.
    pub over: CancellationToken,
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
    /// All steps are done, and the files of the result cannot be had.
    #[error("{0}")]
    Files(#[source] PortError),
    /// The build was stopped from outside.
    #[error("the build was interrupted")]
    Cancelled,
}

impl SolveError {
    /// What a port said.
    fn of_port(&self) -> Option<&PortError> {
        match self {
            Self::Vertex { error, .. } | Self::Files(error) => Some(error),
            Self::Cancelled => None,
        }
    }

    /// Whether a result that was found is gone: solving the same plan again works without it.
    pub fn is_lost(&self) -> bool {
        self.of_port().is_some_and(PortError::is_lost)
    }
}

/// What became of a plan.
#[derive(Debug)]
pub struct Solution<O> {
    /// The results of the targets, in their order.
    pub results: Vec<Committed<O>>,
    /// What was made of every vertex, inputs first.
    pub made: Vec<(VertexId, O)>,
    /// What became of the vertices.
    pub counts: Counts,
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
        .map(|id| (*id, VertexSlot::<W::Output>::default()))
        .collect();
    let slots = Arc::new(Semaphore::new(options.parallelism.max(1)));
    let definitions = plan.definitions(targets);
    let run = Arc::new(Run {
        plan,
        definitions,
        worker,
        options,
        cells,
        slots,
        stories: Mutex::default(),
        untold: Mutex::default(),
        counts: Mutex::default(),
        busy: Arc::new(tokio::sync::watch::channel(0).0),
    });
    // One task for all: what takes long runs on other threads, and a chain of steps that are found would
    // wake a thread for each of them.
    let mut tasks = FuturesUnordered::<Pin<Box<dyn Future<Output = _> + Send>>>::new();
    // All are busy before the first begins.
    let busy: Vec<PendingGuard> = order.iter().map(|_| PendingGuard::new(&run.busy)).collect();
    if run.options.files {
        let (run, busy) = (run.clone(), PendingGuard::new(&run.busy));
        let targets = targets.to_vec();
        tasks.push(Box::pin(async move {
            let brought = run.materialise(&targets, busy).await;
            brought.map_err(SolveError::Files)
        }));
    }
    for (id, busy) in order.iter().copied().zip(busy) {
        let run = run.clone();
        tasks.push(Box::pin(async move {
            let made = run.vertex(id, busy).await;
            made.map_err(|error| SolveError::Vertex { vertex: id, error })
        }));
    }
    let mut failure: Option<SolveError> = None;
    while let Some(done) = tasks.next().await {
        let Err(error) = done else { continue };
        // The first real failure counts; what it stopped is no failure.
        let real = error.of_port().is_some_and(|error| !error.is_cancelled());
        if failure.is_none() && real {
            if !error.is_lost() {
                run.options.over.cancel();
            }
            failure = Some(error);
        }
        run.options.cancel.cancel();
    }
    let mut stories = run.stories.lock().map_or_else(
        |poisoned| std::mem::take(&mut *poisoned.into_inner()),
        |mut stories| std::mem::take(&mut *stories),
    );
    let told = async { while stories.join_next().await.is_some() {} };
    if run.options.cancel.is_cancelled() {
        // Nobody waits long for what is said of a build that is over.
        let _ = tokio::time::timeout(LAST_WORDS, told).await;
    } else {
        told.await;
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
    run.worker.settle().await;
    let mut made = Vec::new();
    for id in order {
        if let Some(done) = run.cells.get(&id).and_then(|c| c.done.get()) {
            made.push((id, done.solved.output.clone()));
        }
    }
    let counts = run.counts.lock().map_or_else(|p| *p.into_inner(), |c| *c);
    Ok(Solution {
        results,
        made,
        counts,
    })
}

struct Run<W: Worker> {
    plan: Arc<Plan>,
    definitions: BTreeMap<VertexId, Key>,
    worker: Arc<W>,
    options: Options,
    cells: HashMap<VertexId, VertexSlot<W::Output>>,
    slots: Arc<Semaphore>,
    /// Explanations on their way.
    stories: Mutex<tokio::task::JoinSet<()>>,
    /// Hear when the explanation of a vertex has been sent.
    untold: Mutex<HashMap<VertexId, oneshot::Receiver<()>>>,
    /// What became of the vertices so far.
    counts: Mutex<Counts>,
    /// How many may still need results of others.
    busy: Arc<tokio::sync::watch::Sender<usize>>,
}

type Inputs<O> = Vec<Solved<O>>;

impl<W: Worker> Run<W> {
    async fn vertex(self: Arc<Self>, id: VertexId, busy: PendingGuard) -> Result<(), PortError> {
        let vertex = self.plan.vertex(id);
        let mut inputs = Vec::new();
        for input in &vertex.inputs {
            let done = self.wait_for(*input).await;
            if done.is_err() {
                self.finished(id, Outcome::NotReached, Duration::ZERO, None, None);
            }
            inputs.push(done?.solved);
        }
        let definition = self.definitions.get(&id).copied();
        let definition = definition.ok_or_else(|| PortError::new("a vertex has no definition"))?;
        let begun = Instant::now();
        let step = Step {
            vertex: id,
            definition,
            name: vertex.name.as_str().into(),
            events: self.options.events.clone(),
            cancel: self.options.cancel.clone(),
            over: self.options.over.clone(),
            begun: Arc::default(),
        };
        self.options.events.send(Event::Started { vertex: id });
        let done = self.carry_out(vertex, &inputs, &step).await;
        let (outcome, error, key) = match &done {
            Ok((done, key)) => (done.outcome.clone(), None, key.map(Key::to_hex)),
            // A step that met a lost result failed at nothing: it is carried out again.
            Err(e) if e.is_cancelled() || e.is_lost() => (Outcome::Cancelled, None, None),
            Err(e) => (Outcome::Failed, Some(e.message.clone()), None),
        };
        let took = step.begun.get().copied().unwrap_or(begun).elapsed();
        let committed = done.map(|(done, _)| {
            let (committed, arrival) = (done.committed.clone(), done.arrival.clone());
            if let Some(cell) = self.cells.get(&id) {
                let _ = cell.done.set(done);
                cell.ready.notify_waiters();
            }
            (committed, arrival)
        });
        // What comes next has begun: only people wait here.
        self.await_story(id).await;
        if let Ok((_, Some(arrival))) = &committed {
            drop(busy);
            self.options.events.send(Event::Waiting { vertex: id });
            let (outcome, took) = self.arrived(arrival).await;
            self.finished(id, outcome, took, None, None);
            return Ok(());
        }
        self.finished(id, outcome, took, error, key);
        let (committed, _) = committed?;
        // What runs in the background belongs to the vertex: the build ends when it is done.
        committed.wait().await.map(|_| ())
    }

    /// Brings in the files of the targets, when they are made.
    async fn materialise(&self, targets: &[VertexId], busy: PendingGuard) -> Result<(), PortError> {
        for target in targets {
            // What fails here has failed as a vertex.
            let made = self.wait_for(*target).await;
            let made = made.map_err(|_| PortError::cancelled())?;
            let committed = made.committed.wait().await;
            let committed = committed.map_err(|_| PortError::cancelled())?;
            tokio::select! {
                brought = self.worker.materialise(&committed.output) => brought?,
                () = self.options.cancel.cancelled() => return Err(PortError::cancelled()),
            }
        }
        drop(busy);
        Ok(())
    }

    /// What became of a source that comes when it is needed: it waits until its files are here, or
    /// nobody is left who could need them.
    async fn arrived(&self, arrival: &FetchProgress) -> (Outcome, Duration) {
        let mut others = self.busy.subscribe();
        tokio::select! {
            biased;
            () = arrival.complete() => {}
            _ = others.wait_for(|busy| *busy == 0) => {}
            () = self.options.cancel.cancelled() => {}
        }
        let state = arrival.now();
        let outcome = match (state.began, state.left) {
            (None, _) => Outcome::Cached(Found::Local),
            (Some(_), 0) => Outcome::Fetched,
            (Some(_), _) => Outcome::Cancelled,
        };
        (outcome, state.took())
    }

    fn finished(
        &self,
        vertex: VertexId,
        outcome: Outcome,
        took: Duration,
        error: Option<String>,
        key: Option<String>,
    ) {
        if let Ok(mut counts) = self.counts.lock() {
            counts.add(&outcome);
        }
        self.options.events.send(Event::Finished {
            vertex,
            outcome,
            took,
            error,
            key,
        });
    }

    async fn wait_for(&self, id: VertexId) -> Result<VertexResult<W::Output>, PortError> {
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
        self: &Arc<Self>,
        vertex: &Vertex,
        inputs: &Inputs<W::Output>,
        step: &Step,
    ) -> Result<(VertexResult<W::Output>, Option<Key>), PortError> {
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
                let committed = SharedResult::now(committed);
                let (outcome, arrival) = match fetched {
                    Fetched::No => (Outcome::Cached(Found::Local), None),
                    Fetched::InPlace => (Outcome::InPlace, None),
                    Fetched::Yes => (Outcome::Fetched, None),
                    Fetched::WhenNeeded(arrival) => (Outcome::Cached(Found::Local), Some(arrival)),
                };
                let done = VertexResult {
                    solved,
                    committed,
                    outcome,
                    arrival,
                };
                Ok((done, None))
            }
            Op::Merge(merge) => match self.merge(inputs).await? {
                Some(done) => Ok((done, None)),
                None => {
                    let mut instead = Vertex {
                        op: Op::File(merge.otherwise.clone()),
                        ..vertex.clone()
                    };
                    instead.inputs.remove(1);
                    let mut inputs = inputs.clone();
                    inputs.remove(1);
                    self.step(&instead, &inputs, step).await
                }
            },
            Op::Exec(_) | Op::File(_) => self.step(vertex, inputs, step).await,
        }
    }

    async fn merge(
        &self,
        inputs: &Inputs<W::Output>,
    ) -> Result<Option<VertexResult<W::Output>>, PortError> {
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
        let committed = SharedResult::now(committed);
        Ok(Some(VertexResult {
            solved,
            committed,
            outcome: Outcome::Cached(Found::Local),
            arrival: None,
        }))
    }
}
