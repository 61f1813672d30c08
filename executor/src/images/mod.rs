//! Images: from the store, else from a registry; metadata first, layers when they are needed.

mod archive;
mod import;
mod layout;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_cache::{Store, StoredImage, tree_of_image_layer};
use kiln_image::descriptor::media_type;
use kiln_image::search::{Found, Next, Search, SearchError};
use kiln_image::{
    Descriptor, DiffId, Digest, ImageConfig, ImageManifest, Manifest, Platform, Reference,
    with_causes,
};
use kiln_registry::{MemorySink, RegistryError};
use kiln_solver::Hint;
use kiln_solver::Watch;
use kiln_solver::event::{Events, Warning, WarningCode};
use kiln_solver::key::Identity;
use kiln_solver::plan::ImageName;
use kiln_solver::ports::{FetchProgress, PortError, ResolvedImage};

use crate::error::{Error, Result};
use crate::layers::LayerFetcher;
use crate::output::{LayerRef, LazyLayer};
use crate::settings::Settings;

pub use archive::Loaded;
pub use import::Import;

/// An image that was looked up in its registry.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Its name.
    pub reference: Reference,
    /// Digest of the manifest, or of the index that it was found in.
    pub digest: Digest,
    /// Digest of its config: the image id.
    pub config_digest: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Whether the store had it already under this name, and nothing but metadata was transferred.
    pub up_to_date: bool,
}

/// The identity of an image's layers.
pub(crate) fn identity(layers: &[LayerRef]) -> Identity {
    layers
        .iter()
        .filter_map(LayerRef::lazy_layer)
        .fold(Identity::empty(), |id, layer| {
            id.with_layer(tree_of_image_layer(&layer.diff_id))
        })
}

/// Images of the store, of registries, and of files.
#[derive(Clone, Debug)]
pub struct Images {
    layers: LayerFetcher,
    /// Base images are looked up in their registry even if they are here.
    always_pull: bool,
    /// Images that are looked up get into the list of images.
    lists_images: bool,
    events: Events,
    /// Layers of the images that were looked up, by the digest of the config: what was read once is not read and
    /// parsed again.
    looked_up: Arc<Mutex<HashMap<Digest, Arc<ImageLayers>>>>,
}

/// What names the layers of an image.
#[derive(Debug)]
struct ImageLayers {
    /// Of their tars, from the bottom up.
    diff_ids: Vec<DiffId>,
    /// The blobs that hold them, in the same order; empty where no manifest is known.
    blobs: Vec<Descriptor>,
}

impl Images {
    pub(crate) fn new(layers: LayerFetcher, settings: &Settings) -> Self {
        Self {
            layers,
            always_pull: settings.always_pull,
            lists_images: settings.lists_images,
            events: settings.events.clone(),
            looked_up: Arc::default(),
        }
    }

    fn note_layers(&self, id: &Digest, config: &ImageConfig, blobs: Vec<Descriptor>) {
        let layers = ImageLayers {
            diff_ids: config.rootfs.diff_ids.clone(),
            blobs,
        };
        let mut known = self
            .looked_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(id.clone(), Arc::new(layers));
    }

    /// What names the layers of an image of the store.
    fn layers_of(&self, id: &Digest) -> Result<Arc<ImageLayers>> {
        let known = |images: &Self| {
            let known = images
                .looked_up
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            known.get(id).cloned()
        };
        if let Some(layers) = known(self) {
            return Ok(layers);
        }
        let raw = self.store().read_blob(id)?;
        let config = ImageConfig::parse(&raw).map_err(|e| Error::Image(e.to_string()))?;
        let manifest = self.store().image(id)?.and_then(|i| i.row.manifest);
        self.note_layers(id, &config, self.blobs_of(manifest.as_ref()));
        let missing = || Error::Other("an image that was read is not there".into());
        known(self).ok_or_else(missing)
    }

    /// The blobs that a manifest of the store names. One that is gone or damaged names none.
    fn blobs_of(&self, manifest: Option<&Digest>) -> Vec<Descriptor> {
        let raw = manifest.and_then(|digest| self.store().read_blob(digest).ok());
        match raw.and_then(|raw| Manifest::parse(&raw, None).ok()) {
            Some(Manifest::Image(image)) => image.value.layers,
            Some(Manifest::Index(_)) | None => Vec::new(),
        }
    }

    fn store(&self) -> &Store {
        self.layers.store()
    }

    /// Looks an image up in its registry and stores manifest and config under its name, unless this
    /// engine only looks.
    ///
    /// # Errors
    /// The registry does not have it, or not for this platform.
    pub async fn pull_metadata(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Pulled> {
        let client = self.layers.registry();
        let accept = &media_type::ACCEPT_MANIFESTS;
        let first = client
            .fetch_manifest(reference, accept)
            .await
            .map_err(|e| self.registry_error(reference, e))?;
        let digest = first.digest().clone();
        let Found { manifest, through } = self.search(reference, first, platform).await?;
        let raw = self.fetch_config(reference, &manifest.value.config).await?;
        let config = ImageConfig::parse(&raw).map_err(|e| Error::Image(e.to_string()))?;
        check_layers(reference, &manifest.value, &config)?;
        let store = self.store();
        let config_digest = manifest.value.config.digest.clone();
        let stored = store.image_named(reference)?;
        let up_to_date = stored.is_some_and(|i| i.row.config == config_digest);
        if self.lists_images {
            store.put_blob(&manifest.raw)?;
            if reference.digest().is_some() {
                // They show that the image is what the digest says.
                for index in &through {
                    store.put_blob(&index.raw)?;
                }
            }
            let blobs = config.rootfs.diff_ids.iter().zip(&manifest.value.layers);
            store.note_origins(reference, &blobs.collect::<Vec<_>>())?;
            store.put_image(Some(reference), &config_digest, Some(&manifest.digest))?;
        }
        self.note_layers(&config_digest, &config, manifest.value.layers);
        let reference = reference.clone();
        Ok(Pulled {
            reference,
            digest,
            config_digest,
            config,
            up_to_date,
        })
    }

    /// The image of a manifest or index for one platform, and what it was found through.
    async fn search(
        &self,
        reference: &Reference,
        first: Manifest,
        platform: &Platform,
    ) -> Result<Found> {
        let unfit = |e| unfit(&format!("`{}`", reference.familiar()), &e);
        let mut search = Search::new(first, platform).map_err(unfit)?;
        loop {
            let entry = match search.step().map_err(unfit)? {
                Next::Found(found) => return Ok(found),
                Next::Read(entry) => entry,
            };
            let pinned = reference.by_digest(entry.digest);
            let accept = &media_type::ACCEPT_MANIFESTS;
            match self.layers.registry().fetch_manifest(&pinned, accept).await {
                Ok(manifest) => search.give(manifest).map_err(unfit)?,
                Err(error) if error.is_not_found() && search.pass_over() => {}
                Err(error) => return Err(self.registry_error(reference, error)),
            }
        }
    }

    /// An error of a registry, with what to do about it.
    fn registry_error(&self, reference: &Reference, error: RegistryError) -> Error {
        let usual = if error.is_denied() {
            Some(Hint::CheckImageName)
        } else if error.is_not_found() {
            Some(Hint::CheckImageNameAndTag)
        } else if error.unreachable().is_some() {
            Some(Hint::CheckHostOrMirror)
        } else {
            None
        };
        let hint = usual.map(|usual| match self.store().name_near(reference) {
            Some(near) => Hint::DidYouMean(near.familiar()),
            None => usual,
        });
        Error::Registry {
            what: String::new(),
            source: Box::new(error),
            hint,
        }
    }

    async fn fetch_config(&self, reference: &Reference, config: &Descriptor) -> Result<Vec<u8>> {
        if let Ok(raw) = self.store().read_blob(&config.digest) {
            return Ok(raw);
        }
        let limit = kiln_image::config::MAX_CONFIG_SIZE as u64;
        if config.size > limit {
            return Err(Error::Image(format!(
                "the config of `{reference}` is larger than {limit} bytes"
            )));
        }
        let mut sink = MemorySink::default();
        let done = self
            .layers
            .registry()
            .fetch_blob(reference, config, &mut sink, &|_| {})
            .await;
        done.map_err(|e| self.registry_error(reference, e))?;
        let raw = sink.into_bytes();
        self.store().put_blob(&raw)?;
        Ok(raw)
    }

    /// The layers of an image whose metadata is in the store.
    ///
    /// # Errors
    /// The metadata is gone or damaged.
    pub fn image_layers(
        &self,
        from: Option<&Reference>,
        id: &Digest,
        watch: Option<&Watch>,
    ) -> Result<Vec<LayerRef>> {
        let image = self.layers_of(id)?;
        let layers = image.diff_ids.iter().enumerate().map(|(at, diff_id)| {
            LayerRef::lazy(LazyLayer {
                diff_id: diff_id.clone(),
                blob: image.blobs.get(at).cloned(),
                from: from.cloned(),
                watch: watch.cloned(),
                arriving: None,
                shared: None,
            })
        });
        Ok(layers.collect())
    }

    /// The same layers, such that it is known when they come; none if all are here.
    pub(crate) fn arriving(
        &self,
        layers: &[LayerRef],
    ) -> Result<Option<(Vec<LayerRef>, FetchProgress)>> {
        let mut all_here = true;
        for lazy in layers.iter().filter_map(LayerRef::lazy_layer) {
            all_here &= self.store().layer_by_diff(&lazy.diff_id)?.is_some();
        }
        if all_here {
            return Ok(None);
        }
        let (arriving, arrival) = FetchProgress::of(layers.len());
        let watched = |layer: &LayerRef| match layer.lazy_layer() {
            None => layer.clone(),
            Some(lazy) => LayerRef::lazy(LazyLayer {
                arriving: Some(arriving.clone()),
                ..lazy.clone()
            }),
        };
        Ok(Some((layers.iter().map(watched).collect(), arrival)))
    }

    /// Pulls an image with all its layers.
    ///
    /// # Errors
    /// The registry does not have it, or a layer cannot be had.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        watch: Option<Watch>,
    ) -> Result<Pulled> {
        let mut pulled = self.pull_metadata(reference, platform).await?;
        let id = &pulled.config_digest;
        let layers = self.image_layers(Some(reference), id, watch.as_ref())?;
        match self.arriving(&layers)? {
            None => {
                self.layers.materialise(&layers).await?;
            }
            Some((layers, arrival)) => {
                self.layers.materialise(&layers).await?;
                pulled.up_to_date &= arrival.now().began.is_none();
            }
        }
        Ok(pulled)
    }

    /// The config of an image of the store for this platform; none if it has no such image.
    ///
    /// # Errors
    /// An id is ambiguous, or the store cannot be read.
    pub fn find(&self, name: &str, platform: &Platform) -> Result<Option<ResolvedImage>> {
        let image = self.store().try_image(name)?;
        let image = image.filter(|i| i.config.platform().satisfies(platform));
        if let Some(StoredImage { row, config, .. }) = &image {
            self.note_layers(&row.config, config, self.blobs_of(row.manifest.as_ref()));
        }
        Ok(image.map(|image| ResolvedImage {
            name: match image.row.name {
                Some(name) => ImageName::Registry(name),
                None => ImageName::Id(image.row.config.clone()),
            },
            id: image.row.config,
            config: image.config,
        }))
    }

    /// The config of an image of the store, or of its registry if it is not here.
    ///
    /// # Errors
    /// Nobody has it.
    pub async fn find_or_pull(&self, name: &str, platform: &Platform) -> Result<ResolvedImage> {
        if !self.always_pull
            && let Some(image) = self.find(name, platform)?
        {
            return Ok(image);
        }
        let reference = image_reference(name)?;
        let pulled = self.pull_metadata(&reference, platform).await?;
        Ok(pulled.for_platform(platform, &self.events))
    }
}

impl Images {
    /// The config of a base image: of an OCI layout, of the store, or of its registry.
    pub(crate) async fn resolve(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> Result<ResolvedImage, PortError> {
        if let Some(layout) = reference.strip_prefix("oci-layout://") {
            return Ok(self.resolve_layout(layout, platform).await?);
        }
        self.find_or_pull(reference, platform).await.map_err(|e| {
            let error = PortError::from(e);
            let message = format!("cannot resolve `{reference}`: {}", error.message);
            PortError { message, ..error }
        })
    }
}

impl Pulled {
    /// The image for a build or container; one for another platform than this is warned of.
    pub fn for_platform(self, platform: &Platform, events: &Events) -> ResolvedImage {
        let own = self.config.platform();
        if !own.satisfies(platform) {
            let name = self.reference.familiar();
            let text = format!("`{name}` is an image for {own}, and {platform} was asked for");
            events.warn(Warning::new(WarningCode::PlatformMismatch, text));
        }
        ResolvedImage {
            name: ImageName::Registry(self.reference),
            id: self.config_digest,
            config: self.config,
        }
    }
}

/// Why what has a name is not the image that is wanted, with what to do about it.
pub(super) fn unfit(what: &str, error: &SearchError) -> Error {
    let text = format!("{what} {error}");
    let hint = match error {
        SearchError::NoPlatform { .. } => Hint::ChoosePlatform,
        SearchError::Artifact(_) | SearchError::Empty => Hint::NotAnImage,
        SearchError::TooDeep | SearchError::TooMany => Hint::NameByDigest,
    };
    Error::Missing { text, hint }
}

/// The name of an image as somebody has written it.
///
/// # Errors
/// It is none.
pub fn image_reference(name: &str) -> Result<Reference> {
    Reference::parse(name).map_err(|e| Error::Missing {
        text: format!("`{name}` is not the name of an image: {}", with_causes(&e)),
        hint: Hint::ImageNameForm,
    })
}

fn check_layers(
    reference: &Reference,
    manifest: &ImageManifest,
    config: &ImageConfig,
) -> Result<()> {
    let (layers, diffs) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers == diffs {
        return Ok(());
    }
    let name = reference.familiar();
    Err(Error::Image(format!(
        "`{name}` has {layers} layers, and its config names {diffs}"
    )))
}
