//! Build contexts on disk.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// A directory that a test fills.
#[derive(Clone, Debug)]
pub struct Context {
    path: PathBuf,
}

impl Context {
    pub(crate) fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    #[must_use]
    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file, with the directories above it.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    /// Makes a directory.
    pub fn dir(&self, name: &str) -> &Self {
        std::fs::create_dir_all(self.at(name)).unwrap();
        self
    }

    /// Makes a symbolic link.
    pub fn link(&self, name: &str, target: &str) -> &Self {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    /// Sets permission bits.
    pub fn mode(&self, name: &str, mode: u32) -> &Self {
        std::fs::set_permissions(self.at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Replaces the Dockerfile.
    pub fn dockerfile(&self, text: &str) -> &Self {
        self.write("Dockerfile", text)
    }

    /// Copies a directory of the repository's `testdata` here.
    pub fn copy_testdata(&self, name: &str) -> &Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../testdata")
            .join(name);
        copy_tree(&from, &self.path);
        self
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
