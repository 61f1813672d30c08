//! Images of the store, and those that come in and go out.

mod archive;
mod details;
mod filter;
mod import;
mod list;
mod pull;
mod remove;

use kiln_image::Reference;

use crate::engine::Engine;
use crate::error::Result;

pub use archive::LoadSource;
pub use details::{ImageDetails, ImageHistory, ImageHistoryLine};
pub use filter::ImageFilter;
pub use import::{CHANGE_INSTRUCTIONS, ImportRequest, ImportSource};
pub use list::ImageSummary;
pub(crate) use pull::find_or_pull;
pub use pull::{PullPolicy, image_name};
pub use remove::{PrunedImages, RemovedImage};

/// Images of the store, and those that come in and go out.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    engine: &'a Engine,
}

impl Engine {
    /// Images of the store, and those that come in and go out.
    pub fn images(&self) -> Images<'_> {
        Images { engine: self }
    }
}

impl Images<'_> {
    /// Gives an image another name.
    ///
    /// # Errors
    /// There is no image `source`.
    pub fn tag(&self, source: &str, name: &Reference) -> Result<()> {
        let store = self.engine.session()?;
        let image = store.find_image(source)?;
        let (id, manifest) = (&image.row.config, image.row.manifest.as_ref());
        Ok(store.put_image(Some(name), id, manifest)?)
    }
}
