//! Which groups a process has made, for those that come after it if it is killed.
//!
//! Each process writes down its groups in a file of its own, which it has locked as long as it lives, in
//! whatever namespaces. The folder is one that a new start of the machine finds empty, as it does the
//! hierarchies.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::remove;
use crate::error::{Context as _, FsError, Result};
use crate::lock::{RangeLock, try_lock};

/// The usual folder.
pub const FOLDER: &str = "/run/kiln/cgroups";

/// The byte of a list that its owner has locked.
const OWNER: u64 = 0;

/// How the names of lists begin that are not locked yet.
const BEGUN: &str = ".";

/// Bytes of a list that are read at most: what there is beyond them, nobody made.
const MAX_BYTES: u64 = 4 << 20;

/// The groups of this process.
#[derive(Debug)]
pub struct GroupList {
    path: PathBuf,
    file: File,
    _lock: RangeLock,
}

impl GroupList {
    /// Begins a list in this folder, which is made where it is missing.
    ///
    /// # Errors
    /// It cannot be written there.
    pub fn begin(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).ctx("make folder", folder)?;
        let mut random = [0; 8];
        crate::system::random(&mut random)?;
        let path = folder.join(format!("{:016x}", u64::from_le_bytes(random)));
        // Under a name that nobody sweeps until it is locked.
        let begun = folder.join(format!("{BEGUN}{:016x}", u64::from_le_bytes(random)));
        let file = File::options()
            .append(true)
            .create_new(true)
            .open(&begun)
            .ctx("make", &begun)?;
        let Some(lock) = try_lock(&begun, OWNER, false)? else {
            let error = std::io::Error::from(std::io::ErrorKind::WouldBlock);
            return Err(FsError::new("lock", &begun, error));
        };
        std::fs::rename(&begun, &path).ctx("name", &path)?;
        Ok(Self {
            path,
            file,
            _lock: lock,
        })
    }

    /// Writes a group down that will be made.
    pub(super) fn note(&self, group: &Path) {
        let mut line = group.as_os_str().as_bytes().to_vec();
        line.push(0);
        // What is not written down is only not swept after a kill.
        let _ = (&self.file).write_all(&line);
    }
}

impl Drop for GroupList {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes the groups of processes that were killed. What is in use by then stays, and its list as well.
pub fn sweep(folder: &Path) {
    let Ok(lists) = std::fs::read_dir(folder) else {
        return;
    };
    let is_begun = |name: &std::ffi::OsStr| name.as_bytes().starts_with(BEGUN.as_bytes());
    for list in lists.flatten().filter(|list| !is_begun(&list.file_name())) {
        // Errors leave a list to the next one who sweeps.
        if let Ok(Some(_lock)) = try_lock(&list.path(), OWNER, false) {
            let _ = sweep_list(&list.path());
        }
    }
}

fn sweep_list(list: &Path) -> std::io::Result<()> {
    use std::io::Read as _;
    let mut groups = Vec::new();
    File::open(list)?.take(MAX_BYTES).read_to_end(&mut groups)?;
    let mut is_clean = true;
    let names: Vec<&[u8]> = groups.split(|byte| *byte == 0).collect();
    // Those above others were written down before them.
    for name in names.iter().rev().filter(|name| !name.is_empty()) {
        let group = Path::new(std::ffi::OsStr::from_bytes(name));
        is_clean &= match remove(group) {
            Ok(()) => true,
            Err(e) => e.raw_os_error() != Some(libc::EBUSY),
        };
    }
    if is_clean {
        std::fs::remove_file(list)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_the_dead_are_swept_and_those_of_the_living_stay() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("lists");
        let group = |name: &str| dir.path().join(name);
        let made = |list: &GroupList, name: &str| {
            list.note(&group(name));
            std::fs::create_dir(group(name)).unwrap();
        };
        let alive = GroupList::begin(&folder).unwrap();
        made(&alive, "a");
        let dead = GroupList::begin(&folder).unwrap();
        made(&dead, "above");
        made(&dead, "above/b");
        std::fs::create_dir(group("above/b/of-a-container")).unwrap();
        dead.note(&group("never made"));
        // As if it were killed: the lock goes, and the list stays.
        let kept = dir.path().join("kept");
        std::fs::hard_link(&dead.path, &kept).unwrap();
        let path = dead.path.clone();
        drop(dead);
        std::fs::rename(kept, path).unwrap();
        sweep(&folder);
        assert!(group("a").exists() && !group("above").exists());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        drop(alive);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}
