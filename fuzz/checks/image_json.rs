//! Any bytes as a manifest, an index or a config.

use kiln_image::{Digest, ImageConfig, Manifest};

/// Checks what holds for any bytes: digests are those of the bytes, and what was read can be
/// written and read again.
pub(crate) fn check(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data, None) {
        assert_eq!(manifest.raw(), data);
        assert_eq!(*manifest.digest(), Digest::of(data));
        let written = match &manifest {
            Manifest::Image(image) => image.value.to_json(),
            Manifest::Index(index) => index.value.to_json(),
        };
        match written {
            Ok(json) => assert!(Manifest::parse(&json, Some(manifest.media_type())).is_ok()),
            Err(error) => panic!("{error}"),
        }
    }
    if let Ok(config) = ImageConfig::parse(data) {
        let _ = (config.platform().normalised(), config.chain_id());
        match config.to_json().map(|json| ImageConfig::parse(&json)) {
            Ok(Ok(again)) => assert_eq!(again, config),
            other => panic!("{other:?}"),
        }
    }
}
