//! What the solver asks of the rest of kiln.

use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use kiln_image::{Digest, ImageConfig, Platform};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::FilesVersion;
use crate::event::{Event, Events};
use crate::explain::{Earlier, Found, LabelledInput, Listing};
pub use crate::fetch_progress::{FetchProgress, FetchReporter, FetchState};
use crate::key::{Fingerprint, Identity, Key};
use crate::plan::{Copy, Exec, File, ImageName, Origin, Source, SourceKind, VertexId};
pub use crate::port_error::{PortError, PortErrorKind};

/// The config of a base image, with what names it.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// What it is known by.
    pub name: ImageName,
    /// Its id: the digest of its config.
    pub id: Digest,
    /// The config.
    pub config: ImageConfig,
}

/// Finds configs of base images: metadata only.
pub trait Resolver: Send + Sync {
    /// The config of `reference` for `platform`.
    fn resolve(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> impl Future<Output = Result<ResolvedImage, PortError>> + Send;

    /// When the content of a source was last changed, in seconds since 1970: a commit's time, what a
    /// web server says, else the time of the newest file of an archive. None where that is not known,
    /// as of a directory of this machine.
    fn changed(
        &self,
        source: &SourceKind,
    ) -> impl Future<Output = Result<Option<u64>, PortError>> + Send;
}

/// An identity that may still be computed in the background.
#[derive(Clone, Debug)]
pub struct Pending(watch::Receiver<Option<Result<Identity, PortError>>>);

/// Delivers the identity of a [`Pending`].
#[derive(Debug)]
pub struct Promise(watch::Sender<Option<Result<Identity, PortError>>>);

impl Promise {
    /// Delivers.
    pub fn deliver(self, identity: Result<Identity, PortError>) {
        self.0.send_replace(Some(identity));
    }
}

impl Pending {
    /// An identity that is known.
    pub fn ready(identity: Identity) -> Self {
        Self(watch::channel(Some(Ok(identity))).1)
    }

    /// An identity that is promised.
    pub fn new() -> (Promise, Self) {
        let (to, from) = watch::channel(None);
        (Promise(to), Self(from))
    }

    /// The identity, if it is known by now.
    pub fn now(&self) -> Option<Identity> {
        self.0
            .borrow()
            .as_ref()
            .and_then(|r| r.as_ref().ok().copied())
    }

    /// Waits for the identity.
    pub async fn wait(&self) -> Result<Identity, PortError> {
        let mut from = self.0.clone();
        match from.wait_for(Option::is_some).await {
            Ok(value) => value.clone().unwrap_or_else(|| Err(PortError::cancelled())),
            Err(_) => Err(PortError::cancelled()),
        }
    }
}

/// The result of a vertex.
#[derive(Clone, Debug)]
pub struct Solved<O> {
    /// The worker's value.
    pub output: O,
    /// Its identity.
    pub identity: Pending,
}

/// What a step reads from one of its inputs, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its content.
    pub fingerprint: Fingerprint,
    /// Tells whether it was written to since; none of what nobody writes to.
    pub version: Option<FilesVersion>,
}

impl Reading {
    /// Of something that nobody writes to.
    pub const fn unchanging(fingerprint: Fingerprint) -> Self {
        Self {
            fingerprint,
            version: None,
        }
    }
}

/// The result of a source.
#[derive(Clone, Debug)]
pub struct Sourced<O> {
    /// Output and identity.
    pub solved: Solved<O>,
    /// Whether it had to be brought here.
    pub fetched: Fetched,
}

/// Whether a source had to be brought here.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// What was here already is used.
    No,
    /// It is read where it is, and never brought anywhere.
    InPlace,
    /// It was transferred.
    Yes,
    /// It comes when a step needs its files, and may never do.
    WhenNeeded(FetchProgress),
}

impl From<bool> for Fetched {
    fn from(fetched: bool) -> Self {
        if fetched { Self::Yes } else { Self::No }
    }
}

/// What a step is told besides its op.
#[derive(Clone, Debug)]
pub struct Step {
    /// The vertex, for events.
    pub vertex: VertexId,
    /// Its definition: the op and those of its inputs, without any content.
    pub definition: Key,
    /// Its line for progress.
    pub name: Arc<str>,
    /// Where events go.
    pub events: Events,
    /// Stops the step.
    pub cancel: CancellationToken,
    /// Stops transfers: nobody needs what they bring.
    pub over: CancellationToken,
    /// When the work itself began, after everything that it waited for.
    pub begun: Arc<OnceLock<Instant>>,
}

impl Step {
    /// Says that all is there which the step waited for, such as the layers of its base: the time
    /// that it takes counts from here.
    pub fn begin(&self) {
        if self.begun.set(Instant::now()).is_ok() {
            self.events.send(Event::Began {
                vertex: self.vertex,
            });
        }
    }
}

/// A lookup in the cache that found something.
#[derive(Clone, Debug)]
pub struct Hit<O> {
    /// The result, on top of its base.
    pub solved: Solved<O>,
    /// When the step ran whose result this is.
    pub ran_at: SystemTime,
    /// How long it took then; nothing if that is not known.
    pub took: Duration,
    /// In which cache it was.
    pub found: Found,
}

/// What a lookup in the cache gave.
#[derive(Clone, Debug)]
pub enum Lookup<O> {
    /// A result.
    Hit(Hit<O>),
    /// A result that is too old to count.
    Expired {
        /// When the step ran.
        ran_at: SystemTime,
    },
    /// Nothing.
    Miss,
}

/// What a step made: a layer of its own, not yet in the cache.
#[derive(Debug)]
pub struct Made<O, L> {
    /// The result on top of its base.
    pub output: O,
    /// The new layer, to be committed.
    pub layer: L,
}

/// What a worker hands out and takes back.
pub trait WorkerTypes: Send + Sync + 'static {
    /// A tree: layers, or a directory.
    type Output: Clone + Send + Sync + 'static;
    /// A new layer that is not committed.
    type Layer: Send + 'static;
    /// Held while a step runs, so that no other process runs the same.
    type Flight: Send + 'static;
}

/// Brings in what a build starts from.
pub trait Sources: WorkerTypes {
    /// Brings a source in, as far as its identity needs.
    fn source(
        &self,
        op: &Source,
        step: &Step,
    ) -> impl Future<Output = Result<Sourced<Self::Output>, PortError>> + Send;
}

/// Says what files are like that a step reads.
pub trait Fingerprints: WorkerTypes {
    /// What `copy` would take from `input`. If it is to be `listed`, what it
    /// covers is kept, see [`Fingerprints::listing`].
    fn fingerprint_copy(
        &self,
        copy: &Copy,
        input: &Solved<Self::Output>,
        listed: bool,
    ) -> impl Future<Output = Result<Reading, PortError>> + Send;

    /// A path that is mounted into a command: `bound`, where the command sees it in
    /// place, or as what a cache mount begins with. Beside the path are the words for where it is.
    /// `listed` as above.
    fn fingerprint_path(
        &self,
        input: &Solved<Self::Output>,
        path_and_place: (&str, &str),
        bound: bool,
        listed: bool,
    ) -> impl Future<Output = Result<Reading, PortError>> + Send;

    /// Waits until what was read of results whose identity was still on its way is remembered. Asked at
    /// the end of a build, when all identities are known.
    fn settle(&self) -> impl Future<Output = ()> + Send;

    /// What a fingerprint covers, as far as that was kept.
    fn listing(
        &self,
        fingerprint: Fingerprint,
    ) -> impl Future<Output = Result<Option<Listing>, PortError>> + Send;
}

/// Finds results of steps, keeps new ones, and sees to it that no two run the same step at once.
///
/// `base` is the tree that a step starts from; none is an empty one.
pub trait Results: WorkerTypes {
    /// Earlier runs that may be of the step at `origin`: of its place, and of its text.
    fn earlier(&self, origin: &Origin) -> Result<Vec<Earlier>, PortError>;

    /// A result under `key` on top of `base`; one that ran before `not_before` does not count.
    fn lookup(
        &self,
        key: Key,
        base: Option<&Solved<Self::Output>>,
        not_before: Option<SystemTime>,
    ) -> impl Future<Output = Result<Lookup<Self::Output>, PortError>> + Send;

    /// A result of this host that was found under `key` is used: what shares results may send it.
    fn used(&self, key: Key, result: &Solved<Self::Output>, step: &Step);

    /// A result under `key` that another host has shared. Asked after [`Results::lookup`] found
    /// nothing.
    fn lookup_shared(
        &self,
        key: Key,
        base: Option<&Solved<Self::Output>>,
        step: &Step,
        origin: &Origin,
    ) -> impl Future<Output = Result<Option<Hit<Self::Output>>, PortError>> + Send;

    /// Waits until no other process runs the step with this one's definition.
    fn flight(&self, step: &Step) -> impl Future<Output = Result<Self::Flight, PortError>> + Send;

    /// Waits until no other host runs the step with this key; the result if one has made it
    /// meanwhile.
    fn claim(
        &self,
        key: Key,
        flight: &mut Self::Flight,
        base: Option<&Solved<Self::Output>>,
        step: &Step,
        origin: &Origin,
    ) -> impl Future<Output = Result<Option<Hit<Self::Output>>, PortError>> + Send;

    /// Hashes the new layer and stores it under the key, once that is known. If an older result
    /// under the key has the same content, that one is kept and returned. The flight ends when
    /// others can find the result.
    fn commit(
        &self,
        made: Made<Self::Output, Self::Layer>,
        record: Record<Self::Output>,
        flight: Self::Flight,
    ) -> impl Future<Output = Result<Committed<Self::Output>, PortError>> + Send + 'static;
}

/// Carries out ops. Inputs are given by slot.
pub trait Steps: WorkerTypes {
    /// Runs a command.
    fn exec(
        &self,
        op: &Exec,
        inputs: &[Solved<Self::Output>],
        step: &Step,
    ) -> impl Future<Output = Result<Made<Self::Output, Self::Layer>, PortError>> + Send;

    /// Changes files.
    fn file(
        &self,
        op: &File,
        inputs: &[Solved<Self::Output>],
        step: &Step,
    ) -> impl Future<Output = Result<Made<Self::Output, Self::Layer>, PortError>> + Send;

    /// Throws a new layer away.
    fn discard(&self, made: Made<Self::Output, Self::Layer>) -> Result<(), PortError>;

    /// Stacks `upper` on `lower`; none if that is not what making `upper` on `lower` would give.
    fn merge(
        &self,
        lower: &Solved<Self::Output>,
        upper: &Solved<Self::Output>,
    ) -> impl Future<Output = Result<Option<Self::Output>, PortError>> + Send;

    /// Brings in what is not here yet of the files of a result.
    fn materialise(
        &self,
        output: &Self::Output,
    ) -> impl Future<Output = Result<(), PortError>> + Send;
}

/// All that carrying out a plan takes.
pub trait Worker: Sources + Fingerprints + Results + Steps {}

impl<W: Sources + Fingerprints + Results + Steps> Worker for W {}

/// What is written down about a step that ran.
#[derive(Debug)]
pub struct Record<O> {
    /// The definition of the step.
    pub definition: Key,
    /// The key, once the identities of the inputs are known.
    pub key: tokio::sync::oneshot::Receiver<(Key, Vec<LabelledInput>)>,
    /// The tree that the step started from.
    pub base: Option<Solved<O>>,
    /// Its line for progress.
    pub name: Arc<str>,
    /// What explanations call it.
    pub origin: Origin,
    /// When it started.
    pub started: SystemTime,
    /// How long it took.
    pub took: std::time::Duration,
    /// Whether an older layer of the same content may take the place of the new one.
    pub unused: Unused,
    /// Other steps wait for the identity of the result, at least for a while: they may be cached.
    pub awaited: bool,
    /// The result is for this build alone: nothing is written down, and the layer stays the
    /// caller's to throw away.
    pub unrecorded: bool,
}

/// Decides once whether a new layer is used, or an older one takes its place. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Unused(Arc<AtomicU8>);

impl Unused {
    const UNDECIDED: u8 = 0;
    const USED: u8 = 1;
    const REPLACED: u8 = 2;

    /// That of a layer that may be replaced until it is used, or never.
    pub fn new(replaceable: bool) -> Self {
        let state = if replaceable {
            Self::UNDECIDED
        } else {
            Self::USED
        };
        Self(Arc::new(AtomicU8::new(state)))
    }

    /// Whether the new layer may be used from now on; else another takes its place, or has done so.
    pub fn used(&self) -> bool {
        self.decide(Self::USED)
    }

    /// Whether another layer may take its place; else it is used.
    pub fn replaced(&self) -> bool {
        self.decide(Self::REPLACED)
    }

    fn decide(&self, wanted: u8) -> bool {
        let (before, now) = (Ordering::Acquire, Ordering::AcqRel);
        match self
            .0
            .compare_exchange(Self::UNDECIDED, wanted, now, before)
        {
            Ok(_) => true,
            Err(decided) => decided == wanted,
        }
    }
}

/// A layer that is in the store.
#[derive(Clone, Debug)]
pub struct Committed<O> {
    /// The result on top of its base; an older one where the content is the same.
    pub output: O,
    /// Its identity.
    pub identity: Identity,
}
