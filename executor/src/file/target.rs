//! The tree that a file op changes: the layers below, and the directory of the new layer.
//!
//! New files go straight into the new layer's directory. Directories that exist below are made
//! there again with the attributes that they have, as an overlay would copy them up.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_sys::{FileKind, RootDir, Stat, xattr};

use super::select::{Waypoint, follow};
use crate::error::{Error, Result};

/// An owner and group.
pub(crate) type Owner = (u32, u32);

/// Directories that are kept open for the next look: far fewer than a process may open.
const MAX_OPEN: usize = 64;

/// Both trees.
pub(crate) struct Target<'a> {
    upper: RootDir,
    below: &'a RootDir,
    /// Takes what is to be said of owners.
    warn: &'a (dyn Fn(String) + Sync),
    /// Some directories of the upper tree that have been opened, by their real path.
    open: Mutex<HashMap<PathBuf, Arc<RootDir>>>,
}

impl<'a> Target<'a> {
    pub(crate) fn open(
        upper: &Path,
        below: &'a RootDir,
        warn: &'a (dyn Fn(String) + Sync),
    ) -> Result<Self> {
        Ok(Self {
            upper: RootDir::open_trusted(upper)?,
            below,
            warn,
            open: Mutex::default(),
        })
    }

    /// What is at a real path: in the new layer, else below it.
    pub(crate) fn lstat(&self, at: &Path) -> Result<Option<Stat>> {
        // A name in the new layer hides what is below it; a directory there is merged.
        if let Some(st) = self.upper.try_lstat(at)? {
            return Ok((!st.is_overlay_whiteout()).then_some(st));
        }
        if self.hidden_below(at)? {
            return Ok(None);
        }
        Ok(self.below.try_lstat(at)?)
    }

    /// Whether a parent in the new layer is no directory, or one that hides what is below it.
    fn hidden_below(&self, at: &Path) -> Result<bool> {
        let mut parent = at.parent();
        while let Some(dir) = parent.filter(|d| !d.as_os_str().is_empty()) {
            match self.upper.try_lstat(dir)? {
                Some(st) if !st.is_dir() => return Ok(true),
                Some(_) => {
                    let opaque = self.upper.xattr(dir, b"trusted.overlay.opaque")?;
                    return Ok(opaque.as_deref() == Some(b"y"));
                }
                None => parent = dir.parent(),
            }
        }
        Ok(false)
    }

    fn read_link(&self, at: &Path) -> Result<PathBuf> {
        match self.upper.try_lstat(at)? {
            Some(_) => Ok(self.upper.read_link(at)?),
            None => Ok(self.below.read_link(at)?),
        }
    }

    /// The real path of `at`: links followed in all components, also where the rest is missing.
    pub(crate) fn real_path(&self, at: &str) -> Result<String> {
        let (real, _) = follow(at, |here| {
            let here = Path::new(here);
            match self.lstat(here)? {
                None => Ok(Waypoint::Nothing),
                Some(st) if st.kind == FileKind::Symlink => {
                    Ok(Waypoint::Link(self.read_link(here)?))
                }
                Some(_) => Ok(Waypoint::Other),
            }
        })?;
        Ok(real)
    }

    /// The directory at the real path `at` in the new layer. Missing ones are made with `mode`
    /// and `owner`; those that exist below get the attributes that they have there.
    pub(crate) fn directory(&self, at: &Path, mode: u32, owner: Owner) -> Result<Arc<RootDir>> {
        if let Some(dir) = self.known().get(at) {
            return Ok(dir.clone());
        }
        // Only the root has no parent.
        let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
            let dir = Arc::new(self.upper.try_clone()?);
            self.keep_open(at, &dir);
            return Ok(dir);
        };
        let existing = self.lstat(at)?;
        let parent = self.directory(parent, mode, owner)?;
        let name = Path::new(name);
        let in_upper = parent.try_lstat(name)?;
        match (existing, in_upper) {
            (Some(st), _) if !st.is_dir() => {
                return Err(Error::Other(format!(
                    "`/{}` exists and is not a directory",
                    at.display()
                )));
            }
            (Some(_), Some(_)) => {}
            (Some(st), None) => {
                parent.mkdir(name, st.mode)?;
                let dir = parent.sub_dir(name)?;
                dir.chown(Path::new(""), st.uid, st.gid)?;
                dir.chmod(Path::new(""), st.mode)?;
                for (key, value) in self.below.xattrs(at)? {
                    if !key.starts_with(b"trusted.overlay.") {
                        dir.set_xattr(Path::new(""), &key, &value)?;
                    }
                }
            }
            (None, in_upper) => {
                if in_upper.is_some() {
                    // A whiteout: what comes in its place shows nothing of below.
                    parent.unlink(name)?;
                }
                parent.mkdir(name, mode)?;
                let dir = parent.sub_dir(name)?;
                if in_upper.is_some() {
                    xattr::set(&dir, b"trusted.overlay.opaque", b"y")?;
                }
                if owner != (0, 0) {
                    dir.chown(Path::new(""), owner.0, owner.1)?;
                }
                dir.chmod(Path::new(""), mode)?;
            }
        }
        let dir = Arc::new(parent.sub_dir(name)?);
        self.keep_open(at, &dir);
        Ok(dir)
    }

    fn keep_open(&self, at: &Path, dir: &Arc<RootDir>) {
        let mut known = self.known();
        if known.len() >= MAX_OPEN {
            known.clear();
        }
        known.insert(at.to_path_buf(), dir.clone());
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Arc<RootDir>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a directory and those above it, links followed.
    pub(crate) fn make_dirs(&self, at: &str, mode: u32, owner: Owner) -> Result<Arc<RootDir>> {
        let real = self.real_path(at)?;
        self.directory(Path::new(&real), mode, owner)
    }

    /// The owner that `--chown` or a user means in this tree.
    pub(crate) fn owner(&self, spec: Option<&str>) -> Result<Owner> {
        match spec {
            None => Ok((0, 0)),
            // Accounts that this very layer brings in do not count, as in Docker.
            Some(spec) => Ok(kiln_sandbox::user::resolve_owner(
                self.below, spec, self.warn,
            )?),
        }
    }

    /// The new layer.
    pub(crate) fn upper(&self) -> &RootDir {
        &self.upper
    }
}
