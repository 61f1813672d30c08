//! Tar archives, honest and hostile.

use tar::{Builder, EntryType, Header};

const PROGRAMS: [&str; 24] = [
    "sh", "cat", "ls", "echo", "id", "stat", "touch", "ln", "rm", "mkdir", "mv", "sleep", "true",
    "pwd", "readlink", "grep", "chmod", "test", "env", "dd", "seq", "head", "find", "wc",
];

/// Writes an archive entry by entry, exactly as told: names are not checked.
pub struct Tarball {
    builder: Builder<Vec<u8>>,
}

impl std::fmt::Debug for Tarball {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tarball")
    }
}

impl Default for Tarball {
    fn default() -> Self {
        Self::new()
    }
}

impl Tarball {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            builder: Builder::new(Vec::new()),
        }
    }

    /// One that starts with a static busybox and links to some of its programs.
    #[must_use]
    pub fn busybox() -> Self {
        Self::busybox_without(&[])
    }

    /// The same without some of its directories at the top.
    #[must_use]
    pub fn busybox_without(absent: &[&str]) -> Self {
        let mut tarball = Self::new().dir("bin", 0o755);
        for (name, mode) in [
            ("tmp", 0o1777),
            ("etc", 0o755),
            ("dev", 0o755),
            ("proc", 0o555),
            ("sys", 0o555),
        ] {
            if !absent.contains(&name) {
                tarball = tarball.dir(name, mode);
            }
        }
        let places = ["/bin/busybox", "/usr/bin/busybox"];
        let program = places
            .iter()
            .find_map(|p| std::fs::read(p).ok())
            .expect("busybox-static");
        tarball = tarball.raw("bin/busybox", EntryType::Regular, 0o755, "", &program);
        for name in PROGRAMS {
            tarball = tarball.link(&format!("bin/{name}"), "busybox");
        }
        tarball
    }

    /// A regular file.
    #[must_use]
    pub fn file(self, name: &str, text: &str) -> Self {
        self.raw(name, EntryType::Regular, 0o644, "", text.as_bytes())
    }

    /// A directory.
    #[must_use]
    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.raw(name, EntryType::Directory, mode, "", b"")
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(self, name: &str, target: &str) -> Self {
        self.raw(name, EntryType::Symlink, 0o777, target, b"")
    }

    /// A hard link.
    #[must_use]
    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(name, EntryType::Link, 0o644, target, b"")
    }

    /// Any entry. Names go in as they are, `..` and leading slashes included.
    #[must_use]
    pub fn raw(mut self, name: &str, kind: EntryType, mode: u32, link: &str, data: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(data.len() as u64);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.builder.append(&header, data).unwrap();
        self
    }

    /// A PAX extended header for the next entry.
    #[must_use]
    pub fn pax(mut self, key: &str, value: &str) -> Self {
        self.builder
            .append_pax_extensions([(key, value.as_bytes())])
            .unwrap();
        self
    }

    /// The archive.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        self.builder.into_inner().unwrap()
    }
}
