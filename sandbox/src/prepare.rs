//! The directories that a sandbox is put together in.

use std::path::{Path, PathBuf};

use kiln_sys::RootDir;

use crate::error::Result;
use crate::launch::Rootfs;

/// Directories that sandboxes mount on, each in its own mount namespace.
#[derive(Clone, Debug)]
pub struct MountPoints {
    /// Where the root of a sandbox is put together.
    pub rootfs: PathBuf,
    /// Where mounts are prepared.
    pub staging: PathBuf,
}

impl MountPoints {
    /// Makes them in a directory.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn make_in(dir: &Path) -> Result<Self> {
        let root = RootDir::open_trusted(dir)?;
        for name in ["root", "spot"] {
            root.mkdir(Path::new(name), 0o755)?;
        }
        Ok(Self {
            rootfs: dir.join("root"),
            staging: dir.join("spot"),
        })
    }
}

impl Rootfs {
    /// A root file system on these layers, the topmost first, that can be written to: what is written
    /// goes to `upper` in `scratch`, where the directories of an overlay are made. As with Docker, its
    /// root is root's and open to everybody, whatever an image or the step before says.
    ///
    /// # Errors
    /// The directories cannot be made.
    pub fn writable(scratch: &Path, points: &MountPoints, lowers: Vec<PathBuf>) -> Result<Self> {
        let dir = RootDir::open_trusted(scratch)?;
        for name in ["upper", "work"] {
            dir.mkdir(Path::new(name), 0o755)?;
        }
        Ok(Self {
            lowers,
            upper: Some((scratch.join("upper"), scratch.join("work"))),
            mount_point: points.rootfs.clone(),
            staging: points.staging.clone(),
        })
    }
}
