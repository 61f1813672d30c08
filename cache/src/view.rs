//! A stack of layers seen as one tree, without a mount that anybody else could see.

use std::path::{Path, PathBuf};

use kiln_sys::RootDir;
use kiln_sys::mount::{Attrs, Detached};
use kiln_sys::overlay::{Overlay, overlay};

use crate::error::Result;
use crate::image_xattr::is_opaque;
use crate::layers::LayerId;
use crate::store::Store;

/// The most directories that the kernel's overlay takes below.
const MAX_LOWERS: usize = 500;

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
    /// topmost first, never empty. What a layer hides as a whole is left out.
    ///
    /// # Errors
    /// The empty directory cannot be made, or a layer is not there.
    pub fn lower_dirs(&self, layers: &[LayerId]) -> Result<Vec<PathBuf>> {
        if layers.is_empty() {
            return Ok(vec![self.empty_dir()?]);
        }
        // An overlay takes each directory once. A layer that comes again further up hides all
        // that it brought in below.
        let mut seen = std::collections::HashSet::new();
        let layers: Vec<&LayerId> = layers.iter().rev().filter(|id| seen.insert(*id)).collect();
        let mut room = MAX_LOWERS.saturating_sub(layers.len());
        let mut dirs = Vec::with_capacity(layers.len());
        for id in layers {
            let dir = self.layer_dir(id);
            dirs.push(dir.clone());
            let under = self.under_dir(id);
            if room > 0 && under.is_dir() {
                room -= 1;
                dirs.push(under);
            }
            // Where two roots meet, an overlay looks for no such mark.
            if is_opaque(&RootDir::open_trusted(&dir)?)? {
                break;
            }
        }
        Ok(dirs)
    }

    /// The directories of the root of a sandbox: those of a stack and, below all, one with the files
    /// of names that every sandbox mounts. An image without them needs none made in the layer then.
    /// (/dev, /proc and /sys are made there and stay, as BuildKit has it.)
    ///
    /// # Errors
    /// The directory of mount points cannot be made.
    pub fn root_dirs(&self, layers: &[LayerId]) -> Result<Vec<PathBuf>> {
        let mut dirs = match layers {
            [] => Vec::new(),
            layers => self.lower_dirs(layers)?,
        };
        // The deepest stacks have no room for one more; there, mount points are made in the layer.
        if dirs.len() < MAX_LOWERS {
            dirs.push(self.mount_points()?);
        }
        Ok(dirs)
    }

    fn mount_points(&self) -> Result<PathBuf> {
        let dir = self.path("layers-v1/mountpoints");
        if dir.is_dir() {
            return Ok(dir);
        }
        let scratch = self.scratch()?;
        let new = RootDir::open_trusted(scratch.path())?;
        new.mkdir(Path::new("new"), 0o755)?;
        new.mkdir(Path::new("new/etc"), 0o755)?;
        for file in ["hosts", "resolv.conf"] {
            drop(new.create_new(&Path::new("new/etc").join(file), 0o644)?);
        }
        match std::fs::rename(scratch.path().join("new"), &dir) {
            // Another process was faster.
            Err(_) if dir.is_dir() => Ok(dir),
            Err(e) => Err(crate::Error::io("make mount points", e)),
            Ok(()) => Ok(dir),
        }
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
