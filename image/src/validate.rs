//! Checks that the parts of an image belong together.

use std::io::{self, Read};

use crate::compression::decoder;
use crate::config::{ConfigError, ImageConfig};
use crate::descriptor::{Descriptor, media_type};
use crate::digest::{DiffId, Digest, Sha256Writer};
use crate::manifest::ImageManifest;
use crate::verify::VerifyingReader;

/// What is wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// The config is not the one that the manifest names.
    #[error("config does not have the size and digest of {0}")]
    ConfigBytes(Digest),
    /// The config cannot be read.
    #[error("config of the image is broken")]
    Config(#[from] ConfigError),
    /// Manifest and config disagree.
    #[error("manifest has {layers} layers, but the config has {diff_ids} diff ids")]
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// Diff ids in the config.
        diff_ids: usize,
    },
    /// A layer is no tar, such as those of artifacts and attestations.
    #[error("layer {digest} has the media type `{media_type}`, which is not a layer's")]
    LayerType {
        /// The layer.
        digest: Digest,
        /// What it claims to be.
        media_type: String,
    },
    /// A layer cannot be read, or does not have its size or digest.
    #[error("layer {digest} is broken")]
    Layer {
        /// The layer.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A layer unpacks to something else than the config says.
    #[error("layer {digest} unpacks to {found}, but the config says {expected}")]
    DiffId {
        /// The layer.
        digest: Digest,
        /// What the config says.
        expected: DiffId,
        /// What it is.
        found: DiffId,
    },
    /// A layer unpacks to more than allowed.
    #[error("layer {digest} unpacks to more than {limit} bytes")]
    TooLarge {
        /// The layer.
        digest: Digest,
        /// Bytes allowed.
        limit: u64,
    },
}

/// Checks a config against the manifest that names it, and returns it parsed.
///
/// # Errors
/// When the bytes are not those of the manifest's descriptor, when the numbers of layers differ,
/// or when a layer is of another kind than a tar.
pub fn check_config(manifest: &ImageManifest, raw: &[u8]) -> Result<ImageConfig, ValidateError> {
    if !manifest.config.matches(raw) {
        return Err(ValidateError::ConfigBytes(manifest.config.digest.clone()));
    }
    let config = ImageConfig::parse(raw)?;
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        return Err(ValidateError::LayerCount { layers, diff_ids });
    }
    match manifest
        .layers
        .iter()
        .find(|layer| !media_type::is_layer(&layer.media_type))
    {
        Some(Descriptor {
            digest, media_type, ..
        }) => Err(ValidateError::LayerType {
            digest: digest.clone(),
            media_type: media_type.clone(),
        }),
        None => Ok(config),
    }
}

/// Reads a whole layer and checks size and digest as stored, and the digest unpacked. Returns the
/// unpacked size; more than `limit` bytes are refused.
///
/// # Errors
/// When something does not match or cannot be read.
pub fn check_layer(
    descriptor: &Descriptor,
    diff_id: &DiffId,
    data: Box<dyn Read + Send>,
    limit: u64,
) -> Result<u64, ValidateError> {
    let digest = || descriptor.digest.clone();
    let broken = |source| ValidateError::Layer {
        digest: digest(),
        source,
    };
    let stored = VerifyingReader::new(data, descriptor);
    let (_, unpacked) = decoder(Box::new(stored)).map_err(broken)?;
    let mut hasher = Sha256Writer::new(io::sink());
    // One byte more than allowed tells "exactly the limit" from "too much".
    let size =
        io::copy(&mut unpacked.take(limit.saturating_add(1)), &mut hasher).map_err(broken)?;
    if size > limit {
        return Err(ValidateError::TooLarge {
            digest: digest(),
            limit,
        });
    }
    let found = DiffId::new(hasher.finish().1);
    if found == *diff_id {
        return Ok(size);
    }
    Err(ValidateError::DiffId {
        digest: digest(),
        expected: diff_id.clone(),
        found,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::compression::{Compression, Encoder};

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), Compression::Gzip, None, 1).unwrap();
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn configs_must_fit_their_manifest() {
        let config = |count: usize| {
            let mut config = ImageConfig::default();
            config.rootfs.diff_ids = vec![DiffId::new(Digest::of(b"x")); count];
            config.to_json().unwrap()
        };
        let layer = |kind: &str| Descriptor::of(kind, b"x");
        let tar = media_type::OCI_LAYER;
        for (layers, bytes, announced, fits) in [
            (vec![layer(tar)], config(1), config(1), true),
            (vec![], config(0), config(0), true),
            (vec![layer(tar)], config(2), config(2), false),
            (vec![layer(tar)], config(1), config(0), false),
            (
                vec![layer(media_type::IN_TOTO)],
                config(1),
                config(1),
                false,
            ),
            (vec![], b"{".to_vec(), b"{".to_vec(), false),
        ] {
            let announced = Descriptor::of(media_type::OCI_CONFIG, &announced);
            let manifest = ImageManifest::oci(announced, layers);
            assert_eq!(
                check_config(&manifest, &bytes).is_ok(),
                fits,
                "{manifest:?}"
            );
        }
    }

    #[test]
    fn layers_must_be_what_they_are_said_to_be() {
        let data = b"some layer".repeat(100);
        let stored = gzip(&data);
        let good = Descriptor::of(media_type::OCI_LAYER_GZIP, &stored);
        let other = Descriptor::of(media_type::OCI_LAYER_GZIP, b"other");
        let diff_id = DiffId::new(Digest::of(&data));
        let check = |descriptor: &Descriptor, diff_id: &DiffId, limit| {
            check_layer(
                descriptor,
                diff_id,
                Box::new(io::Cursor::new(stored.clone())),
                limit,
            )
        };
        assert_eq!(check(&good, &diff_id, 1000).unwrap(), 1000);
        assert!(matches!(
            check(&good, &diff_id, 999),
            Err(ValidateError::TooLarge { .. })
        ));
        assert!(matches!(
            check(&other, &diff_id, 1000),
            Err(ValidateError::Layer { .. })
        ));
        let wrong = DiffId::new(Digest::of(b"wrong"));
        assert!(matches!(
            check(&good, &wrong, 1000),
            Err(ValidateError::DiffId { .. })
        ));
    }
}
