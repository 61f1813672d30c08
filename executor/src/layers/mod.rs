//! Brings layers in: downloads their blobs side by side, unpacks each into a directory.

mod plain;

use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use kiln_cache::{
    Flight, LayerId, Packed, SpaceGuard, Store, UnpackOptions, View, tree_of_image_layer, unpack,
};
use kiln_image::{Descriptor, DiffId, Reference, with_causes};
use kiln_registry::{Client, FileSink};
use kiln_solver::Hint;
use kiln_solver::event::{Events, Warning, WarningCode};
use kiln_solver::key::TreeDigest;
use kiln_sys::RootDir;

use crate::error::{Error, Result, blocking};
use crate::output::{LayerRef, LazyLayer, Output};
use crate::tree::OpenTree;

use plain::PlainTar;

/// A disk with fewer free bytes is full.
pub(crate) const FULL_DISK_BYTES: u64 = 256 << 10;

/// Brings layers into the store.
#[derive(Clone, Debug)]
pub struct LayerFetcher {
    space: SpaceGuard,
    registry: Client,
    events: Events,
}

impl LayerFetcher {
    pub(crate) fn new(space: SpaceGuard, registry: Client, events: Events) -> Self {
        Self {
            space,
            registry,
            events,
        }
    }

    /// The store.
    pub(crate) fn store(&self) -> &Store {
        self.space.store()
    }

    /// The registry client.
    pub(crate) fn registry(&self) -> &Client {
        &self.registry
    }

    /// What keeps the store below its limits.
    pub(crate) fn space(&self) -> &SpaceGuard {
        &self.space
    }

    /// The layers of `layers` in the store, fetched and unpacked where they are not there.
    ///
    /// # Errors
    /// A layer cannot be had.
    pub async fn materialise(&self, layers: &[LayerRef]) -> Result<Vec<LayerId>> {
        if layers.iter().all(|l| l.id().is_some()) {
            return Ok(layers.iter().filter_map(|l| l.id().cloned()).collect());
        }
        match self.fetch_layers(layers).await {
            // Both mean something to who asked.
            Err(error @ (Error::Cancelled | Error::Lost { .. })) => Err(error),
            Err(error) => Err(Error::Inputs(Box::new(error))),
            fetched => fetched,
        }
    }

    /// A tree that can be read, whatever kind of output it is.
    pub(crate) async fn open(&self, output: &Output) -> Result<OpenTree> {
        match output {
            Output::Dir(dir) => {
                let root = RootDir::open_trusted(&dir.path)?;
                Ok(OpenTree::Dir {
                    root,
                    dir: dir.clone(),
                })
            }
            Output::Layers(layers) => {
                let ids = self.materialise(layers).await?;
                Ok(OpenTree::View(self.store().view(&ids)?))
            }
        }
    }

    /// The layers in the store, in their order.
    async fn fetch_layers(&self, layers: &[LayerRef]) -> Result<Vec<LayerId>> {
        // Side by side first; a layer with links into those below it waits for them.
        let tried = layers.iter().map(|layer| {
            layer.id_or_fetch(|lazy| async move { Box::pin(self.fetch_layer(&lazy, &[])).await })
        });
        let tried = futures_util::future::join_all(tried).await;
        let mut ids: Vec<LayerId> = Vec::new();
        for (layer, tried) in layers.iter().zip(tried) {
            let id = match tried {
                Ok(id) => id,
                Err(Error::Store(kiln_cache::Error::Entry { .. })) if !ids.is_empty() => {
                    let below = ids.clone();
                    layer
                        .id_or_fetch(|lazy| async move {
                            Box::pin(self.fetch_layer(&lazy, &below)).await
                        })
                        .await
                        .map_err(|e| of_layer(layer, e))?
                }
                Err(e) => return Err(of_layer(layer, e)),
            };
            ids.push(id);
        }
        Ok(ids)
    }

    async fn fetch_layer(&self, lazy: &LazyLayer, below: &[LayerId]) -> Result<LayerId> {
        let Some(shared) = &lazy.shared else {
            let (id, _) = self.fetch_files(lazy, below).await?;
            if let Some(arriving) = &lazy.arriving {
                arriving.part();
            }
            return Ok(id);
        };
        // Whatever is wrong with what a remote promised, the build goes on without it.
        let brought = match self.fetch_files(lazy, &[]).await {
            Ok((id, tree)) => {
                let taken = shared.take_over(self.store(), id, tree).await;
                taken.map_err(Error::from)
            }
            Err(error) => Err(error),
        };
        match brought {
            Err(error @ Error::Image(_)) => Err(shared.wrong(&error.to_string()).into()),
            Err(error) if self.may_be_of_content(&error) => {
                Err(shared.lost(&error.to_string()).into())
            }
            other => other,
        }
    }

    /// Whether what a remote gave may be to blame for an error. A file system that cannot take an
    /// attribute says that it is full, too.
    fn may_be_of_content(&self, error: &Error) -> bool {
        use kiln_cache::Error as Stored;
        let kind = matches!(
            error,
            Error::Registry { .. }
                | Error::Missing { .. }
                | Error::Io { .. }
                | Error::System(_)
                | Error::Store(
                    Stored::Entry { .. }
                        | Stored::Layer(_)
                        | Stored::Io { .. }
                        | Stored::System(_)
                        | Stored::WrongDigest { .. }
                        | Stored::BlobMissing(_)
                )
        );
        let full = || {
            let free = kiln_sys::system::free_bytes(self.store().root());
            free.is_ok_and(|free| free < FULL_DISK_BYTES)
        };
        kind && !(error.is_no_space() && full())
    }

    /// Brings the files of a layer in; the digest of their tree is that of a layer of a remote cache,
    /// if it was found on the way.
    async fn fetch_files(
        &self,
        lazy: &LazyLayer,
        below: &[LayerId],
    ) -> Result<(LayerId, Option<TreeDigest>)> {
        let store = self.store();
        if let Some(layer) = store.layer_by_diff(&lazy.diff_id)? {
            return Ok((layer.id, None));
        }
        if lazy.shared.is_none() {
            self.space.make_room().await;
        }
        let _flight = self.layer_flight(lazy).await?;
        if let Some(layer) = store.layer_by_diff(&lazy.diff_id)? {
            return Ok((layer.id, None));
        }
        let _room = match &lazy.shared {
            Some(shared) => Some(shared.fetch(&self.space, lazy.watch.as_ref()).await?),
            None => None,
        };
        let mut failure = None;
        for (from, blob) in self.places_of(lazy)? {
            let brought = match self.download(from.as_ref(), &blob, lazy).await {
                Ok(()) => {
                    let most = lazy.shared.as_ref().map(|s| s.record().tar_size);
                    self.unpack_blob(blob, lazy.diff_id.clone(), below.to_vec(), most)
                        .await
                }
                Err(e) => Err(e),
            };
            match brought {
                // Another place may have what this one only said that it had.
                Err(e @ (Error::Registry { .. } | Error::Image(_))) => {
                    failure = failure.or(Some(e));
                }
                other => return other,
            }
        }
        Err(failure.unwrap_or_else(|| Error::Missing {
            text: format!("layer {} is not in the store", lazy.diff_id),
            hint: Hint::BuildOrPullOwnerAgain,
        }))
    }

    /// One process brings a layer in, others wait for it.
    async fn layer_flight(&self, lazy: &LazyLayer) -> Result<Flight> {
        let mut tries = 0;
        loop {
            if let Some(flight) = self.store().try_layer_flight(&lazy.diff_id)? {
                return Ok(flight);
            }
            let pause = tokio::time::sleep(Store::flight_pause(tries));
            lazy.unless_over(Box::pin(pause)).await?;
            tries += 1;
        }
    }

    async fn unpack_blob(
        &self,
        blob: Descriptor,
        diff_id: DiffId,
        below: Vec<LayerId>,
        most: Option<u64>,
    ) -> Result<(LayerId, Option<TreeDigest>)> {
        let (store, events) = (self.store().clone(), self.events.clone());
        blocking(move || {
            let path = store.blob_path(&blob.digest);
            let file = std::fs::File::open(path).map_err(|e| Error::io("open layer blob", e))?;
            let wanted = ExpectedLayer {
                diff_id: Some(&diff_id),
                most,
                tree: most.is_some(),
            };
            let unpacked = unpack_layer(&store, Box::new(file), wanted, &below);
            let (id, tree) = match unpacked {
                // Not this blob's fault: layers below are wanted.
                Err(e @ Error::Store(kiln_cache::Error::Entry { .. })) => return Err(e),
                Err(e @ Error::Image(_)) => {
                    // A blob that does not hold what it should is fetched again next time.
                    store.remove_blob(&blob.digest)?;
                    return Err(e);
                }
                Err(e) if !store.is_intact(&blob.digest)? => {
                    let text = format!("a damaged blob is removed: {e} (blob: {})", blob.digest);
                    events.warn(Warning::new(WarningCode::DamagedBlob, text));
                    store.remove_blob(&blob.digest)?;
                    return Err(Error::Image(format!("blob {} was damaged", blob.digest)));
                }
                other => other?,
            };
            store.note_blob(&diff_id, &blob)?;
            Ok((id, tree))
        })
        .await
    }

    /// Blobs that hold the layer, the nearest first, with the repository of those that may have to
    /// be downloaded.
    fn places_of(&self, lazy: &LazyLayer) -> Result<Vec<(Option<Reference>, Descriptor)>> {
        let store = self.store();
        let known = store.blobs_of(&lazy.diff_id)?;
        let mut places: Vec<_> = known.into_iter().map(|blob| (None, blob)).collect();
        if let Some(shared) = &lazy.shared {
            places.push((None, shared.record().blob.clone()));
        }
        if let Some(blob) = &lazy.blob
            && (lazy.from.is_some() || store.has_blob(&blob.digest))
        {
            places.push((lazy.from.clone(), blob.clone()));
        }
        // An image that was built on another one has layers that only that one's manifest names.
        let origins = store.origins_of(&lazy.diff_id)?;
        places.extend(origins.into_iter().map(|(from, blob)| (Some(from), blob)));
        Ok(places)
    }

    /// Gets the blobs of an image's layers that are here as files alone, where a registry may have them:
    /// the tar that another tool made cannot be made again from its files.
    ///
    /// # Errors
    /// The store failed, or the build is over.
    pub(crate) async fn fetch_blobs(&self, layers: &[LayerRef]) -> Result<()> {
        let store = self.store();
        for lazy in layers.iter().filter(|l| l.is_of_image()) {
            let Some(lazy) = lazy.lazy_layer() else {
                continue;
            };
            let is_here = || -> Result<bool> {
                let places = self.places_of(lazy)?;
                let mut blobs = places.iter().map(|(_, blob)| &blob.digest);
                Ok(blobs.any(|blob| store.has_blob(blob)))
            };
            // Only what was pulled has an origin: nobody is asked for what was made here.
            let origins = store.origins_of(&lazy.diff_id)?;
            if origins.is_empty() || is_here()? {
                continue;
            }
            let _flight = self.layer_flight(lazy).await?;
            if is_here()? {
                continue;
            }
            for (from, blob) in origins {
                match self.download(Some(&from), &blob, lazy).await {
                    Ok(()) => {
                        store.note_blob(&lazy.diff_id, &blob)?;
                        break;
                    }
                    Err(Error::Cancelled) => return Err(Error::Cancelled),
                    // Most tars can be made again.
                    Err(error) => tracing::debug!(%error, "a blob is not fetched"),
                }
            }
        }
        Ok(())
    }

    /// Makes sure that a blob is in the store.
    async fn download(
        &self,
        from: Option<&Reference>,
        blob: &Descriptor,
        lazy: &LazyLayer,
    ) -> Result<()> {
        let store = self.store();
        let Some(from) = from.filter(|_| !store.has_blob(&blob.digest)) else {
            return Ok(());
        };
        if let Some(arriving) = &lazy.arriving {
            arriving.transfer();
        }
        let path = store.partial_path(&blob.digest);
        let file = tokio::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .await
            .map_err(|e| Error::io("open download", e))?;
        let mut sink = FileSink::new(file);
        let label = blob.digest.short().to_owned();
        let told = std::sync::Mutex::new(std::time::Instant::now());
        let progress = |done: u64| {
            let Some(watch) = &lazy.watch else { return };
            let Ok(mut last) = told.lock() else { return };
            if done == blob.size || last.elapsed() > Duration::from_millis(50) {
                *last = std::time::Instant::now();
                watch.progress(&label, done, blob.size);
            }
        };
        let fetching = self.registry.fetch_blob(from, blob, &mut sink, &progress);
        let fetched = lazy.unless_over(Box::pin(fetching)).await;
        if !matches!(fetched, Ok(Ok(_))) && path.metadata().is_ok_and(|file| file.len() == 0) {
            // The next download goes on with what has come; here nothing has.
            let _ = std::fs::remove_file(&path);
        }
        fetched?.map_err(|e| Error::Registry {
            what: format!("layer {}: ", blob.digest.short()),
            source: Box::new(e),
            hint: None,
        })?;
        Ok(store.adopt_partial(&blob.digest)?)
    }
}

/// An error about an entry of a layer, with the layer and the image that it is of.
fn of_layer(layer: &LayerRef, error: Error) -> Error {
    use kiln_cache::Error as Stored;
    let Some(lazy) = layer.lazy_layer() else {
        return error;
    };
    match error {
        Error::Store(e @ (Stored::Entry { .. } | Stored::Layer(_))) => {
            let blob = lazy.blob.as_ref().map(|blob| &blob.digest);
            let digest = blob.unwrap_or_else(|| lazy.diff_id.digest()).short();
            let image = lazy
                .from
                .as_ref()
                .map_or_else(String::new, |from| format!(" of `{}`", from.familiar()));
            Error::Image(format!("layer {digest}{image}: {}", with_causes(&e)))
        }
        other => other,
    }
}

/// What a layer must be.
#[derive(Clone, Copy, Default)]
pub(crate) struct ExpectedLayer<'a> {
    /// Its diff id.
    pub(crate) diff_id: Option<&'a DiffId>,
    /// The bytes that its tar may have at most.
    pub(crate) most: Option<u64>,
    /// Whether the digest of its tree is of use.
    pub(crate) tree: bool,
}

/// Unpacks a layer's tar, in whatever compression, into a directory of the store. Returns the digest of
/// its tree if that is wanted and can be told from the tar.
///
/// # Errors
/// The tar is malformed or another one than wanted, or the store failed.
pub(crate) fn unpack_layer(
    store: &Store,
    input: Box<dyn Read + Send>,
    wanted: ExpectedLayer<'_>,
    below: &[LayerId],
) -> Result<(LayerId, Option<TreeDigest>)> {
    let scratch = store.scratch()?;
    let dir = scratch.path().join("diff");
    std::fs::create_dir(&dir).map_err(|e| Error::io("make layer", e))?;
    let root = RootDir::open_trusted(&dir)?;
    root.chmod(Path::new(""), 0o755)?;
    let views: Vec<View> = if below.is_empty() {
        vec![]
    } else {
        vec![store.view(below)?]
    };
    let failed = |e| Error::io("read layer", e);
    // What is cut off has another diff id.
    let most = wanted.most.unwrap_or(u64::MAX);
    let mut plain = PlainTar::start(input, most).map_err(failed)?;
    let options = UnpackOptions {
        whiteouts: true,
        below: views.iter().map(View::root).collect(),
        tree: wanted.tree,
        ..UnpackOptions::default()
    };
    let unpacked = unpack(&mut plain, &root, &options)?;
    let (digest, size) = plain.finish().map_err(failed)?;
    let found = DiffId::from(digest);
    if let Some(wanted) = wanted.diff_id
        && *wanted != found
    {
        let text = format!("a layer unpacks to {found}, and {wanted} was expected");
        return Err(Error::Image(text));
    }
    let id = store.adopt_layer(&dir)?;
    if unpacked.removes {
        store.support_removals(&id)?;
    }
    let packed = Packed {
        tree: tree_of_image_layer(&found),
        diff_id: found,
        tar_size: size,
        bytes: unpacked.bytes,
        epoch: None,
    };
    store.record_layer(&id, &packed, SystemTime::now())?;
    Ok((id, unpacked.tree))
}
