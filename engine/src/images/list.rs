//! Lists of images.

use std::collections::HashMap;
use std::time::SystemTime;

use kiln_cache::Store;
use kiln_image::{Digest, ImageConfig, Reference};

use super::Images;
use super::filter::{ImageFilter, created};
use crate::error::Result;

/// One name of an image of the store, or an image without a name.
#[derive(Clone, Debug)]
pub struct ImageSummary {
    /// Digest of its config.
    pub id: Digest,
    /// Its name.
    pub name: Option<Reference>,
    /// Digest of the manifest that it was pulled by.
    pub manifest: Option<Digest>,
    /// When it was made.
    pub created: SystemTime,
    /// Bytes of its files, as far as its layers are here.
    pub bytes: u64,
}

/// The bytes of an image's files, as far as its layers are here.
pub(super) fn image_bytes(store: &Store, config: &ImageConfig) -> Result<u64> {
    let mut sum = 0;
    for diff_id in &config.rootfs.diff_ids {
        sum += store.layer_by_diff(diff_id)?.map_or(0, |l| l.bytes);
    }
    Ok(sum)
}

impl Images<'_> {
    /// The images that all filters fit, the youngest first, those of one moment by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self, filters: &[ImageFilter]) -> Result<Vec<ImageSummary>> {
        let store = self.engine.session()?;
        let mut found = Vec::new();
        let rows = store.images()?;
        // An image may have thousands of names: what is the same for all of them is looked up once.
        let configs = store.configs_of(&rows)?;
        let mut sizes: HashMap<&Digest, u64> = HashMap::new();
        for row in &rows {
            // A row whose config is gone is not an image any more.
            let Some(config) = configs.get(&row.config) else {
                continue;
            };
            if !filters.iter().all(|f| f.fits(row, config)) {
                continue;
            }
            let bytes = match sizes.get(&row.config) {
                Some(bytes) => *bytes,
                None => image_bytes(&store, config)?,
            };
            sizes.insert(&row.config, bytes);
            found.push(ImageSummary {
                id: row.config.clone(),
                name: row.name.clone(),
                manifest: row.manifest.clone(),
                created: created(config, row),
                bytes,
            });
        }
        let name = |image: &ImageSummary| {
            let name = image.name.as_ref();
            let tag = name.and_then(Reference::tag).map(str::to_owned);
            (name.map(Reference::familiar_name), tag)
        };
        found.sort_by(|a, b| {
            let by_time = b.created.cmp(&a.created);
            by_time.then_with(|| name(a).cmp(&name(b)))
        });
        Ok(found)
    }
}
