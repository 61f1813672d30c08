//! Cgroups: version 2, version 1 and both at once.
//!
//! A group that kiln makes for a step or a container exists in every hierarchy that it needs
//! under the same name, below the group that kiln itself was started in.

mod limits;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Result};

pub use limits::{CgroupLimits, Limited};

/// Where the hierarchies are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// The version 2 hierarchy, joined with this process's own group.
    pub unified: Option<PathBuf>,
    /// Version 1 controllers and their own-group directories.
    pub controllers: Vec<(String, PathBuf)>,
    /// Where the version 2 hierarchy begins, as far as it is in view.
    unified_root: Option<PathBuf>,
    /// Where those of version 1 begin.
    roots: Vec<(String, PathBuf)>,
}

impl Hierarchies {
    /// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
    pub fn detect() -> Result<Self> {
        let mounts = read("/proc/self/mountinfo")?;
        let groups = read("/proc/self/cgroup")?;
        Ok(Self::from_proc(&mounts, &groups))
    }

    fn from_proc(mounts: &str, groups: &str) -> Self {
        let mut found = Self::default();
        let own = |name: &str| {
            groups.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':');
                let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
                let is = if name.is_empty() {
                    names.is_empty()
                } else {
                    names.split(',').any(|n| n == name)
                };
                is.then(|| path.trim_start_matches('/').to_owned())
            })
        };
        for line in mounts.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let Some(at) = left.split(' ').nth(4) else {
                continue;
            };
            let mut right = right.split(' ');
            match right.next() {
                // The first mount of a hierarchy counts: others are views for other roots.
                Some("cgroup2") if found.unified.is_none() => {
                    found.unified = own("").map(|path| Path::new(at).join(path));
                    found.unified_root = Some(at.into());
                }
                Some("cgroup") => {
                    let options = right.nth(1).unwrap_or_default();
                    for name in options.split(',') {
                        let known = [
                            "memory", "pids", "cpu", "cpuset", "blkio", "freezer", "devices",
                        ];
                        if known.contains(&name)
                            && found.controllers.iter().all(|(of, _)| of != name)
                            && let Some(path) = own(name)
                        {
                            let roots = &mut found.roots;
                            roots.push((name.to_owned(), at.into()));
                            found
                                .controllers
                                .push((name.to_owned(), Path::new(at).join(path)));
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).ctx("read", path)
}

/// A cgroup of its own in the version 2 hierarchy; removed when dropped.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    /// Groups above it that were made for it, the lowest first: they go with it when they are empty.
    above: Vec<PathBuf>,
}

impl Group {
    /// Makes the group `name` below `parent`.
    pub fn create(parent: &Path, name: &str) -> Result<Self> {
        let path = parent.join(name);
        let made = match std::fs::create_dir(&path) {
            // Left by a process of the same number that was killed, and empty by now.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let _ = std::fs::remove_dir(&path);
                std::fs::create_dir(&path)
            }
            made => made,
        };
        made.ctx("make cgroup", &path)?;
        Ok(Self {
            path,
            above: Vec::new(),
        })
    }

    /// A descriptor to be born into (`CLONE_INTO_CGROUP`).
    pub fn open(&self) -> Result<OwnedFd> {
        crate::mount::open_trusted(&self.path)
    }

    /// Kills everything in the group at once, where the kernel can (5.14).
    pub fn kill(&self) {
        // An old kernel has no such file; the pid namespace's end kills the processes there.
        let _ = std::fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// Removes the group if nothing is in it any more; returns whether it is gone.
    pub fn try_remove(&self) -> bool {
        let is_gone = match std::fs::remove_dir(&self.path) {
            Err(e) => e.raw_os_error() != Some(libc::EBUSY),
            Ok(()) => true,
        };
        if is_gone {
            // What somebody else uses by now stays.
            let mut above = self.above.iter();
            while above
                .next()
                .is_some_and(|dir| std::fs::remove_dir(dir).is_ok())
            {}
        }
        is_gone
    }

    /// The group's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Processes may take a moment to leave.
        for _ in 0..50 {
            if self.try_remove() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_hierarchies_of_a_hybrid_and_a_pure_system() {
        let hybrid = "30 23 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 23 0:27 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup rw\n";
        let found = Hierarchies::from_proc(hybrid, "4:memory:/user/a\n0::/\n");
        assert_eq!(
            found.unified.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified/"))
        );
        assert_eq!(
            found.controllers,
            [("memory".into(), "/sys/fs/cgroup/memory/user/a".into())]
        );
        let pure = "31 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let found = Hierarchies::from_proc(pure, "0::/user.slice/x.scope\n");
        assert_eq!(
            found.unified,
            Some("/sys/fs/cgroup/user.slice/x.scope".into())
        );
        assert!(found.controllers.is_empty());
    }
}
