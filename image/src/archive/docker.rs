//! Reads the older form of what `docker save` writes: `manifest.json`, configs and layer tars.

use std::io::Read;

use serde::Deserialize;

use super::source::Source;
use super::{ArchiveError, MANIFEST_FILE};
use crate::config::{ImageConfig, MAX_CONFIG_SIZE};
use crate::digest::{DiffId, Digest};
use crate::json::nullable;
use crate::reference::Reference;

/// The largest `manifest.json`.
const MAX_MANIFEST: u64 = 8 << 20;

/// A docker archive.
#[derive(Debug)]
pub struct DockerArchive {
    source: Source,
    images: Vec<DockerImage>,
}

/// One image of a docker archive.
#[derive(Debug, Clone, PartialEq)]
pub struct DockerImage {
    /// Its tags; may be empty.
    pub names: Vec<Reference>,
    /// Its config.
    pub config: ImageConfig,
    /// The bytes of the config; their digest is the image's id.
    pub config_raw: Vec<u8>,
    /// Its layers, lowest first.
    pub layers: Vec<DockerLayer>,
}

/// One layer of a docker archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerLayer {
    /// The digest that the unpacked layer must have. The archive names no other, so whoever reads
    /// the layer must check it.
    pub diff_id: DiffId,
    /// Bytes as stored.
    pub size: u64,
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestItem {
    config: String,
    #[serde(default, deserialize_with = "nullable")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    layers: Vec<String>,
}

impl DockerArchive {
    pub(super) fn from_source(source: Source) -> Result<Self, ArchiveError> {
        let json = source.read(MANIFEST_FILE, MAX_MANIFEST)?;
        let items: Vec<ManifestItem> =
            serde_json::from_slice(&json).map_err(|source| ArchiveError::Json {
                path: MANIFEST_FILE.into(),
                source,
            })?;
        let images = items
            .iter()
            .map(|item| image(&source, item))
            .collect::<Result<_, _>>()?;
        Ok(Self { source, images })
    }

    /// The images of the archive.
    #[must_use]
    pub fn images(&self) -> &[DockerImage] {
        &self.images
    }

    /// Opens a layer as it is stored: a tar that is usually, but not always, uncompressed.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn layer(&self, layer: &DockerLayer) -> Result<Box<dyn Read + Send>, ArchiveError> {
        Ok(self.source.open(&layer.path)?.1)
    }
}

fn image(source: &Source, item: &ManifestItem) -> Result<DockerImage, ArchiveError> {
    let config_raw = source.read(&item.config, MAX_CONFIG_SIZE as u64)?;
    let name = item.config.rsplit('/').next().unwrap_or_default();
    let stem = name.strip_suffix(".json").unwrap_or(name);
    // Configs are named by their digest. Other names, from hand-made archives, promise nothing.
    if let Ok(promised) = format!("sha256:{stem}").parse::<Digest>()
        && !promised.matches(&config_raw)
    {
        let found = Digest::of(&config_raw);
        return Err(ArchiveError::Mismatch {
            path: item.config.clone(),
            found,
        });
    }
    let config = ImageConfig::parse(&config_raw)?;
    let (layers, diff_ids) = (item.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        return Err(ArchiveError::LayerCount { layers, diff_ids });
    }
    let layers = item
        .layers
        .iter()
        .zip(&config.rootfs.diff_ids)
        .map(|(path, diff_id)| {
            let (size, _) = source.open(path)?;
            Ok(DockerLayer {
                diff_id: diff_id.clone(),
                size,
                path: path.clone(),
            })
        })
        .collect::<Result<_, ArchiveError>>()?;
    let names = item
        .repo_tags
        .iter()
        .map(|name| {
            name.parse().map_err(|source| ArchiveError::Name {
                name: name.clone(),
                source,
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(DockerImage {
        names,
        config,
        config_raw,
        layers,
    })
}
