//! Clears a step's directory of what kiln itself put there: empty mount points.
//!
//! Every access is below the directory's own descriptor, and a mount point whose parents have
//! become links since is left alone.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use kiln_cache::{LayerId, Store};
use kiln_sys::{FileKind, RootDir};

use crate::error::Result;

/// Removes the empty ones of `stubs`, and directories above them that hold nothing else and are
/// no different from the ones below this layer.
pub(super) fn clean(
    store: &Store,
    below: &[LayerId],
    upper: &Path,
    stubs: &[PathBuf],
) -> Result<()> {
    if stubs.is_empty() {
        return Ok(());
    }
    let root = RootDir::open_trusted(upper)?;
    let view = store.view(below)?;
    let made: HashSet<&Path> = stubs.iter().map(PathBuf::as_path).collect();
    // Deeper ones first: they were made after those that hold them.
    for stub in stubs.iter().rev() {
        let Some(parent) = plain_parent(&root, stub)? else {
            continue;
        };
        let name = Path::new(stub.file_name().unwrap_or_default());
        match parent.try_lstat(name)? {
            Some(st) if st.is_file() && st.size == 0 => parent.unlink(name)?,
            // A directory with something in it stays.
            Some(st) if st.is_dir() => drop(parent.rmdir(name)),
            _ => continue,
        }
        let mut above = stub.as_path();
        while let Some(dir) = above.parent().filter(|d| !d.as_os_str().is_empty()) {
            above = dir;
            // A mount point that was made comes by itself.
            if made.contains(dir) || !remove_if_unchanged(&root, view.root(), dir)? {
                break;
            }
        }
    }
    Ok(())
}

/// The directory that holds `path`, if no link is on the way.
fn plain_parent(root: &RootDir, path: &Path) -> Result<Option<RootDir>> {
    let mut here = root.try_clone()?;
    for part in path.parent().into_iter().flat_map(Path::components) {
        let part = Path::new(part.as_os_str());
        match here.try_lstat(part)? {
            Some(st) if st.is_dir() => here = here.sub_dir(part)?,
            _ => return Ok(None),
        }
    }
    Ok(Some(here))
}

/// Removes an empty directory that is the same as the one below.
fn remove_if_unchanged(root: &RootDir, below: &RootDir, dir: &Path) -> Result<bool> {
    let (Some(own), Some(parent)) = (root.try_lstat(dir)?, plain_parent(root, dir)?) else {
        return Ok(false);
    };
    let Some(old) = below.try_lstat(dir)? else {
        return Ok(false);
    };
    let same = old.kind == FileKind::Directory
        && (own.mode, own.uid, own.gid) == (old.mode, old.uid, old.gid);
    let name = Path::new(dir.file_name().unwrap_or_default());
    Ok(same && parent.rmdir(name).is_ok())
}
