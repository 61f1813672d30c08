//! The part of a build that takes its time: from a request to an image in the store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_executor::export::{Assembled, Assembly};
use kiln_executor::{Engine, Output, Share};
use kiln_solver::Hint;
use kiln_solver::event::Event;
use kiln_solver::lint::Findings;
use kiln_solver::lower::{self, Lowered};
use kiln_solver::plan::{MountKind, Op, Plan, VertexId};
use kiln_solver::schedule::{self, SolveError};
use tokio_util::sync::CancellationToken;

use super::checks;
use crate::diagnostics::SourceText;
use crate::progress::Display;

/// What all parts of a build work with.
pub(super) struct Build<'a> {
    pub(super) engine: &'a Engine,
    pub(super) parallelism: usize,
    pub(super) source: &'a SourceText,
    pub(super) findings: &'a Findings,
    pub(super) quiet: bool,
    pub(super) squash: bool,
    /// An output is made of the result's files.
    pub(super) files: bool,
    pub(super) clear_mounts: bool,
    pub(super) compared: bool,
    pub(super) ttl: Option<Duration>,
    pub(super) cancel: CancellationToken,
}

/// A plan with what was made of it.
pub(super) struct Solved {
    pub(super) plan: Arc<Plan>,
    pub(super) targets: Vec<VertexId>,
    pub(super) made: Vec<(VertexId, Output)>,
    /// `SOURCE_DATE_EPOCH` in seconds.
    pub(super) epoch: Option<u64>,
}

pub(super) enum BuildError {
    Lower(lower::LowerError),
    Checks(String),
    Solve(SolveError),
    Engine(kiln_executor::Error),
}

impl BuildError {
    /// Whether a remote cache could not give what it promised.
    fn is_lost(&self) -> bool {
        match self {
            Self::Solve(error) => error.is_lost(),
            Self::Engine(kiln_executor::Error::Lost { .. }) => true,
            _ => false,
        }
    }
}

impl Build<'_> {
    /// Removes the cache mounts of the steps that will be built.
    fn clear_mounts(&self, plan: &Plan, targets: &[VertexId]) -> Result<(), BuildError> {
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
        let store = self.engine.store();
        let clear = || {
            let there = store.mounts()?.into_iter().map(|mount| mount.id);
            let is_meant = |id: &String| wanted.iter().any(|(cache, name)| cache.may_be(name, id));
            store.remove_mounts(&there.filter(is_meant).collect())
        };
        let (_, busy) = clear().map_err(|e| BuildError::Engine(e.into()))?;
        for id in busy {
            tracing::warn!("another build uses the cache mount `{id}` now: it is not cleared");
        }
        Ok(())
    }

    pub(super) async fn carry_out(
        &self,
        request: &lower::Request<'_>,
        display: &Display,
    ) -> Result<(Assembled, Solved), BuildError> {
        let cancel = self.cancel.clone();
        let lowered = tokio::select! {
            lowered = lower::lower(request, self.engine, self.findings) => {
                lowered.map_err(BuildError::Lower)?
            }
            () = cancel.cancelled() => return Err(BuildError::Solve(SolveError::Cancelled)),
        };
        if !self.quiet {
            for warning in &lowered.warnings {
                self.source.lower_warning(warning);
            }
        }
        if checks::forbid(self.findings) {
            return Err(BuildError::Checks(checks::summary(self.findings)));
        }
        let platform = lowered.config.platform();
        if platform.os == "windows" {
            return Err(BuildError::Engine(kiln_executor::Error::Missing {
                text: format!("an image for {platform} cannot be made here"),
                hint: Hint::BuildOnWindows,
            }));
        }
        let events = display.events();
        for (name, lines) in &lowered.skipped {
            events.send(Event::Skipped {
                name: name.as_str().into(),
                lines: *lines,
            });
        }
        let plan = Arc::new(lowered.plan.clone());
        let targets: Vec<_> = lowered.target.into_iter().collect();
        if self.clear_mounts {
            self.clear_mounts(&plan, &targets)?;
        }
        // What ran in one attempt counts in the next, and so does what was fetched.
        let started = SystemTime::now();
        let over = cancel.child_token();
        loop {
            // A failure cancels what runs beside it, and must not cancel the next attempt.
            let options = schedule::Options {
                parallelism: self.parallelism,
                started,
                ttl: self.ttl,
                unrecorded: false,
                // Both builds of a comparison happen here.
                shared: self.engine.share().is_some_and(Share::reads) && !self.compared,
                // One layer in place of several is made of all files.
                files: self.files || self.squash && lowered.layers.len() > 1,
                events: display.events(),
                cancel: cancel.child_token(),
                over: over.clone(),
            };
            let solved = self.solve(&lowered, &plan, &targets, options).await;
            match solved {
                // What a remote cache could not give is not asked for again.
                Err(error) if error.is_lost() && !cancel.is_cancelled() => {}
                other => return other,
            }
        }
    }

    async fn solve(
        &self,
        lowered: &Lowered,
        plan: &Arc<Plan>,
        targets: &[VertexId],
        options: schedule::Options,
    ) -> Result<(Assembled, Solved), BuildError> {
        let worker = Arc::new(self.engine.clone());
        let solution = schedule::solve(plan.clone(), targets, worker, options);
        let mut solution = solution.await.map_err(BuildError::Solve)?;
        let output = solution.results.pop().map(|r| r.output);
        if let Some(output) = &output {
            checks::measure(self.engine, output, &lowered.layers, self.findings).await;
        }
        let assembly = Assembly {
            config: lowered.config.clone(),
            history: lowered.history.clone(),
            output,
            epoch: lowered.epoch,
        };
        let image = self
            .engine
            .assemble(assembly, self.squash)
            .await
            .map_err(BuildError::Engine)?;
        self.engine.leave_result(&image.layers);
        let solved = Solved {
            plan: plan.clone(),
            targets: targets.to_vec(),
            epoch: lowered.epoch,
            made: solution.made,
        };
        Ok((image, solved))
    }
}
