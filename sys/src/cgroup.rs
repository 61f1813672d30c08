//! Cgroups: version 2, version 1 and both at once.
//!
//! A group that kiln makes for a step or a container exists in every hierarchy that it needs
//! under the same name: below the group that kiln itself was started in, beside it where version 2
//! asks for that ([`Hierarchies::unified_group`]), or below the parent that was given.

mod limits;
mod list;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Result};

pub use limits::{CgroupLimits, Limited};
pub use list::{FOLDER, GroupList, sweep};

/// Where the hierarchies are mounted.
#[derive(Debug, Default)]
pub struct Hierarchies {
    /// Where groups are written down before they are made.
    pub list: Option<GroupList>,
    /// The version 2 hierarchy, joined with this process's own group.
    pub unified: Option<PathBuf>,
    /// Controllers of version 1.
    pub controllers: Vec<Controller>,
    /// Where the version 2 hierarchy begins, as far as it is in view.
    unified_root: Option<PathBuf>,
}

/// A controller of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Such as `memory`.
    pub name: String,
    /// Where its hierarchy begins, as far as it is in view.
    root: PathBuf,
    /// The group of this process.
    own: PathBuf,
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
                            && found.controllers.iter().all(|of| of.name != name)
                            && let Some(path) = own(name)
                        {
                            found.controllers.push(Controller {
                                name: name.to_owned(),
                                root: at.into(),
                                own: Path::new(at).join(path),
                            });
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

/// Groups that were made for one below them, the lowest first. Those that are empty go when this is
/// dropped; what somebody else uses by then stays.
#[derive(Debug, Default)]
struct Above(Vec<PathBuf>);

impl Drop for Above {
    fn drop(&mut self) {
        let mut dirs = self.0.iter();
        while dirs
            .next()
            .is_some_and(|dir| std::fs::remove_dir(dir).is_ok())
        {}
    }
}

/// A cgroup of its own in one hierarchy; removed when dropped.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    /// They go after it.
    _above: Above,
}

impl Group {
    /// Makes the group `name` below `parent`, for which those `above` were made.
    fn create(parent: &Path, name: &str, above: Above, list: Option<&GroupList>) -> Result<Self> {
        let path = parent.join(name);
        if let Some(list) = list {
            above.0.iter().rev().for_each(|dir| list.note(dir));
            list.note(&path);
        }
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
            _above: above,
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

    /// Removes the group, with those that were made in it, if nothing is in them any more; returns
    /// whether it is gone.
    pub fn try_remove(&self) -> bool {
        match remove(&self.path) {
            Err(e) => e.raw_os_error() != Some(libc::EBUSY),
            Ok(()) => true,
        }
    }

    /// The group's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Levels of groups in a group that are removed with it.
const MAX_DEPTH: usize = 16;

/// Removes a group and those in it, as far as nothing is in them.
fn remove(group: &Path) -> std::io::Result<()> {
    remove_to(group, MAX_DEPTH)
}

fn remove_to(group: &Path, depth: usize) -> std::io::Result<()> {
    let done = std::fs::remove_dir(group);
    let has_more = done.as_ref().is_err_and(|e| {
        // The first is what cgroupfs says of groups in it as well as of processes.
        matches!(e.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY))
    });
    if !has_more || depth == 0 {
        return done;
    }
    let mut any = false;
    for entry in std::fs::read_dir(group)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            any |= remove_to(&entry.path(), depth - 1).is_ok();
        }
    }
    if any {
        std::fs::remove_dir(group)
    } else {
        done
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
            [Controller {
                name: "memory".into(),
                root: "/sys/fs/cgroup/memory".into(),
                own: "/sys/fs/cgroup/memory/user/a".into()
            }]
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
