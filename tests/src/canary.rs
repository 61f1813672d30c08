//! Files of the host that no build may read or change.

use std::cell::RefCell;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::lab::Lab;

/// A directory outside of the store with a secret, a file that anybody may write, a FIFO and a
/// directory of root's.
#[derive(Debug)]
pub struct Canary {
    path: PathBuf,
    secret: String,
    taken: RefCell<Vec<String>>,
}

impl Canary {
    /// Puts it into the lab's directory.
    #[must_use]
    pub fn new(lab: &Lab) -> Self {
        let path = lab.path("canary");
        std::fs::create_dir(&path).unwrap();
        std::fs::create_dir(path.join("private")).unwrap();
        let secret = format!("canary-secret-{}", std::process::id());
        std::fs::write(path.join("secret"), &secret).unwrap();
        std::fs::write(path.join("writable"), "unchanged").unwrap();
        let mode = |name: &str, mode| {
            std::fs::set_permissions(path.join(name), std::fs::Permissions::from_mode(mode))
                .unwrap();
        };
        mode("secret", 0o600);
        mode("writable", 0o666);
        mode("private", 0o700);
        nix::unistd::mkfifo(
            &path.join("fifo"),
            nix::sys::stat::Mode::from_bits_truncate(0o666),
        )
        .unwrap();
        let canary = Self {
            path,
            secret,
            taken: RefCell::default(),
        };
        canary.retake();
        canary
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Text that must be nowhere.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Takes what is there now as what must stay.
    pub fn retake(&self) {
        *self.taken.borrow_mut() = inventory(&self.path);
    }

    /// Panics if anything was added, removed or changed.
    #[track_caller]
    pub fn assert_untouched(&self) {
        assert_eq!(
            *self.taken.borrow(),
            inventory(&self.path),
            "the host was changed"
        );
    }
}

fn inventory(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.push(dir.to_path_buf());
    entries.sort();
    for path in entries {
        let m = std::fs::symlink_metadata(&path).unwrap();
        let text = if m.is_file() {
            std::fs::read_to_string(&path).unwrap()
        } else {
            String::new()
        };
        lines.push(format!(
            "{} {:o} {}:{} {} {} {text}",
            path.display(),
            m.mode(),
            m.uid(),
            m.gid(),
            m.nlink(),
            m.mtime_nsec()
        ));
        if m.is_dir() && path != dir {
            lines.extend(inventory(&path));
        }
    }
    lines
}
