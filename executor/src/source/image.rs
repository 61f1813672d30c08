//! Images: from the store, else from a registry; metadata first, layers when they are needed.

use kiln_cache::tree_of_image_layer;
use kiln_image::descriptor::media_type;
use kiln_image::search::{Found, Next, Search, SearchError};
use kiln_image::{
    Descriptor, Digest, ImageConfig, ImageManifest, Manifest, Platform, Reference, with_causes,
};
use kiln_registry::{MemorySink, RegistryError};
use kiln_solver::Watch;
use kiln_solver::event::{Events, Warning, WarningCode};
use kiln_solver::key::Identity;
use kiln_solver::plan::SourceKind;
use kiln_solver::ports::{Arrival, PortError, ResolvedImage, Resolver};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::output::{LayerRef, LazyLayer};

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
pub(super) fn identity(layers: &[LayerRef]) -> Identity {
    layers
        .iter()
        .filter_map(LayerRef::lazy_layer)
        .fold(Identity::empty(), |id, layer| {
            id.with_layer(tree_of_image_layer(&layer.diff_id))
        })
}

impl Engine {
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
        let client = &self.s.registry;
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
        let store = &self.s.store;
        let config_digest = manifest.value.config.digest.clone();
        let stored = store.try_image(&reference.to_string())?;
        let up_to_date = stored.is_some_and(|i| i.row.config == config_digest);
        if self.s.lists_images {
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
            match self.s.registry.fetch_manifest(&pinned, accept).await {
                Ok(manifest) => search.give(manifest).map_err(unfit)?,
                Err(error) if error.is_not_found() && search.pass_over() => {}
                Err(error) => return Err(self.registry_error(reference, error)),
            }
        }
    }

    /// An error of a registry, with what to do about it.
    fn registry_error(&self, reference: &Reference, error: RegistryError) -> Error {
        let usual = if error.is_denied() {
            Some(DENIED)
        } else if error.is_not_found() {
            Some(UNKNOWN)
        } else if error.unreachable().is_some() {
            Some(UNREACHABLE)
        } else {
            None
        };
        let hint = usual.map(|usual| match self.s.store.name_near(reference) {
            Some(near) => format!("did you mean `{}`?", near.familiar()),
            None => usual.into(),
        });
        Error::Registry {
            what: String::new(),
            source: Box::new(error),
            hint,
        }
    }

    async fn fetch_config(&self, reference: &Reference, config: &Descriptor) -> Result<Vec<u8>> {
        if let Ok(raw) = self.s.store.read_blob(&config.digest) {
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
            .s
            .registry
            .fetch_blob(reference, config, &mut sink, &|_| {})
            .await;
        done.map_err(|e| self.registry_error(reference, e))?;
        let raw = sink.into_bytes();
        self.s.store.put_blob(&raw)?;
        Ok(raw)
    }

    /// The layers of an image whose metadata is in the store.
    ///
    /// # Errors
    /// The metadata is gone or damaged.
    pub fn image_layers(
        &self,
        reference: &str,
        config_digest: &str,
        watch: Option<&Watch>,
    ) -> Result<Vec<LayerRef>> {
        let store = &self.s.store;
        let digest: Digest = config_digest.parse().map_err(|_| bad_image(reference))?;
        let raw = store.read_blob(&digest)?;
        let config = ImageConfig::parse(&raw).map_err(|e| Error::Image(e.to_string()))?;
        let manifest = match store.try_image(config_digest)?.and_then(|i| i.row.manifest) {
            Some(manifest) => match store.read_blob(&manifest) {
                Ok(raw) => match Manifest::parse(&raw, None) {
                    Ok(Manifest::Image(image)) => Some(image.value),
                    _ => None,
                },
                Err(_) => None,
            },
            None => None,
        };
        let from = Reference::parse(reference).ok();
        let layers = config
            .rootfs
            .diff_ids
            .iter()
            .enumerate()
            .map(|(at, diff_id)| {
                let blob = manifest.as_ref().and_then(|m| m.layers.get(at)).cloned();
                LayerRef::lazy(LazyLayer {
                    diff_id: diff_id.clone(),
                    blob,
                    from: from.clone(),
                    watch: watch.cloned(),
                    arriving: None,
                    shared: None,
                })
            });
        Ok(layers.collect())
    }

    /// The same layers, such that it is known when they come; none if all are here.
    pub(super) fn arriving(&self, layers: &[LayerRef]) -> Result<Option<(Vec<LayerRef>, Arrival)>> {
        let mut all_here = true;
        for lazy in layers.iter().filter_map(LayerRef::lazy_layer) {
            all_here &= self.s.store.layer_by_diff(&lazy.diff_id)?.is_some();
        }
        if all_here {
            return Ok(None);
        }
        let (arriving, arrival) = Arrival::of(layers.len());
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
        let name = reference.to_string();
        let layers = self.image_layers(&name, pulled.config_digest.as_str(), watch.as_ref())?;
        match self.arriving(&layers)? {
            None => {
                self.ready(&layers).await?;
            }
            Some((layers, arrival)) => {
                self.ready(&layers).await?;
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
        let image = self.s.store.try_image(name)?;
        let image = image.filter(|i| i.config.platform().satisfies(platform));
        Ok(image.map(|image| ResolvedImage {
            reference: image
                .row
                .name
                .clone()
                .unwrap_or_else(|| image.row.config.to_string()),
            config_digest: image.row.config.to_string(),
            config: image.config,
        }))
    }

    /// The config of an image of the store, or of its registry if it is not here.
    ///
    /// # Errors
    /// Nobody has it.
    pub async fn find_or_pull(&self, name: &str, platform: &Platform) -> Result<ResolvedImage> {
        if !self.s.always_pull
            && let Some(image) = self.find(name, platform)?
        {
            return Ok(image);
        }
        let reference = image_reference(name)?;
        let pulled = self.pull_metadata(&reference, platform).await?;
        Ok(pulled.for_platform(platform, &self.s.events))
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
            reference: self.reference.to_string(),
            config_digest: self.config_digest.to_string(),
            config: self.config,
        }
    }
}

fn bad_image(reference: &str) -> Error {
    Error::Image(format!("the store's data on `{reference}` is damaged"))
}

/// Why what has a name is not the image that is wanted, with what to do about it.
pub(super) fn unfit(what: &str, error: &SearchError) -> Error {
    let text = format!("{what} {error}");
    let hint = match error {
        SearchError::NoPlatform { .. } => {
            "--platform chooses one of those that there are; RUN needs one that this machine runs"
        }
        SearchError::Artifact(_) | SearchError::Empty => {
            "check the tag or digest: what has no layers to unpack cannot be built on or run"
        }
        SearchError::TooDeep | SearchError::TooMany => {
            "name the image itself, by the digest of its manifest"
        }
    };
    let hint = hint.into();
    Error::Missing { text, hint }
}

/// The name of an image as somebody has written it.
///
/// # Errors
/// It is none.
pub fn image_reference(name: &str) -> Result<Reference> {
    Reference::parse(name).map_err(|e| Error::Missing {
        text: format!("`{name}` is not the name of an image: {}", with_causes(&e)),
        hint: "names are written [HOST[:PORT]/]NAME[:TAG][@DIGEST], in lower case up to the tag"
            .into(),
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

/// What to do about an image that a registry does not have.
const UNKNOWN: &str = "check the name and the tag; a private image needs credentials in the Docker \
    config file, which `docker login` writes";
/// What to do about an image that a registry does not give, or says nothing about.
const DENIED: &str = "check the name; a private image needs credentials in the Docker config file, \
    which `docker login` writes";
/// What to do about a registry that is not there.
const UNREACHABLE: &str = "check the host and the network; kiln's config file can name a mirror for \
    the registry";

impl Resolver for Engine {
    async fn resolve(
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

    async fn changed(&self, source: &SourceKind) -> Result<Option<u64>, PortError> {
        let time = self.last_change(source).await?;
        // What was changed before 1970 was changed at its begin, as far as a tar can tell.
        Ok(time.map(|seconds| seconds.max(0).cast_unsigned()))
    }
}
