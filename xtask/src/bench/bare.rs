//! What is measured without an engine: a command in a chroot, a walk over files.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::clear;
use super::measure::{settle, timed};
use crate::shell::Run;

/// A root file system to run a bare command in.
pub(super) struct Bare {
    root: PathBuf,
}

impl Bare {
    /// Unpacks `tar` afresh at `root`.
    pub(super) fn prepare(tar: &Path, root: &Path) -> Result<Self> {
        clear(root)?;
        Run::new("tar")
            .args(["--numeric-owner", "-xpf"])
            .arg(tar)
            .arg("-C")
            .arg(root)
            .capture()?;
        std::fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf")).context("resolv.conf")?;
        std::fs::create_dir_all(root.join("dev")).context("dev")?;
        for name in ["null", "zero", "urandom"] {
            let node = root.join("dev").join(name);
            if !node.exists() {
                Run::new("cp")
                    .args(["-a", &format!("/dev/{name}")])
                    .arg(node)
                    .capture()?;
            }
        }
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    /// How long the words of a command take, in seconds.
    pub(super) fn run(&self, words: &[&str]) -> Result<f64> {
        let run = Run::new("chroot").arg(&self.root).args(words);
        settle();
        Ok(timed(&run, false)?.seconds)
    }
}

/// How long one thread takes to list every directory at and below `at` and to call `statx` for each entry,
/// in seconds.
pub(super) fn walk(at: &Path) -> Result<f64> {
    settle();
    let start = Instant::now();
    let mut left = vec![at.to_path_buf()];
    let mut bytes = 0;
    while let Some(directory) = left.pop() {
        let entries = std::fs::read_dir(&directory);
        for entry in entries.with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            let metadata = std::fs::symlink_metadata(&path)?;
            bytes += metadata.len();
            if metadata.is_dir() {
                left.push(path);
            }
        }
    }
    // What nobody uses might never be asked for.
    std::hint::black_box(bytes);
    Ok(start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_takes_some_time_and_names_what_is_not_there() {
        assert!(walk(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap() > 0.0);
        let error = walk(Path::new("/nowhere")).unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
    }
}
