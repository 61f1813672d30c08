//! Images as OCI layouts and as what `docker load` reads.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;

use kiln_cache::{LayerBlob, LayerForm, Store, StoredImage};
use kiln_image::archive::{
    ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, ArchiveError, ImageEntry, OciDirWriter,
    OciTarWriter,
};
use kiln_image::{
    Compression, Descriptor, Digest, ImageManifest, Manifest, Parsed, Platform, Reference,
    media_type, with_causes,
};

use super::Exporter;
use super::assemble::Assembled;
use crate::error::{Error, Result, blocking};
use crate::output::LayerRef;
use kiln_solver::Hint;

/// An image that is to be written.
#[derive(Clone, Debug)]
pub struct ExportImage {
    /// Digest of its config.
    pub id: Digest,
    /// Its layers.
    pub layers: Vec<LayerRef>,
    /// Its platform.
    pub platform: Platform,
    /// Its names.
    pub names: Vec<Reference>,
    /// The manifest that the store has for it.
    pub manifest: Option<Digest>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of its entry in the index.
    pub entry_annotations: BTreeMap<String, String>,
}

impl ExportImage {
    /// What a build made, under these names.
    pub fn built(image: &Assembled, names: &[Reference]) -> Self {
        Self {
            id: image.id.clone(),
            layers: image.layers.clone(),
            platform: image.config.platform(),
            names: names.to_vec(),
            manifest: None,
            annotations: BTreeMap::new(),
            entry_annotations: BTreeMap::new(),
        }
    }
}

/// The form of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveForm {
    /// An OCI layout.
    Oci,
    /// An OCI layout with what `docker load` of any version reads.
    Docker,
}

/// Where an archive goes.
pub enum ArchiveTarget {
    /// A tar.
    Stream(Box<dyn Write + Send>),
    /// A directory, with an OCI layout in it.
    Directory(PathBuf),
}

impl std::fmt::Debug for ArchiveTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stream(_) => "Stream",
            Self::Directory(_) => "Directory",
        })
    }
}

/// Either writer.
#[expect(clippy::large_enum_variant, reason = "one exists per archive")]
enum Writer {
    Tar(OciTarWriter<Box<dyn Write + Send>>),
    Directory(OciDirWriter),
}

fn failed(error: &ArchiveError) -> Error {
    let text = with_causes(error);
    Error::Other(format!("cannot write the archive: {text}"))
}

impl Writer {
    fn blob(&mut self, descriptor: &Descriptor, data: &mut dyn Read) -> Result<()> {
        match self {
            Self::Tar(tar) => tar.blob(descriptor, data),
            Self::Directory(dir) => dir.blob(descriptor, data),
        }
        .map_err(|e| failed(&e))
    }
}

/// What an image is in an archive.
pub(super) struct Written {
    pub(super) manifest: Vec<u8>,
    pub(super) media_type: String,
    pub(super) config: Vec<u8>,
    pub(super) layers: Vec<LayerBlob>,
}

impl Exporter {
    /// An image of the store as one to be written under these names.
    ///
    /// # Errors
    /// The store's data on it is gone or damaged.
    pub fn exportable(&self, image: &StoredImage, names: Vec<Reference>) -> Result<ExportImage> {
        let (name, id) = (image.row.name.as_ref(), &image.row.config);
        let layers = self.images.image_layers(name, id, None)?;
        Ok(ExportImage {
            id: image.row.config.clone(),
            layers,
            platform: image.config.platform(),
            names,
            manifest: image.row.manifest.clone(),
            annotations: BTreeMap::new(),
            entry_annotations: BTreeMap::new(),
        })
    }

    /// Writes images as one archive, and gives what the archive says of each: its manifest with
    /// its platform and annotations. Without a form for layers, an image that was pulled keeps its
    /// manifest, and others get plain tars.
    ///
    /// # Errors
    /// A layer cannot be had, or the target failed.
    pub async fn write_archive(
        &self,
        images: Vec<ExportImage>,
        form: ArchiveForm,
        layers: Option<LayerForm>,
        target: ArchiveTarget,
    ) -> Result<Vec<Descriptor>> {
        for image in &images {
            self.layers.materialise(&image.layers).await?;
            self.layers.fetch_blobs(&image.layers).await?;
        }
        let exporter = self.clone();
        blocking(move || exporter.write_archive_now(&images, form, layers, target)).await
    }

    fn write_archive_now(
        &self,
        images: &[ExportImage],
        form: ArchiveForm,
        layers: Option<LayerForm>,
        target: ArchiveTarget,
    ) -> Result<Vec<Descriptor>> {
        let store = self.store();
        let mut writer = match target {
            ArchiveTarget::Stream(out) => Writer::Tar(OciTarWriter::new(out)),
            ArchiveTarget::Directory(dir) => {
                Writer::Directory(OciDirWriter::new(&dir).map_err(|e| failed(&e))?)
            }
        };
        let (mut index, mut entries, mut manifests) = (Vec::new(), Vec::new(), Vec::new());
        for image in images {
            let written = self.written(image, form, layers)?;
            let config = Descriptor::of(media_type::OCI_CONFIG, &written.config);
            for layer in &written.layers {
                writer.blob(&layer.descriptor, &mut layer.open(store)?)?;
            }
            writer.blob(&config, &mut written.config.as_slice())?;
            let manifest = Descriptor::of(written.media_type.as_str(), &written.manifest);
            writer.blob(&manifest, &mut written.manifest.as_slice())?;
            let mut entry = manifest.with_platform(image.platform.clone());
            entry.annotations.extend(image.entry_annotations.clone());
            index.extend(index_entries(image, &entry));
            manifests.push(entry);
            entries.push(ImageEntry {
                names: image.names.clone(),
                config: config.digest,
                layers: written
                    .layers
                    .into_iter()
                    .map(|l| l.descriptor.digest)
                    .collect(),
            });
        }
        match writer {
            Writer::Directory(dir) => dir.finish(index),
            Writer::Tar(tar) if form == ArchiveForm::Docker => {
                tar.finish_docker(index, &entries).map(drop)
            }
            Writer::Tar(tar) => tar.finish(index).map(drop),
        }
        .map_err(|e| failed(&e))?;
        Ok(manifests)
    }

    /// The blobs of an image.
    pub(super) fn written(
        &self,
        image: &ExportImage,
        form: ArchiveForm,
        layers: Option<LayerForm>,
    ) -> Result<Written> {
        let store = self.store();
        let config = store.read_blob(&image.id)?;
        let stored = image
            .manifest
            .as_ref()
            .and_then(|d| stored_manifest(store, d));
        let plain = LayerForm {
            compression: Compression::None,
            level: None,
            all: true,
        };
        let (form, keep) = match (layers, form) {
            (Some(layers), _) => (layers, false),
            (None, ArchiveForm::Docker) => (plain, false),
            (None, ArchiveForm::Oci) => (
                LayerForm {
                    all: false,
                    ..plain
                },
                true,
            ),
        };
        let blobs: Vec<LayerBlob> = image
            .layers
            .iter()
            .map(|layer| self.layer_blob(layer, form))
            .collect::<Result<_>>()?;
        // What was pulled keeps its digest.
        if keep
            && image.annotations.is_empty()
            && let Some(stored) = &stored
            && stored.media_type == media_type::OCI_MANIFEST
            && stored.value.layers.len() == blobs.len()
            && stored
                .value
                .layers
                .iter()
                .zip(&blobs)
                .all(|(l, b)| l.digest == b.descriptor.digest)
        {
            let (manifest, media_type) = (stored.raw.clone(), stored.media_type.clone());
            return Ok(Written {
                manifest,
                media_type,
                config,
                layers: blobs,
            });
        }
        let descriptors = blobs.iter().map(|b| b.descriptor.clone()).collect();
        let mut manifest =
            ImageManifest::oci(Descriptor::of(media_type::OCI_CONFIG, &config), descriptors);
        if let Some(stored) = stored {
            manifest.annotations = stored.value.annotations;
        }
        manifest.annotations.extend(image.annotations.clone());
        let manifest = manifest
            .to_json()
            .map_err(|e| Error::Image(e.to_string()))?;
        let media_type = media_type::OCI_MANIFEST.to_owned();
        Ok(Written {
            manifest,
            media_type,
            config,
            layers: blobs,
        })
    }

    /// Stores a manifest with annotations for an image that was built, its own layers as plain
    /// tars. Gives its digest.
    ///
    /// # Errors
    /// A layer's record is gone, or the store failed.
    pub fn annotate(
        &self,
        image: &Assembled,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Digest> {
        let store = self.store();
        let config = store.read_blob(&image.id)?;
        let mut layers = Vec::new();
        for layer in &image.layers {
            if layer.is_of_image()
                && let Some(pulled) = layer.lazy_layer().and_then(|l| l.blob.clone())
            {
                layers.push(pulled);
                continue;
            }
            let (diff_id, _) = self.layer_facts(layer)?;
            let here = store.layer_by_diff(&diff_id)?;
            let here = here.ok_or_else(|| Error::Missing {
                text: format!("layer {diff_id} is gone from the store"),
                hint: Hint::BuildAgain,
            })?;
            layers.push(Descriptor::new(
                media_type::OCI_LAYER,
                diff_id.into_digest(),
                here.tar_size,
            ));
        }
        let config = Descriptor::of(media_type::OCI_CONFIG, &config);
        let mut manifest = ImageManifest::oci(config, layers);
        manifest.annotations.clone_from(annotations);
        let raw = manifest
            .to_json()
            .map_err(|e| Error::Image(e.to_string()))?;
        Ok(store.put_blob(&raw)?)
    }
}

fn stored_manifest(store: &Store, digest: &Digest) -> Option<Parsed<ImageManifest>> {
    let raw = store.read_blob(digest).ok()?;
    match Manifest::parse(&raw, None).ok()? {
        Manifest::Image(image) => Some(image),
        Manifest::Index(_) => None,
    }
}

/// An entry of the index for each name; one if there is none.
fn index_entries(image: &ExportImage, entry: &Descriptor) -> Vec<Descriptor> {
    if image.names.is_empty() {
        return vec![entry.clone()];
    }
    let named = |name: &Reference| {
        let entry = entry
            .clone()
            .with_annotation(ANNOTATION_IMAGE_NAME, name.to_string());
        match name.tag() {
            Some(tag) => entry.with_annotation(ANNOTATION_REF_NAME, tag),
            None => entry,
        }
    };
    image.names.iter().map(named).collect()
}
