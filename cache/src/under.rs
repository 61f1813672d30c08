//! What lies directly below a layer that removes things.
//!
//! An overlay hides the marks of removed files only where directories of two layers meet. In a
//! directory that no layer below has, the mark itself would be listed, and whoever looks at it would
//! find nothing there. So below each such layer comes one with its directories that hold marks, empty.

use std::path::{Path, PathBuf};

use kiln_sys::{FileKind, RootDir};

use crate::error::{Error, Result};
use crate::layers::LayerId;
use crate::store::Store;

/// The name of that directory in the layer's home.
pub(crate) const UNDER: &str = "under";

impl Store {
    /// Makes what a layer that removes things needs below it. Before the layer is recorded.
    ///
    /// # Errors
    /// The layer cannot be read, or the directory cannot be made.
    pub fn support_removals(&self, id: &LayerId) -> Result<()> {
        let scratch = self.scratch()?;
        let new = scratch.path().join(UNDER);
        if !copy_marked(&RootDir::open_trusted(&self.layer_dir(id))?, &new)? {
            return Ok(());
        }
        std::fs::rename(&new, self.under_dir(id)).map_err(|e| Error::io("make layer", e))
    }

    /// Where that is, if the layer needs it.
    pub(crate) fn under_dir(&self, id: &LayerId) -> PathBuf {
        self.layer_dir(id).with_file_name(UNDER)
    }
}

/// Makes at `new` those directories of a layer that hold marks; says whether there are any.
fn copy_marked(layer: &RootDir, new: &Path) -> Result<bool> {
    let mut found = None;
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let mut is_marked = false;
        let dir = layer.sub_dir(&path)?;
        for entry in dir.read_dir(Path::new(""))? {
            let name = Path::new(&entry.name);
            let kind = match entry.kind {
                Some(FileKind::CharDevice) | None => {
                    let st = dir.lstat(name)?;
                    is_marked |= st.is_overlay_whiteout();
                    st.kind
                }
                Some(kind) => kind,
            };
            if kind == FileKind::Directory {
                left.push(path.join(name));
            }
        }
        if !is_marked {
            continue;
        }
        let root = match &found {
            Some(root) => root,
            None => {
                std::fs::create_dir(new).map_err(|e| Error::io("make layer", e))?;
                found.insert(RootDir::open_trusted(new)?)
            }
        };
        root.mkdir_all(&path, 0o755, &mut |_, _| Ok(()))?;
    }
    Ok(found.is_some())
}
