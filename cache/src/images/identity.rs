//! Whether an image is what a digest in its name says.

use kiln_image::search::{MAX_DEPTH, MAX_READ};
use kiln_image::{Digest, Manifest, media_type};

use super::ImageRow;
use crate::error::{Error, Result};
use crate::store::Store;

/// Whether an image is what a digest stands for: its manifest has the digest, or is in the index
/// that has it. Both are in the store since the image was pulled, and their bytes tell.
pub(super) fn is_of_digest(store: &Store, row: &ImageRow, digest: &Digest) -> Result<bool> {
    let Some(own) = &row.manifest else {
        return Ok(false);
    };
    let Some(raw) = manifest_bytes(store, own)? else {
        return Ok(false);
    };
    match Manifest::parse(&raw, None) {
        Ok(Manifest::Image(image)) if image.value.config.digest == row.config => {}
        _ => return Ok(false),
    }
    if digest.matches(&raw) {
        return Ok(true);
    }
    // From the digest down to the manifest.
    let mut level = vec![digest.clone()];
    let mut read = 0;
    for _ in 0..MAX_DEPTH {
        let mut below = Vec::new();
        for index in level {
            read += 1;
            if read > MAX_READ {
                return Ok(false);
            }
            let found = manifest_bytes(store, &index)?;
            let Some(Ok(Manifest::Index(index))) = found.map(|f| Manifest::parse(&f, None)) else {
                continue;
            };
            for entry in index.value.manifests {
                if entry.digest == *own {
                    return Ok(true);
                }
                if media_type::is_index(&entry.media_type) {
                    below.push(entry.digest);
                }
            }
        }
        level = below;
    }
    Ok(false)
}

/// The bytes of a manifest or index that is in the store.
fn manifest_bytes(store: &Store, digest: &Digest) -> Result<Option<Vec<u8>>> {
    match store.read_blob(digest) {
        Ok(raw) => Ok(Some(raw)),
        Err(Error::BlobMissing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
