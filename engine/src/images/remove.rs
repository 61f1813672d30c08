//! Removes images. Layers stay in the cache.

use kiln_cache::ImageRow;
use kiln_image::{Digest, Reference};

use super::Images;
use super::filter::ImageFilter;
use crate::engine::Purpose;
use crate::error::{Error, Hint, Result};

/// What became of an image.
#[derive(Clone, Debug, Default)]
pub struct RemovedImage {
    /// Names that it had.
    pub untagged: Vec<Reference>,
    /// Its id, if it is gone.
    pub deleted: Option<Digest>,
}

/// Images that were removed together.
#[derive(Clone, Debug, Default)]
pub struct PrunedImages {
    /// Names that they had.
    pub untagged: Vec<Reference>,
    /// Their ids.
    pub deleted: Vec<Digest>,
    /// Bytes that are gone.
    pub bytes: u64,
    /// Bytes of layers that they held, which stay in the cache and can be removed now.
    pub released: u64,
}

impl Images<'_> {
    /// Removes a name of an image, and the image with its last name; by its id, an image with its only name.
    /// `force` removes an image with all its names.
    ///
    /// # Errors
    /// There is no such image, it has several names, or something uses it.
    pub fn remove(&self, text: &str, force: bool) -> Result<RemovedImage> {
        let store = self.engine.session_for(Purpose::Remove)?;
        let image = store.find_image(text)?;
        let id = &image.row.config;
        let names = store.names_of(id)?;
        let reference = image.asked.as_ref();
        let by_name = reference.filter(|r| names.contains(r));
        if let Some(name) = by_name {
            let last = store.remove_name(name, id)?;
            return Ok(RemovedImage {
                untagged: vec![name.clone()],
                deleted: last.then(|| id.clone()),
            });
        }
        if reference.is_some_and(|r| r.digest().is_some()) {
            let text =
                format!("`{text}` is not a name of the image that was pulled with this digest");
            return Err(Error::failed(text)
                .with_hint(Hint::Names(names.iter().map(ToString::to_string).collect())));
        }
        if names.len() > 1 && !force {
            let text = format!("`{text}` has {} names", names.len());
            return Err(Error::failed(text).with_hint(Hint::ManyNames));
        }
        store.remove_image(id)?;
        Ok(RemovedImage {
            untagged: names,
            deleted: Some(id.clone()),
        })
    }

    /// Removes the images that all filters fit and nothing uses: of those without a name, or of `all`.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn prune(&self, all: bool, filters: &[ImageFilter]) -> Result<PrunedImages> {
        let chosen = self.choose(all, filters)?;
        let store = self.engine.session_for(Purpose::Remove)?;
        let before = store.maintenance().removable()?;
        let removed = store.remove_unused_images(&chosen)?;
        let names = removed.rows.into_iter().filter_map(|row| row.name);
        Ok(PrunedImages {
            untagged: names.collect(),
            deleted: removed.ids.into_iter().collect(),
            bytes: removed.bytes,
            released: store.maintenance().removable()?.saturating_sub(before),
        })
    }

    /// The images that are meant. The session that is asked is over again: what it has read counts as used.
    fn choose(&self, all: bool, filters: &[ImageFilter]) -> Result<Vec<ImageRow>> {
        let store = self.engine.session_for(Purpose::Remove)?;
        let mut chosen = Vec::new();
        let rows = store.images()?;
        let configs = store.configs_of(&rows)?;
        for row in rows {
            if !all && row.name.is_some() {
                continue;
            }
            // A row whose config is gone is not an image any more.
            let Some(config) = configs.get(&row.config) else {
                continue;
            };
            if filters.iter().all(|f| f.fits(&row, config)) {
                chosen.push(row);
            }
        }
        Ok(chosen)
    }
}
