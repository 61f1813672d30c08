//! A second build from scratch, compared with the first step by step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use kiln_executor::Output;
use kiln_solver::plan::{Op, VertexId};
use kiln_solver::schedule::{self, SolveError};

use super::{Build, Solved};
use crate::error::{Error, Hint, Result};
use crate::event::{Event, Events};

impl Build {
    /// Carries the plan out again with nothing from the cache, and compares the layers of all steps; each
    /// difference is an event. Nothing of the second build stays in the store.
    ///
    /// # Errors
    /// [`Error::NotReproducible`], or the second build failed.
    pub async fn check_reproducible(&self, first: &Solved, events: &Events) -> Result<()> {
        let checked = self.compare(first, events).await;
        // Also what a build that failed has left.
        let cleared = self.worker()?.store().discard_own_unrecorded();
        checked?;
        Ok(cleared?)
    }

    async fn compare(&self, first: &Solved, events: &Events) -> Result<()> {
        let worker = self.worker()?;
        let options = schedule::Options {
            parallelism: self.engine.config().parallelism,
            started: SystemTime::now(),
            ttl: None,
            unrecorded: true,
            shared: false,
            files: false,
            events: events.of_steps(),
            cancel: self.cancel.clone(),
            over: self.cancel.child_token(),
        };
        let second = Arc::new(worker.without_mounts()?);
        let solving = schedule::solve(first.plan.clone(), &first.targets, second, options);
        let second = solving.await.map_err(|error| match error {
            SolveError::Cancelled => Error::Cancelled,
            SolveError::Vertex { vertex, error } => Error::failed(format!(
                "the second build failed where the first did not: {}: {}",
                first.plan.vertex(vertex).name,
                error.message
            )),
            // None are asked for.
            SolveError::Files(error) => Error::failed(error.message),
        })?;
        let second: BTreeMap<VertexId, Output> = second.made.into_iter().collect();
        let (mut differs, mut only_times) = (false, true);
        for (vertex, output) in &first.made {
            let step = first.plan.vertex(*vertex);
            if !matches!(step.op, Op::Exec(_) | Op::File(_)) {
                continue;
            }
            let Some(again) = second.get(vertex) else {
                continue;
            };
            let found = worker
                .comparer()
                .first_difference(output, again, first.epoch)
                .await?;
            if let Some(difference) = found {
                differs = true;
                only_times &= difference.field == "mtime";
                let step = step.name.clone();
                events.send(Event::Difference { step, difference });
            }
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let is_clamped = first
            .epoch
            .is_some_and(|epoch| epoch <= now.unwrap_or_default().as_secs());
        let hint = match (differs, is_clamped) {
            (false, true) => return Ok(()),
            (true, true) => None,
            (_, false) if only_times => Some(Hint::GiveEpoch),
            (_, false) => Some(Hint::StepsAndTimesDiffer),
        };
        Err(Error::NotReproducible { hint })
    }
}
