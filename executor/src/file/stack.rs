//! `COPY --link`: whether a layer that was made on nothing gives on top of another tree what
//! making it there would give.

use std::path::Path;

use kiln_sys::{FileKind, RootDir};

use crate::error::{Result, blocking};
use crate::output::Output;

use super::FileChanger;

impl FileChanger {
    /// `upper` on `lower`, if nothing of `upper` would look different had it been made there.
    pub(crate) async fn stack(&self, lower: &Output, upper: &Output) -> Result<Option<Output>> {
        let (below, above) = (lower.layers()?, upper.layers()?);
        let (lower, upper) = (
            self.layers.materialise(below).await?,
            self.layers.materialise(above).await?,
        );
        let store = self.layers.store().clone();
        let fits = blocking(move || {
            let (lower, upper) = (store.view(&lower)?, store.view(&upper)?);
            fits(lower.root(), upper.root(), Path::new(""))
        });
        let fits = fits.await?;
        Ok(fits.then(|| Output::Layers([below, above].concat())))
    }
}

/// A copy goes into directories that are there, and leaves the attributes of those on its way alone. It never
/// goes through a link: with `--link` what is below cannot be read, so a path of the destination is one of
/// directories only, which take the place of links.
fn fits(lower: &RootDir, upper: &RootDir, at: &Path) -> Result<bool> {
    for entry in upper.read_dir(at)? {
        let path = at.join(&entry.name);
        let Some(below) = lower.try_lstat(&path)? else {
            continue;
        };
        let above = upper.lstat(&path)?;
        let same = match (above.is_dir(), below.is_dir()) {
            (true, true) => {
                let attributes = |st: &kiln_sys::Stat| (st.mode, st.uid, st.gid);
                attributes(&above) == attributes(&below) && fits(lower, upper, &path)?
            }
            (false, false) => true,
            (true, false) => below.kind == FileKind::Symlink,
            (false, true) => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}
