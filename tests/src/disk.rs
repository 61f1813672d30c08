//! A disk with little room.

use std::path::PathBuf;

use crate::lab::Lab;
use crate::tools::tool;

/// A file system in memory of 64 MB, the folder `small` of a lab.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it, until this is dropped.
    #[must_use]
    pub fn new(lab: &Lab) -> Self {
        let at = lab.path("small");
        std::fs::create_dir(&at).unwrap();
        let path = at.to_str().unwrap();
        tool("mount", ["-t", "tmpfs", "-o", "size=64m", "small", path]);
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        for _ in 0..200 {
            let mut umount = std::process::Command::new("umount");
            if umount.arg(&self.0).output().unwrap().status.success() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .output();
    }
}
