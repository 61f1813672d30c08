//! What becomes of a result: an image in the store, an archive, a directory.

mod archive;
mod assemble;
mod files;
mod push;
mod squash;

use kiln_cache::Store;
use kiln_remote::RemoteCaches;

use crate::images::Images;
use crate::layers::LayerFetcher;

pub use crate::compare::Repeated;
pub use archive::{ArchiveForm, ArchiveTarget, ExportImage};
pub use assemble::{Assembled, Assembly};
pub use kiln_cache::LayerForm;
pub use kiln_registry::Pushed;
pub use push::PushWatch;

/// Makes images of what was built, and writes and pushes images.
#[derive(Clone, Debug)]
pub struct Exporter {
    layers: LayerFetcher,
    images: Images,
    caches: Option<RemoteCaches>,
}

impl Exporter {
    pub(crate) fn new(layers: LayerFetcher, images: Images, caches: Option<RemoteCaches>) -> Self {
        Self {
            layers,
            images,
            caches,
        }
    }

    fn store(&self) -> &Store {
        self.layers.store()
    }
}

#[cfg(test)]
mod tests;
