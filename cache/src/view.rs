//! A stack of layers seen as one tree, without a mount that anybody else could see.

use std::path::{Path, PathBuf};

use kiln_sys::RootDir;
use kiln_sys::mount::{Attrs, Detached};
use kiln_sys::overlay::{Overlay, overlay};

use crate::error::Result;
use crate::layers::LayerId;
use crate::store::Store;

/// A read-only view of a stack of layers. It ends when it is dropped.
#[derive(Debug)]
pub struct View {
    root: RootDir,
    _mount: Option<Detached>,
}

impl View {
    /// The merged tree.
    pub fn root(&self) -> &RootDir {
        &self.root
    }
}

impl Store {
    /// The directories of a stack (bottom layer first), in the order that overlay wants: the
    /// topmost first, never empty.
    ///
    /// # Errors
    /// The empty directory cannot be made.
    pub fn lower_dirs(&self, layers: &[LayerId]) -> Result<Vec<PathBuf>> {
        if layers.is_empty() {
            return Ok(vec![self.empty_dir()?]);
        }
        // An overlay takes each directory once. A layer that comes again further up hides all
        // that it brought in below.
        let mut seen = std::collections::HashSet::new();
        Ok(layers
            .iter()
            .rev()
            .filter(|id| seen.insert(*id))
            .map(|id| self.layer_dir(id))
            .collect())
    }

    /// A view of a stack of layers, bottom layer first.
    ///
    /// # Errors
    /// The overlay cannot be mounted.
    pub fn view(&self, layers: &[LayerId]) -> Result<View> {
        let dirs = self.lower_dirs(layers)?;
        if let [only] = dirs.as_slice() {
            return Ok(View {
                root: RootDir::open_trusted(only)?,
                _mount: None,
            });
        }
        let lowers: Vec<&Path> = dirs.iter().map(PathBuf::as_path).collect();
        let spec = Overlay {
            lowers: &lowers,
            upper: None,
            user_xattr: false,
        };
        let attrs = Attrs {
            read_only: true,
            ..Attrs::SAFE
        };
        let mount = overlay(&spec, attrs)?;
        Ok(View {
            root: mount.root()?,
            _mount: Some(mount),
        })
    }
}
