//! The part of a build that takes its time: from a Dockerfile that was read to an image in the store.

use std::sync::Arc;
use std::time::SystemTime;

use kiln_executor::export::{Assembled, Assembly};
use kiln_executor::{Output, RemoteCaches};
use kiln_solver::event::{Counts, Event as StepEvent, WarningCode};
use kiln_solver::lower::{self, Lowered};
use kiln_solver::plan::{MountKind, Op, Plan, VertexId};
use kiln_solver::schedule::{self, SolveError};

use super::{Build, checks, of_lowering};
use crate::cancel::unless_cancelled;
use crate::error::{Error, Result};
use crate::event::{Event, Events};

/// A plan with what was made of it.
#[derive(Debug)]
pub struct Solved {
    /// The image.
    pub image: Assembled,
    /// What became of the steps.
    pub counts: Counts,
    pub(super) plan: Arc<Plan>,
    pub(super) targets: Vec<VertexId>,
    pub(super) made: Vec<(VertexId, Output)>,
    /// `SOURCE_DATE_EPOCH` in seconds.
    pub(super) epoch: Option<u64>,
}

/// Why one attempt to solve the plan failed.
enum AttemptError {
    Solve(SolveError),
    Assemble(kiln_executor::Error),
}

impl AttemptError {
    /// Whether a remote cache could not give what it promised.
    fn is_lost(&self) -> bool {
        match self {
            Self::Solve(error) => error.is_lost(),
            Self::Assemble(error) => matches!(error, kiln_executor::Error::Lost { .. }),
        }
    }
}

impl Build {
    /// Carries out the steps, and puts the image together in the store, without a name.
    ///
    /// # Errors
    /// The Dockerfile makes no sense, a step failed, or the token was cancelled.
    pub async fn solve(&mut self, events: &Events) -> Result<Solved> {
        self.begin(false, events).await?;
        let solved = self.lower_and_solve(events).await;
        self.tell_of_removal(events);
        solved
    }

    async fn lower_and_solve(&self, events: &Events) -> Result<Solved> {
        let request = self.lowering(None);
        let lowered = lower::lower(&request, self.worker()?, &self.findings);
        let lowered = unless_cancelled(&self.cancel, lowered).await?;
        let lowered = lowered.map_err(|error| of_lowering(&self.source, error))?;
        for warning in &lowered.warnings {
            events.send(Event::Dockerfile(warning.clone()));
        }
        if self.findings.stop_the_build() {
            return Err(Error::Checks {
                rules: checks::broken(&self.findings),
            });
        }
        let platform = lowered.config.platform();
        if platform.os == "windows" {
            return Err(Error::about_windows(&platform));
        }
        let steps = events.of_steps();
        for (name, lines) in &lowered.skipped {
            steps.send(StepEvent::Skipped {
                name: name.as_str().into(),
                lines: *lines,
            });
        }
        let plan = Arc::new(lowered.plan.clone());
        let targets: Vec<_> = lowered.target.into_iter().collect();
        if self.request.clear_cache_mounts {
            self.clear_mounts(&plan, &targets, events)?;
        }
        let share = self.worker()?.remote_caches();
        if let Some(caches) = share {
            caches.expect(&plan.step_definitions(&targets));
        }
        let squash = self.request.squash && lowered.layers.len() > 1;
        let files = self.request.outputs.need_files() || !self.destinations()?.is_empty();
        // What ran in one attempt counts in the next, and so does what was fetched.
        let started = SystemTime::now();
        let over = self.cancel.child_token();
        loop {
            // A failure cancels what runs beside it, and must not cancel the next attempt.
            let options = schedule::Options {
                parallelism: self.engine.config().parallelism,
                started,
                ttl: self.request.cache_ttl,
                unrecorded: false,
                // Both builds of a comparison happen here.
                shared: share.is_some_and(RemoteCaches::reads) && !self.request.check_reproducible,
                // One layer in place of several is made of all files.
                files: files || squash,
                events: steps.clone(),
                cancel: self.cancel.child_token(),
                over: over.clone(),
            };
            match self.attempt(&lowered, &plan, &targets, options).await {
                Ok(solved) => return Ok(solved),
                // What a remote cache could not give is not asked for again.
                Err(error) if error.is_lost() && !self.cancel.is_cancelled() => {}
                Err(AttemptError::Solve(error)) => return Err(self.failure(error)),
                Err(AttemptError::Assemble(error)) => return Err(error.into()),
            }
        }
    }

    async fn attempt(
        &self,
        lowered: &Lowered,
        plan: &Arc<Plan>,
        targets: &[VertexId],
        options: schedule::Options,
    ) -> Result<Solved, AttemptError> {
        let Some(own) = &self.worker else {
            return Err(AttemptError::Solve(SolveError::Cancelled));
        };
        let worker = Arc::new(own.clone());
        let solution = schedule::solve(plan.clone(), targets, worker, options);
        let mut solution = solution.await.map_err(AttemptError::Solve)?;
        let output = solution.results.pop().map(|r| r.output);
        if let Some(output) = &output {
            checks::measure(own, output, &lowered.layers, &self.findings).await;
        }
        let assembly = Assembly {
            config: lowered.config.clone(),
            history: lowered.history.clone(),
            output,
            epoch: lowered.epoch,
        };
        let image = own.exporter().assemble(assembly, self.request.squash).await;
        let image = image.map_err(AttemptError::Assemble)?;
        if let Some(caches) = own.remote_caches() {
            let layers = image.layers.iter().filter_map(|layer| layer.id());
            caches.export_image(own.store(), layers);
        }
        Ok(Solved {
            image,
            counts: solution.counts,
            plan: plan.clone(),
            targets: targets.to_vec(),
            made: solution.made,
            epoch: lowered.epoch,
        })
    }

    fn failure(&self, error: SolveError) -> Error {
        let log = self.log_of(&error);
        let (vertex, error) = match error {
            SolveError::Cancelled => return Error::Cancelled,
            SolveError::Vertex { vertex, error } => (Some(vertex), error),
            SolveError::Files(error) => (None, error),
        };
        if error.is_cancelled() && vertex.is_none() {
            return Error::Cancelled;
        }
        Error::Step {
            vertex,
            log,
            error: Box::new(error),
        }
    }

    /// Removes the cache mounts of the steps that will be built.
    fn clear_mounts(&self, plan: &Plan, targets: &[VertexId], events: &Events) -> Result<()> {
        let mut wanted = Vec::new();
        for vertex in plan.reachable(targets) {
            let Op::Exec(exec) = &plan.vertex(vertex).op else {
                continue;
            };
            for mount in &exec.mounts {
                if let MountKind::Cache(cache) = &mount.kind {
                    wanted.push((cache, cache.name(None)));
                }
            }
        }
        let store = self.worker()?.store();
        let there = store
            .cache_mounts()
            .mounts()?
            .into_iter()
            .map(|mount| mount.id);
        let is_meant = |id: &String| wanted.iter().any(|(cache, name)| cache.may_be(name, id));
        let (_, busy) = store
            .cache_mounts()
            .remove_mounts(&there.filter(is_meant).collect())?;
        for id in busy {
            let text = format!("another build uses the cache mount `{id}` now: it is not cleared");
            events.warn(WarningCode::CacheMount, text);
        }
        Ok(())
    }
}
