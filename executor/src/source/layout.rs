//! OCI layouts as base images.

use kiln_image::Platform;
use kiln_solver::ports::ResolvedImage;

use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    pub(super) async fn resolve_layout(&self, layout: &str, _: &Platform) -> Result<ResolvedImage> {
        Err(Error::Other(format!("cannot read {layout}")))
    }
}
