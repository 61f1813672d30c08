//! The solver's worker: what carries out the parts of its ports.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use kiln_cache::{SpaceGuard, Store};
use kiln_image::Platform;
use kiln_registry::Client;
use kiln_remote::RemoteCaches;
use kiln_solver::explain::{Earlier, Listing};
use kiln_solver::key::{Fingerprint, Key};
use kiln_solver::plan::{Copy, Exec, File, Origin, Source, SourceKind};
use kiln_solver::ports::{
    Committed, Fingerprints, Hit, Lookup, Made, PortError, Reading, Record, ResolvedImage,
    Resolver, Results, Solved, Sourced, Sources, Step, Steps, WorkerTypes,
};

use crate::compare::Comparer;
use crate::error::{Error, Result, blocking};
use crate::exec::StepRunner;
use crate::export::Exporter;
use crate::file::{self, FileChanger};
use crate::fingerprints::Fingerprinter;
use crate::id_maps::IdMapSupport;
use crate::images::Images;
use crate::layers::LayerFetcher;
use crate::new_layer::NewLayer;
use crate::output::Output;
use crate::results::{ResultStore, StepFlight};
use crate::run_dirs::RunDirs;
use crate::settings::Settings;
use crate::source::SourceFetcher;

/// Carries out ops. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Worker {
    settings: Arc<Settings>,
    layers: LayerFetcher,
    images: Images,
    sources: SourceFetcher,
    fingerprints: Fingerprinter,
    id_maps: IdMapSupport,
    results: ResultStore,
    files: FileChanger,
    runner: StepRunner,
    exporter: Exporter,
    comparer: Comparer,
}

impl Worker {
    /// A worker of these parts.
    pub fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let s = &*settings;
        let space = SpaceGuard::new(s.store.clone(), s.gc, s.events.clone());
        let caches = s.caches.clone();
        let layers = LayerFetcher::new(space.clone(), s.registry.clone(), s.events.clone());
        let images = Images::new(layers.clone(), s);
        let run_dirs = RunDirs::new(s.store.clone());
        let id_maps = IdMapSupport::new(s.spawner.clone());
        let fingerprints = Fingerprinter::new(layers.clone(), caches.clone());
        Self {
            sources: SourceFetcher::new(images.clone(), layers.clone(), settings.clone()),
            results: ResultStore::new(space, caches.clone()),
            files: FileChanger::new(layers.clone(), run_dirs.clone()),
            runner: StepRunner::new(
                layers.clone(),
                run_dirs,
                fingerprints.clone(),
                id_maps.clone(),
                settings.clone(),
            ),
            exporter: Exporter::new(layers.clone(), images.clone(), caches),
            comparer: Comparer::new(s.store.clone()),
            layers,
            images,
            fingerprints,
            id_maps,
            settings,
        }
    }

    /// A worker like this one that has seen nothing: its cache mounts are empty, and go with it; it
    /// knows of no remote caches.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn without_mounts(&self) -> Result<Self> {
        let mut settings = Settings::clone(&self.settings);
        settings.caches = None;
        settings.own_mounts = Some(Arc::new(self.store().scratch()?));
        Ok(Self::new(settings))
    }

    /// The same worker with remote caches.
    #[must_use]
    pub fn with_remote_caches(self, caches: RemoteCaches) -> Self {
        Self::new(Settings {
            caches: Some(caches),
            ..Settings::clone(&self.settings)
        })
    }

    /// The same worker, which only looks: the images that it asks registries for do not get into the
    /// list of images, and names in it stay as they are.
    #[must_use]
    pub fn looking_only(self) -> Self {
        Self::new(Settings {
            lists_images: false,
            ..Settings::clone(&self.settings)
        })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        self.layers.store()
    }

    /// The registry client.
    pub fn registry(&self) -> &Client {
        self.layers.registry()
    }

    /// What keeps the store below its limits.
    pub fn space(&self) -> &SpaceGuard {
        self.layers.space()
    }

    /// The remote caches, if there are any.
    pub fn remote_caches(&self) -> Option<&RemoteCaches> {
        self.settings.caches.as_ref()
    }

    /// The file that keeps the output of a step, by the number of its vertex.
    pub fn step_log(&self, vertex: usize) -> PathBuf {
        self.settings.logs.path(vertex)
    }

    /// Brings layers in.
    pub fn layers(&self) -> &LayerFetcher {
        &self.layers
    }

    /// Images of the store and of registries.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// What else builds start from.
    pub fn sources(&self) -> &SourceFetcher {
        &self.sources
    }

    /// Makes images and archives.
    pub fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// Compares layers.
    pub fn comparer(&self) -> &Comparer {
        &self.comparer
    }
}

impl WorkerTypes for Worker {
    type Output = Output;
    type Layer = NewLayer;
    type Flight = StepFlight;
}

impl Resolver for Worker {
    async fn resolve(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> Result<ResolvedImage, PortError> {
        self.images.resolve(reference, platform).await
    }

    async fn changed(&self, source: &SourceKind) -> Result<Option<u64>, PortError> {
        let time = self.sources.last_change(source).await?;
        // What was changed before 1970 was changed at its begin, as far as a tar can tell.
        Ok(time.map(|seconds| seconds.max(0).cast_unsigned()))
    }
}

impl Sources for Worker {
    async fn source(&self, op: &Source, step: &Step) -> Result<Sourced<Output>, PortError> {
        Ok(self.sources.fetch(op, step).await?)
    }
}

impl Fingerprints for Worker {
    async fn fingerprint_copy(
        &self,
        copy: &Copy,
        input: &Solved<Output>,
        listed: bool,
    ) -> Result<Reading, PortError> {
        Ok(self.fingerprints.of_copy(copy, input, listed).await?)
    }

    async fn fingerprint_path(
        &self,
        input: &Solved<Output>,
        (path, place): (&str, &str),
        bound: bool,
        listed: bool,
    ) -> Result<Reading, PortError> {
        let mut wanted = file::Selection::of_path(path, place);
        if let (true, Output::Dir(dir)) = (bound, &input.output) {
            wanted.swapped = self.id_maps.shown_as_root(&dir.path).await?;
        }
        Ok(self.fingerprints.of_path(input, &wanted, listed).await?)
    }

    async fn settle(&self) {
        self.fingerprints.settle().await;
    }

    async fn listing(&self, fingerprint: Fingerprint) -> Result<Option<Listing>, PortError> {
        let store = self.store().clone();
        Ok(blocking(move || Ok(store.records().listing(fingerprint)?)).await?)
    }
}

impl Results for Worker {
    fn earlier(&self, origin: &Origin) -> Result<Vec<Earlier>, PortError> {
        self.results.earlier(origin)
    }

    async fn lookup(
        &self,
        key: Key,
        base: Option<&Solved<Output>>,
        not_before: Option<SystemTime>,
    ) -> Result<Lookup<Output>, PortError> {
        self.results.lookup(key, base, not_before).await
    }

    fn used(&self, key: Key, result: &Solved<Output>, step: &Step) {
        self.results.used(key, result, step);
    }

    async fn lookup_shared(
        &self,
        key: Key,
        base: Option<&Solved<Output>>,
        step: &Step,
        origin: &Origin,
    ) -> Result<Option<Hit<Output>>, PortError> {
        self.results.lookup_shared(key, base, step, origin).await
    }

    async fn flight(&self, step: &Step) -> Result<StepFlight, PortError> {
        self.results.flight(step).await
    }

    async fn claim(
        &self,
        key: Key,
        flight: &mut StepFlight,
        base: Option<&Solved<Output>>,
        step: &Step,
        origin: &Origin,
    ) -> Result<Option<Hit<Output>>, PortError> {
        self.results.claim(key, flight, base, step, origin).await
    }

    fn commit(
        &self,
        made: Made<Output, NewLayer>,
        record: Record<Output>,
        flight: StepFlight,
    ) -> impl Future<Output = Result<Committed<Output>, PortError>> + Send + 'static {
        self.results.commit(made, record, flight)
    }
}

impl Steps for Worker {
    async fn exec(
        &self,
        op: &Exec,
        inputs: &[Solved<Output>],
        step: &Step,
    ) -> Result<Made<Output, NewLayer>, PortError> {
        Ok(self.runner.run(op, inputs, step).await?)
    }

    async fn file(
        &self,
        op: &File,
        inputs: &[Solved<Output>],
        step: &Step,
    ) -> Result<Made<Output, NewLayer>, PortError> {
        Ok(self.files.change(op, inputs, step).await?)
    }

    fn discard(&self, made: Made<Output, NewLayer>) -> Result<(), PortError> {
        let dropped = self.store().drop_layer(&made.layer.id);
        Ok(dropped.map_err(Error::from)?)
    }

    async fn merge(
        &self,
        lower: &Solved<Output>,
        upper: &Solved<Output>,
    ) -> Result<Option<Output>, PortError> {
        Ok(self.files.stack(&lower.output, &upper.output).await?)
    }

    async fn materialise(&self, output: &Output) -> Result<(), PortError> {
        if let Output::Layers(layers) = output {
            self.layers.materialise(layers).await?;
        }
        Ok(())
    }
}
