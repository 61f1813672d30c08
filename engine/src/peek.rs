//! What completions offer: read at once, from a store that is not opened and not made.

use std::path::Path;

use kiln_cache::Store;
use kiln_image::Reference;

use crate::error::Result;

/// The names of images in the store at `root`.
///
/// # Errors
/// There is no store, or it cannot be read at once.
pub fn image_names(root: &Path) -> Result<Vec<Reference>> {
    Ok(Store::image_names(root)?)
}

/// The ids of cache mounts in the store at `root`.
///
/// # Errors
/// There is no store, or it cannot be read at once.
pub fn cache_mount_ids(root: &Path) -> Result<Vec<String>> {
    Ok(Store::mount_ids(root)?)
}
