//! Building: from a request to an image in the store, in registries, in archives.
//!
//! [`Engine::build`] does all of it. Whoever wants to look in between (at the diagnostics, at the findings of
//! checks, at the plan) takes the steps one by one: [`Engine::prepare_build`], then those of [`Build`].

mod authorities;
mod checks;
mod remote_caches;
mod reproducible;
mod request;
mod solve;

use std::collections::BTreeMap;
use std::time::SystemTime;

use kiln_executor::export::Assembled;
use kiln_executor::{BuildInputs, ExportSummary};
use kiln_image::{Descriptor, Platform};
use kiln_parser::{Diagnostic, Parsed};
use kiln_solver::event::Counts;
use kiln_solver::lint::Findings;
use kiln_solver::lower::{self, Lowered, NamedContext};
use kiln_solver::plan::SourceKind;
use kiln_solver::schedule::SolveError;
use tokio_util::sync::CancellationToken;

use crate::cancel::unless_cancelled;
use crate::context::fetch::{self, Fetcher};
use crate::context::{NamedSource, Place};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::event::{Event, Events};
use crate::outputs::Destination;
use crate::source_text::SourceText;

pub use request::{BuildRequest, RemoteCachesRequest};
pub use solve::Solved;

/// A build whose Dockerfile was read.
#[derive(Debug)]
pub struct Build {
    engine: Engine,
    request: BuildRequest,
    source: SourceText,
    parsed: Parsed,
    findings: Findings,
    inputs: BuildInputs,
    contexts: BTreeMap<String, NamedContext>,
    worker: Option<kiln_executor::Worker>,
    began: SystemTime,
    cancel: CancellationToken,
}

/// What a build has made.
#[derive(Debug)]
pub struct Built {
    /// The image.
    pub image: Assembled,
    /// What was written last into an archive, or pushed: the descriptor of its manifest. An image in the store
    /// has none: its layers are compressed, and so get their digests, when it leaves the store.
    pub manifest: Option<Descriptor>,
    /// What became of the steps.
    pub counts: Counts,
    /// What was exported to remote caches; none if there are none, or the build was cancelled.
    pub exported: Option<ExportSummary>,
}

/// What a Dockerfile is lowered for, where nothing is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// For the target alone.
    Target,
    /// For every stage.
    EveryStage,
}

impl Engine {
    /// Builds an image and takes it where the request says.
    ///
    /// # Errors
    /// The Dockerfile makes no sense, a step failed, or an output cannot be written. The token was cancelled.
    pub async fn build(
        &self,
        request: BuildRequest,
        events: Events,
        cancel: CancellationToken,
    ) -> Result<Built> {
        let mut build = self.prepare_build(request, &events, cancel).await?;
        for diagnostic in build.diagnostics() {
            events.send(Event::Diagnostic(diagnostic.clone()));
        }
        build.check_syntax()?;
        let done = build.complete(&events).await;
        for finding in build.findings.sorted() {
            events.send(Event::Finding(finding));
        }
        // What is finished is shared, whatever became of the rest.
        let exported = build.finish().await;
        Ok(Built { exported, ..done? })
    }

    /// Reads the Dockerfile of a build, and makes its context ready.
    ///
    /// # Errors
    /// They cannot be had, or the options of checks make no sense.
    pub async fn prepare_build(
        &self,
        mut request: BuildRequest,
        events: &Events,
        cancel: CancellationToken,
    ) -> Result<Build> {
        let began = SystemTime::now();
        // A request that makes no sense fails before anything is fetched.
        request.outputs.destinations(request.push, &request.names)?;
        remote_caches::check(&self.config().remote_caches, &request)?;
        let input = NamedSource::Place(Place::Input);
        if let Some((name, _)) = request.contexts.iter().find(|(_, source)| *source == input) {
            let text = format!("the build context `{name}` cannot be the input of the request");
            return Err(Error::request(text));
        }
        let inputs = BuildInputs {
            limits: request.limits.clone(),
            authorities: authorities::read(&self.config().authorities)?,
            max_download: request.max_download,
            secrets: std::mem::take(&mut request.secrets),
            ssh: std::mem::take(&mut request.ssh),
            devices: std::mem::take(&mut request.devices),
            ..BuildInputs::default()
        };
        let fetcher = Fetcher {
            engine: self,
            policy: &request.policy,
            max_download: request.max_download,
            events,
            cancel: &cancel,
        };
        let keep_git_dir = is_set(&request, "BUILDKIT_CONTEXT_KEEP_GIT_DIR");
        let (place, at) = (&request.context, &request.dockerfile);
        let input = request.input.take();
        let files = fetcher.files(place, at, input, keep_git_dir).await?;
        let source = files.dockerfile;
        let parsed = kiln_parser::parse(&source.text);
        let begun = checks::begin(&parsed, &request.build_args, files.context.as_ref());
        let findings = begun.map_err(|error| of_lowering(&source, error))?;
        let mut build = Build {
            engine: self.clone(),
            request,
            source,
            parsed,
            findings,
            inputs,
            contexts: BTreeMap::new(),
            worker: None,
            began,
            cancel,
        };
        if let Some(context) = files.context {
            build.inputs.contexts.insert("context".into(), context);
        }
        Ok(build)
    }
}

fn is_set(request: &BuildRequest, argument: &str) -> bool {
    let value = request.build_args.get(argument);
    value.is_some_and(|value| matches!(value.as_str(), "1" | "true"))
}

fn of_lowering(source: &SourceText, error: lower::LowerError) -> Error {
    Error::Dockerfile {
        file: Box::new(source.clone()),
        error: Box::new(error),
    }
}

impl Build {
    /// The Dockerfile.
    pub fn source(&self) -> &SourceText {
        &self.source
    }

    /// What the parser made of it.
    pub fn parsed(&self) -> &Parsed {
        &self.parsed
    }

    /// What the parser found in it.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.parsed.diagnostics
    }

    /// What checks have found so far.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The request, without what was taken to work with: secrets, agents, devices and the input.
    pub fn request(&self) -> &BuildRequest {
        &self.request
    }

    /// Where the image is pushed to.
    ///
    /// # Errors
    /// It is to be pushed, and has no name that can be pushed to.
    pub fn destinations(&self) -> Result<Vec<Destination>> {
        let request = &self.request;
        request.outputs.destinations(request.push, &request.names)
    }

    /// Fails if the parser found errors.
    ///
    /// # Errors
    /// [`Error::Syntax`].
    pub fn check_syntax(&self) -> Result<()> {
        match self.parsed.has_errors() {
            true => Err(Error::Syntax {
                file: Box::new(self.source.clone()),
                diagnostics: self.parsed.diagnostics.clone(),
            }),
            false => Ok(()),
        }
    }

    /// Fetches the contexts with names, opens the remote caches, and makes what does the work.
    async fn begin(&mut self, looks: bool, events: &Events) -> Result<()> {
        let fetcher = Fetcher {
            engine: &self.engine,
            policy: &self.request.policy,
            max_download: self.request.max_download,
            events,
            cancel: &self.cancel,
        };
        let named = fetcher.named(&self.request.contexts, &mut self.inputs);
        self.contexts = named.await?;
        let (inputs, pull) = (self.inputs.clone(), self.request.pull);
        let mut worker = match looks {
            true => self.engine.worker_to_look(inputs, pull, events)?,
            false => self.engine.worker(inputs, pull, events)?,
        };
        let cancel = self.cancel.clone();
        if let Some(share) = remote_caches::open(&self.engine, &self.request, events, cancel)? {
            worker = worker.with_remote_caches(share);
        }
        self.worker = Some(worker);
        Ok(())
    }

    /// What the Dockerfile is lowered with.
    fn lowering(&self, look: Option<Look>) -> lower::Request<'_> {
        let asked = &self.request;
        let host = Platform::host();
        lower::Request {
            dockerfile: &self.parsed.dockerfile,
            source: &self.source.text,
            target: asked.target.clone(),
            every_stage: look == Some(Look::EveryStage),
            without_images: look.is_some(),
            build_args: asked.build_args.clone(),
            labels: asked.labels.clone(),
            platform: asked.platform.clone().unwrap_or_else(|| host.clone()),
            platform_given: asked.platform.is_some(),
            build_platform: host,
            contexts: self.contexts.clone(),
            context: SourceKind::Context {
                name: "context".into(),
            },
            no_cache: asked.no_cache.clone(),
            project: fetch::project(&asked.context, &asked.dockerfile),
            network: asked.network,
            extra_hosts: asked.extra_hosts.clone(),
            ulimits: asked.ulimits.clone(),
            shm_size: asked.shm_size,
            // Nothing is run then: what a build has to be allowed is not a mistake of the file's.
            allow_insecure: asked.allow_insecure || look.is_some(),
            policy: asked.policy.clone(),
        }
    }

    fn worker(&self) -> Result<&kiln_executor::Worker> {
        let none = || Error::failed("the build has not begun");
        self.worker.as_ref().ok_or_else(none)
    }

    /// Lowers the Dockerfile and builds nothing: for checks, and for what can be given to a target.
    ///
    /// # Errors
    /// The Dockerfile makes no sense, or the token was cancelled.
    pub async fn look(&mut self, look: Look, events: &Events) -> Result<Lowered> {
        self.begin(true, events).await?;
        let request = self.lowering(Some(look));
        let lowered = lower::lower(&request, self.worker()?, &self.findings);
        let lowered = unless_cancelled(&self.cancel, lowered).await?;
        lowered.map_err(|error| of_lowering(&self.source, error))
    }

    /// All of a build but the exports to remote caches.
    async fn complete(&mut self, events: &Events) -> Result<Built> {
        let solved = self.solve(events).await?;
        let destinations = self.destinations()?;
        let mut manifest = self.write_outputs(&solved, events).await?;
        if self.request.check_reproducible {
            self.check_reproducible(&solved, events).await?;
        }
        if !destinations.is_empty() {
            manifest = self
                .push(&solved, &destinations, events)
                .await?
                .or(manifest);
        }
        Ok(Built {
            image: solved.image,
            manifest,
            counts: solved.counts,
            exported: None,
        })
    }

    /// Writes the outputs. Gives the manifest that was written last, if there is one.
    ///
    /// # Errors
    /// An output cannot be written, or the token was cancelled.
    pub async fn write_outputs(
        &mut self,
        solved: &Solved,
        events: &Events,
    ) -> Result<Option<Descriptor>> {
        let outputs = std::mem::take(&mut self.request.outputs);
        let names = &self.request.names;
        let work = outputs.write(self.worker()?, &solved.image, names, events);
        let written = unless_cancelled(&self.cancel, work).await.flatten();
        self.request.outputs = outputs;
        written
    }

    /// Pushes the image to these destinations. Gives its manifest.
    ///
    /// # Errors
    /// A registry does not take it, or the token was cancelled.
    pub async fn push(
        &self,
        solved: &Solved,
        destinations: &[Destination],
        events: &Events,
    ) -> Result<Option<Descriptor>> {
        let outputs = &self.request.outputs;
        let push = outputs.push(self.worker()?, &solved.image, destinations, events);
        unless_cancelled(&self.cancel, push).await.flatten()
    }

    /// Ends a build, whatever became of it: notes what it has used, and waits until what was to be exported to
    /// remote caches is there. After a cancellation only claims are given
    /// back, in a few seconds at most; then there is nothing to tell.
    pub async fn finish(&self) -> Option<ExportSummary> {
        let worker = self.worker.as_ref()?;
        self.note_uses(worker.store());
        let share = worker.remote_caches()?;
        share.export_mounts(worker.store());
        let left = share.drain().await;
        (!self.cancel.is_cancelled()).then_some(left)
    }

    /// Whether results, and whether cache mounts, are exported to remote caches.
    pub fn exports(&self) -> (bool, bool) {
        let share = self
            .worker
            .as_ref()
            .and_then(|worker| worker.remote_caches());
        share.map_or((false, false), |share| {
            (share.exports_results(), share.exports_mounts())
        })
    }

    /// Notes what the build has used. It is not worth a failed build.
    fn note_uses(&self, store: &kiln_cache::Store) {
        let noted = store.maintenance().note_uses();
        if let Err(error) = noted.and_then(|()| store.maintenance().note_build(self.began)) {
            tracing::debug!(%error, "the last use of layers is not noted");
        }
    }

    /// The file that keeps the output of a step, by its vertex, if it is there.
    fn log_of(&self, error: &SolveError) -> Option<std::path::PathBuf> {
        let SolveError::Vertex { vertex, .. } = error else {
            return None;
        };
        let path = self.worker.as_ref()?.step_log(vertex.index());
        path.is_file().then_some(path)
    }

    fn tell_of_removal(&self, events: &Events) {
        if let Some(worker) = &self.worker {
            let removed = worker.space().take_removed();
            if !removed.items.is_empty() {
                events.send(Event::Removed(removed));
            }
        }
    }
}
