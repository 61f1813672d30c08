//! What steps hand to each other: stacks of layers, or directories read in place.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use kiln_cache::LayerId;
use kiln_image::{Descriptor, DiffId};
use kiln_remote::SharedLayer;
use kiln_solver::Watch;
use kiln_solver::key::Key;
use kiln_solver::plan::PathFilter;
use kiln_solver::ports::FetchReporter;
use tokio::sync::OnceCell;

use crate::error::{Error, Result};

/// The result of a step or source.
#[derive(Clone, Debug)]
pub enum Output {
    /// Layers, the bottom one first.
    Layers(Vec<LayerRef>),
    /// A directory of this machine that is read in place.
    Dir(Arc<DirTree>),
}

impl Output {
    /// The layers of an output that a step starts from.
    pub(crate) fn layers(&self) -> Result<&[LayerRef]> {
        match self {
            Self::Layers(layers) => Ok(layers),
            Self::Dir(_) => Err(Error::Other(
                "a directory cannot be the base of a step".into(),
            )),
        }
    }
}

/// A directory with what is left out of it.
#[derive(Debug)]
pub struct DirTree {
    /// Its path.
    pub path: PathBuf,
    /// What is left out.
    pub ignore: Option<Arc<dyn PathFilter>>,
    /// Name of the ignore file, for messages.
    pub ignore_file: Option<String>,
    /// Its content digests are remembered: it is a directory of the user's.
    pub remember: bool,
    /// Removed when the last user is done.
    pub scratch: Option<kiln_cache::Scratch>,
    /// Copies of the files are root's, whatever the file system says.
    pub reset_owner: bool,
}

/// A layer that is in the store, or will be when somebody needs its files.
#[derive(Clone, Debug)]
pub struct LayerRef(Arc<LayerState>);

#[derive(Debug)]
struct LayerState {
    lazy: Option<LazyLayer>,
    id: OnceCell<LayerId>,
    made: Option<SystemTime>,
    key: Option<Key>,
}

/// A layer of an image whose files are not unpacked yet.
#[derive(Clone, Debug)]
pub struct LazyLayer {
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// The blob that holds it.
    pub blob: Option<Descriptor>,
    /// The repository to get the blob from.
    pub from: Option<kiln_image::Reference>,
    /// Who hears of the transfer.
    pub watch: Option<Watch>,
    /// Hears that the layer is here, if that is not known of the image.
    pub arriving: Option<FetchReporter>,
    /// The layer is a step's result, promised by a remote cache; else it is an image's.
    pub shared: Option<SharedLayer>,
}

impl LazyLayer {
    /// Does a part of the transfer, or stops with [`Error::Cancelled`] when nobody needs it any
    /// more. Transfers are large, and many lie in each other on the stack: `work` is on the heap.
    pub(crate) async fn unless_over<F: Future>(&self, work: Pin<Box<F>>) -> Result<F::Output> {
        match &self.watch {
            None => Ok(work.await),
            Some(watch) => watch.unless_over(work).await.ok_or(Error::Cancelled),
        }
    }
}

impl LayerRef {
    /// A layer of the store. `made` is when the step's result was made, if that is not when the
    /// store got the layer.
    pub fn stored(id: LayerId, made: Option<SystemTime>) -> Self {
        Self(Arc::new(LayerState {
            lazy: None,
            id: OnceCell::new_with(Some(id)),
            made,
            key: None,
        }))
    }

    /// The same, of the step with this key.
    pub(crate) fn of_step(id: LayerId, made: Option<SystemTime>, key: Key) -> Self {
        Self(Arc::new(LayerState {
            lazy: None,
            id: OnceCell::new_with(Some(id)),
            made,
            key: Some(key),
        }))
    }

    /// A layer of an image.
    pub fn lazy(layer: LazyLayer) -> Self {
        let record = layer.shared.as_ref().map(SharedLayer::record);
        let (made, key) = (record.map(|r| r.created), record.map(|r| r.key));
        Self(Arc::new(LayerState {
            lazy: Some(layer),
            id: OnceCell::new(),
            made,
            key,
        }))
    }

    /// Whether it belongs to an image that the build started from.
    pub fn is_of_image(&self) -> bool {
        self.0.lazy.as_ref().is_some_and(|l| l.shared.is_none())
    }

    /// Whether it is a step's result that a remote cache promised.
    pub fn is_shared(&self) -> bool {
        self.0.lazy.as_ref().is_some_and(|l| l.shared.is_some())
    }

    /// When the step's result was made, if that is known apart from the layer.
    pub fn made(&self) -> Option<SystemTime> {
        self.0.made
    }

    /// The key of the step that it is the result of. A step that began before the one below it had
    /// its key does not know that one's.
    pub(crate) fn key(&self) -> Option<Key> {
        self.0.key
    }

    /// Its name in the store, if its files are there.
    pub fn id(&self) -> Option<&LayerId> {
        self.0.id.get()
    }

    /// What it is fetched by, if it was not made here.
    pub fn lazy_layer(&self) -> Option<&LazyLayer> {
        self.0.lazy.as_ref()
    }

    /// Its name, after `fetch` has brought it in if it was not there. Many may ask at once.
    pub(crate) async fn id_or_fetch<F>(&self, fetch: impl FnOnce(LazyLayer) -> F) -> Result<LayerId>
    where
        F: Future<Output = Result<LayerId>>,
    {
        let state = &self.0;
        let id = state
            .id
            .get_or_try_init(|| async {
                match &state.lazy {
                    Some(lazy) => fetch(lazy.clone()).await,
                    None => Err(Error::Other("a layer has no origin".into())),
                }
            })
            .await?;
        Ok(id.clone())
    }
}
