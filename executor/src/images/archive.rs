//! Images that come as files: OCI layouts and what `docker save` writes, taken into the store.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use kiln_cache::{BlobWriter, Store};
use kiln_image::archive::{
    Archive, ArchiveError, DockerArchive, DockerImage, DockerLayer, OciLayout, image_name,
};
use kiln_image::compression::decoder;
use kiln_image::descriptor::media_type;
use kiln_image::search::{Found, Next, Search, SearchError};
use kiln_image::{
    Algorithm, Compression, Descriptor, Digest, ImageConfig, ImageManifest, Parsed, Platform,
    Reference, with_causes,
};
use kiln_solver::Watch;
use kiln_solver::event::{Events, Warning, WarningCode};

use super::{Images, unfit};
use crate::error::{Error, Result, blocking};
use crate::output::{LayerRef, LazyLayer};

/// Size of reads.
const READ: usize = 256 << 10;

/// An image of an archive that is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The names that it has in the archive.
    pub names: Vec<Reference>,
    /// Digest of its config: the image id.
    pub id: Digest,
}

/// An image whose blobs are in the store, and whose layers may not be unpacked yet.
#[derive(Debug)]
pub(super) struct TakenIn {
    pub(super) id: Digest,
    pub(super) manifest: Option<Digest>,
    pub(super) config: ImageConfig,
    pub(super) layers: Vec<LazyLayer>,
}

pub(super) fn broken(error: &ArchiveError) -> Error {
    Error::Image(with_causes(error))
}

impl Images {
    /// Takes the images of an archive into the store, those for `platform` where it has several.
    /// An image gets its names when all of it is there.
    ///
    /// # Errors
    /// The archive is broken or holds nothing for the platform, or the store failed.
    pub async fn load(&self, archive: Archive, platform: &Platform) -> Result<Vec<Loaded>> {
        let (store, wanted) = (self.store().clone(), platform.clone());
        let events = self.events.clone();
        let found = blocking(move || match archive {
            Archive::Oci(layout) => all_of_layout(&store, &layout, &wanted, &events),
            Archive::Docker(archive) => {
                let one = |image: &DockerImage| {
                    let names = image
                        .names
                        .iter()
                        .filter(|name| may_be_given(name, &events));
                    let names = names.cloned().collect();
                    Ok((take_docker(&store, &archive, image)?, names))
                };
                archive.images().iter().map(one).collect()
            }
        })
        .await?;
        if found.is_empty() {
            return Err(Error::Image("the archive holds no image".into()));
        }
        let mut out = Vec::new();
        for (image, names) in found {
            let layers: Vec<LayerRef> = image.layers.into_iter().map(LayerRef::lazy).collect();
            self.layers.materialise(&layers).await?;
            if names.is_empty() {
                self.store()
                    .put_image(None, &image.id, image.manifest.as_ref())?;
            }
            for name in &names {
                self.store()
                    .put_image(Some(name), &image.id, image.manifest.as_ref())?;
            }
            out.push(Loaded {
                names,
                id: image.id,
            });
        }
        Ok(out)
    }
}

/// Images of an archive, with their names.
type Named = Vec<(TakenIn, Vec<Reference>)>;

/// Every image of a layout. What else lies in it, signatures and the like, is passed over.
fn all_of_layout(
    store: &Store,
    layout: &OciLayout,
    wanted: &Platform,
    events: &Events,
) -> Result<Named> {
    let mut out: Named = Vec::new();
    let mut artifact = None;
    let entries = &layout.index().value.manifests;
    let best = best_of_names(entries, wanted);
    for entry in entries.iter().filter(|e| !e.is_attestation()) {
        let name = image_name(entry);
        let best = best.get(&name.as_ref().map(ToString::to_string));
        if let (Some(platform), Some(best)) = (&entry.platform, best) {
            let rank = wanted.rank(platform);
            // Without names they may be images of different things.
            if rank.is_none() || (name.is_some() && rank != Some(*best)) {
                tracing::debug!(entry = %entry.digest, "another one serves better on this platform");
                continue;
            }
        }
        let name = name.filter(|name| may_be_given(name, events));
        let found = match search(layout, entry, wanted)? {
            Ok(found) => found,
            Err(error @ (SearchError::Artifact(_) | SearchError::Empty)) => {
                tracing::debug!(entry = %entry.digest, %error, "no image");
                artifact.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(unfit("the archive", &error)),
        };
        let image = take_oci(store, layout, &found.manifest)?;
        match out.iter_mut().find(|(known, _)| known.id == image.id) {
            Some((_, names)) => names.extend(name),
            None => out.push((image, name.into_iter().collect())),
        }
    }
    match artifact {
        Some(error) if out.is_empty() => Err(unfit("what the archive holds", &error)),
        _ => Ok(out),
    }
}

/// How well the best entry of each name serves on a platform, of those that name one which does.
fn best_of_names(entries: &[Descriptor], wanted: &Platform) -> BTreeMap<Option<String>, u32> {
    let mut best = BTreeMap::new();
    for entry in entries.iter().filter(|e| !e.is_attestation()) {
        let Some(rank) = entry.platform.as_ref().and_then(|p| wanted.rank(p)) else {
            continue;
        };
        let name = image_name(entry).map(|name| name.to_string());
        let known = best.entry(name).or_insert(rank);
        *known = rank.min(*known);
    }
    best
}

/// Whether an archive may give an image this name: what a digest stands for, it may not say.
fn may_be_given(name: &Reference, events: &Events) -> bool {
    let checked = name.check_new();
    if let Err(why) = &checked {
        let shown = name.familiar();
        let text = format!("the archive's name `{shown}` is not taken: {why}");
        events.warn(Warning::new(WarningCode::ImageName, text));
    }
    checked.is_ok()
}

/// The image that an entry of a layout's index stands for: a manifest, or an index of manifests for
/// several platforms. The inner error says that it stands for none.
///
/// # Errors
/// A file of the layout is broken.
pub(super) fn search(
    layout: &OciLayout,
    entry: &Descriptor,
    wanted: &Platform,
) -> Result<Result<Found, SearchError>> {
    if !media_type::is_manifest(&entry.media_type) && !media_type::is_index(&entry.media_type) {
        let kind = entry.artifact_type.as_ref().unwrap_or(&entry.media_type);
        return Ok(Err(SearchError::Artifact(kind.chars().take(200).collect())));
    }
    let read = |entry: &Descriptor| layout.manifest(entry);
    let first = read(entry).map_err(|e| broken(&e))?;
    let mut search = match Search::new(first, wanted) {
        Ok(search) => search,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        let entry = match search.step() {
            Ok(Next::Found(found)) => return Ok(Ok(found)),
            Ok(Next::Read(entry)) => entry,
            Err(error) => return Ok(Err(error)),
        };
        match read(&entry) {
            Ok(manifest) => {
                if let Err(error) = search.give(manifest) {
                    return Ok(Err(error));
                }
            }
            // Who writes one platform of several may leave the others out.
            Err(ArchiveError::Missing(_)) if search.pass_over() => {}
            Err(error) => return Err(broken(&error)),
        }
    }
}

/// Takes an image of a layout into the store.
pub(super) fn take_oci(
    store: &Store,
    layout: &OciLayout,
    image: &Parsed<ImageManifest>,
) -> Result<TakenIn> {
    let limit = kiln_image::config::MAX_CONFIG_SIZE as u64;
    let raw = layout
        .read_blob(&image.value.config, limit)
        .map_err(|e| broken(&e))?;
    let config = kiln_image::validate::check_config(&image.value, &raw)
        .map_err(|e| Error::Image(format!("the archive: {e}")))?;
    check_platform(&config)?;
    let mut layers = Vec::new();
    for (blob, diff_id) in image.value.layers.iter().zip(&config.rootfs.diff_ids) {
        if store.layer_by_diff(diff_id)?.is_none() && !store.has_blob(&blob.digest) {
            let data = layout.blob(blob).map_err(|e| broken(&e))?;
            let writer = copy(store, blob.digest.algorithm(), data)?;
            writer.finish(Some(&blob.digest))?;
        }
        layers.push(lazy(diff_id.clone(), Some(blob.clone())));
    }
    let id = store.put_blob(&raw)?;
    if id != image.value.config.digest {
        return Err(Error::Image(format!(
            "the archive's config {id} is named by another digest"
        )));
    }
    store.put_blob(&image.raw)?;
    Ok(TakenIn {
        id,
        manifest: Some(image.digest.clone()),
        config,
        layers,
    })
}

fn take_docker(store: &Store, archive: &DockerArchive, image: &DockerImage) -> Result<TakenIn> {
    check_platform(&image.config)?;
    let mut layers = Vec::new();
    for layer in &image.layers {
        let blob = match store.layer_by_diff(&layer.diff_id)? {
            Some(_) => None,
            None => Some(take_layer(store, archive, layer)?),
        };
        layers.push(lazy(layer.diff_id.clone(), blob));
    }
    let id = store.put_blob(&image.config_raw)?;
    Ok(TakenIn {
        id,
        manifest: None,
        config: image.config.clone(),
        layers,
    })
}

/// Any JSON object reads as a config; one without a platform is none.
fn check_platform(config: &ImageConfig) -> Result<()> {
    if config.os.is_empty() || config.architecture.is_empty() {
        return Err(Error::Image(
            "the archive has a config that names no platform".into(),
        ));
    }
    Ok(())
}

fn lazy(diff_id: kiln_image::DiffId, blob: Option<Descriptor>) -> LazyLayer {
    let watch: Option<Watch> = None;
    LazyLayer {
        diff_id,
        blob,
        from: None,
        watch,
        arriving: None,
        shared: None,
    }
}

/// Stores a layer of a docker archive as it is, if it is in a form that layers are sent in.
fn take_layer(store: &Store, archive: &DockerArchive, layer: &DockerLayer) -> Result<Descriptor> {
    let mut input = archive.layer(layer).map_err(|e| broken(&e))?;
    let mut start = Vec::new();
    let read = |e| Error::io("read archive", e);
    input
        .by_ref()
        .take(Compression::MAGIC_LEN as u64)
        .read_to_end(&mut start)
        .map_err(read)?;
    let kind = Compression::detect(&start);
    let whole: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(start).chain(input));
    let (kind, whole) = match kind.oci_layer_type() {
        Some(media_type) => (media_type, whole),
        None => (media_type::OCI_LAYER, decoder(whole).map_err(read)?.1),
    };
    let writer = copy(store, Algorithm::Sha256, whole)?;
    let size = writer.size();
    // What is not compressed must have the digest that the config names.
    let plain = (kind == media_type::OCI_LAYER).then_some(layer.diff_id.digest());
    let digest = writer.finish(plain).map_err(|e| match e {
        kiln_cache::Error::WrongDigest { found, wanted } => Error::Image(format!(
            "a layer of the archive is {found}, and its config says {wanted}"
        )),
        e => e.into(),
    })?;
    Ok(Descriptor::new(kind, digest, size))
}

fn copy(store: &Store, algorithm: Algorithm, data: impl Read) -> Result<BlobWriter> {
    let mut writer = store.blob_writer(algorithm)?;
    std::io::copy(&mut BufReader::with_capacity(READ, data), &mut writer)
        .map_err(|e| Error::io("copy a blob of the archive", e))?;
    Ok(writer)
}
