//! Small images, made in memory.

use std::io::Write;

use anyhow::Result;
use bytes::Bytes;
use kiln_image::compression::Encoder;
use kiln_image::layer::LayerWriter;
use kiln_image::{
    Compression, Descriptor, DiffId, Digest, Entry, EntryKind, ImageConfig, ImageManifest,
    Platform, Reference, media_type,
};
use kiln_registry::Client;

/// An image with all of its bytes.
#[derive(Debug, Clone)]
pub struct TinyImage {
    /// The layers as stored, lowest first.
    pub layers: Vec<(Descriptor, Bytes)>,
    /// The config.
    pub config: (Descriptor, Bytes),
    /// The manifest.
    pub manifest: (Descriptor, Bytes),
}

impl TinyImage {
    /// An image of one gzip layer with these files.
    ///
    /// # Errors
    /// When a path cannot be in a layer.
    pub fn of_files(files: &[(&str, &[u8])]) -> Result<Self> {
        Self::of_layers(&[files])
    }

    /// An image of one gzip layer for each list of files.
    ///
    /// # Errors
    /// When a path cannot be in a layer.
    pub fn of_layers(layers: &[&[(&str, &[u8])]]) -> Result<Self> {
        let mut config = ImageConfig::for_platform(&Platform::host());
        let mut stored = Vec::new();
        for files in layers {
            let mut tar = LayerWriter::new(Vec::new());
            for (path, data) in *files {
                let kind = EntryKind::File {
                    size: data.len() as u64,
                };
                tar.append(&Entry::new(*path, kind, 0o644), &mut &**data)?;
            }
            let tar = tar.finish()?;
            config.rootfs.diff_ids.push(DiffId::new(Digest::of(&tar)));
            let mut gzip = Encoder::new(Vec::new(), Compression::Gzip, None, 1)?;
            gzip.write_all(&tar)?;
            let gzip = Bytes::from(gzip.finish()?);
            stored.push((Descriptor::of(media_type::OCI_LAYER_GZIP, &gzip), gzip));
        }
        let config = Bytes::from(config.to_json()?);
        let config = (Descriptor::of(media_type::OCI_CONFIG, &config), config);
        let descriptors = stored
            .iter()
            .map(|(descriptor, _)| descriptor.clone())
            .collect();
        let manifest = ImageManifest::oci(config.0.clone(), descriptors).to_json()?;
        let manifest = Bytes::from(manifest);
        let manifest = (
            Descriptor::of(media_type::OCI_MANIFEST, &manifest),
            manifest,
        );
        Ok(Self {
            layers: stored,
            config,
            manifest,
        })
    }

    /// Pushes the image: layers, config, manifest.
    ///
    /// # Errors
    /// When the registry fails.
    pub async fn push(&self, client: &Client, reference: &Reference) -> Result<()> {
        for (descriptor, bytes) in self.layers.iter().chain([&self.config]) {
            client
                .push_blob(reference, descriptor, bytes, &[], &|_| {})
                .await?;
        }
        client
            .push_manifest(reference, &self.manifest.1, &self.manifest.0.media_type)
            .await?;
        Ok(())
    }
}
