//! Id-mapped mounts: files of one owner are shown as those of another.

use std::os::fd::{AsRawFd as _, OwnedFd};

use crate::error::{Context as _, Result};
use crate::mount::Detached;
use crate::process::{self, Namespaces};

/// `MOUNT_ATTR_IDMAP` of `mount_setattr(2)`.
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
/// How many ids there are; the last number means "none".
const ALL: u32 = u32::MAX;

/// A mapping in which root and another owner change places.
#[derive(Debug)]
pub struct IdMap {
    namespace: OwnedFd,
}

/// The lines of a map in which 0 and `id` change places.
fn swapped(id: u32) -> String {
    if id == 0 {
        return format!("0 0 {ALL}\n");
    }
    let mut lines = format!("0 {id} 1\n{id} 0 1\n");
    for (from, to) in [(1, id), (id.saturating_add(1), ALL)] {
        if from < to {
            lines.push_str(&format!("{from} {from} {}\n", to - from));
        }
    }
    lines
}

impl IdMap {
    /// Shows files of this user and group as root's, and root's as theirs. The caller has one
    /// thread: the map is that of a child, which is gone when this returns.
    ///
    /// # Errors
    /// No user namespaces, or no privileges.
    pub fn swapping_root_with(uid: u32, gid: u32) -> Result<Self> {
        let kind = Namespaces {
            user: true,
            ..Namespaces::default()
        };
        let child = process::clone_into(kind, None, || {
            loop {
                rustix::event::pause();
            }
        })?;
        let proc = std::path::PathBuf::from(format!("/proc/{}", child.pid));
        let write = |name: &str, id: u32| {
            let path = proc.join(name);
            std::fs::write(&path, swapped(id)).ctx("write", &path)
        };
        let made = write("uid_map", uid)
            .and_then(|()| write("gid_map", gid))
            .and_then(|()| {
                let path = proc.join("ns/user");
                let file = std::fs::File::open(&path).ctx("open", &path)?;
                Ok(Self {
                    namespace: file.into(),
                })
            });
        // It does nothing but wait for this.
        process::signal(&child.pidfd, 9)?;
        process::wait(&child)?;
        made
    }
}

impl Detached {
    /// Shows owners through `map`. Only for a mount that was never attached.
    ///
    /// # Errors
    /// The file system cannot do that, or there are no privileges for it.
    pub fn set_id_map(&self, map: &IdMap) -> Result<()> {
        let attr = libc::mount_attr {
            attr_set: MOUNT_ATTR_IDMAP,
            attr_clr: 0,
            propagation: 0,
            userns_fd: u64::from(map.namespace.as_raw_fd().cast_unsigned()),
        };
        self.set_attr(&attr, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_cover_every_id_once() {
        for id in [0, 1, 2, 1000, u32::MAX - 2, u32::MAX - 1] {
            let (mut inside, mut outside) = (Vec::new(), Vec::new());
            for line in swapped(id).lines() {
                let n: Vec<u32> = line.split(' ').map(|n| n.parse().unwrap()).collect();
                inside.push((n[0], n[2]));
                outside.push((n[1], n[2]));
            }
            for mut ranges in [inside, outside] {
                ranges.sort_unstable();
                let mut next = 0;
                for (from, count) in ranges {
                    assert_eq!(from, next, "{id}");
                    next = from + count;
                }
                assert_eq!(next, ALL, "{id}");
            }
        }
    }
}
