//! The files of an image: its layers put on top of each other.

use std::collections::BTreeMap;
use std::io::Read;

use sha2::{Digest as _, Sha256};

/// Path below `/` to what is there. Times are left out: they are those of the build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    what: What,
    mode: u32,
    owner: (u64, u64),
    xattrs: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Dir,
    /// The inode number says which names are one file.
    File {
        size: usize,
        digest: String,
        inode: usize,
    },
    Link(String),
    Device(char, u32, u32),
    Fifo,
}

impl Tree {
    /// Puts a layer on top; `inodes` numbers files over all layers.
    pub fn apply(&mut self, layer: impl Read, inodes: &mut usize) {
        let mut archive = tar::Archive::new(layer);
        let mut upper: BTreeMap<String, Entry> = BTreeMap::new();
        let mut gone = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let path = path.trim_start_matches("./").trim_matches('/').to_owned();
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == ".wh..wh..opq" {
                gone.push((dir.to_owned(), false));
                continue;
            }
            if let Some(name) = name.strip_prefix(".wh.") {
                let dir = if dir.is_empty() {
                    String::new()
                } else {
                    format!("{dir}/")
                };
                gone.push((format!("{dir}{name}"), true));
                continue;
            }
            let mut xattrs = BTreeMap::new();
            for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
                let extension = extension.unwrap();
                if let Some(name) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
                    xattrs.insert(name.to_owned(), extension.value_bytes().to_vec());
                }
            }
            let header = entry.header().clone();
            let link = entry
                .link_name_bytes()
                .map(|l| String::from_utf8_lossy(&l).into_owned());
            let device = || {
                let major = header.device_major().unwrap().unwrap_or(0);
                (major, header.device_minor().unwrap().unwrap_or(0))
            };
            let what = match header.entry_type() {
                tar::EntryType::Directory => What::Dir,
                tar::EntryType::Symlink => What::Link(link.unwrap()),
                tar::EntryType::Char => What::Device('c', device().0, device().1),
                tar::EntryType::Block => What::Device('b', device().0, device().1),
                tar::EntryType::Fifo => What::Fifo,
                tar::EntryType::Link => {
                    let target = link.unwrap();
                    let target = target.trim_start_matches("./").trim_matches('/');
                    let same = upper.get(target).or_else(|| self.0.get(target));
                    let same = same
                        .unwrap_or_else(|| panic!("{path} links to {target}"))
                        .clone();
                    upper.insert(path, same);
                    continue;
                }
                _ => {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes).unwrap();
                    *inodes += 1;
                    What::File {
                        size: bytes.len(),
                        digest: Sha256::digest(&bytes)
                            .iter()
                            .take(8)
                            .fold(String::new(), |text, byte| format!("{text}{byte:02x}")),
                        inode: *inodes,
                    }
                }
            };
            let entry = Entry {
                what,
                mode: header.mode().unwrap() & 0o7777,
                owner: (header.uid().unwrap(), header.gid().unwrap()),
                xattrs,
            };
            upper.insert(path, entry);
        }
        for (path, itself) in gone {
            let below = format!("{path}/");
            let everything = path.is_empty();
            self.0
                .retain(|p, _| !(everything || p.starts_with(&below) || (itself && *p == path)));
        }
        for (path, entry) in upper {
            if entry.what != What::Dir {
                let below = format!("{path}/");
                self.0.retain(|p, _| !p.starts_with(&below));
            }
            self.0.insert(path, entry);
        }
        self.0.remove("");
    }

    /// One line for each path that is not the same in `base`, and `- path` for what is gone.
    #[must_use]
    pub fn lines(&self, base: &Self) -> Vec<String> {
        let mut names: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for (path, entry) in &self.0 {
            if let What::File { inode, .. } = entry.what {
                names.entry(inode).or_default().push(path);
            }
        }
        let mut lines = Vec::new();
        for (path, entry) in &self.0 {
            if base.0.get(path).is_some_and(|b| b.same(entry)) {
                continue;
            }
            let mut line = format!("/{path} ");
            match &entry.what {
                What::Dir => line.push_str("dir"),
                What::Link(target) => {
                    line.push_str(&format!("-> {target}"));
                }
                What::Device(kind, major, minor) => {
                    line.push_str(&format!("{kind} {major}:{minor}"));
                }
                What::Fifo => line.push_str("fifo"),
                What::File {
                    size,
                    digest,
                    inode,
                } => {
                    line.push_str(&format!("file {size} {digest}"));
                    let first = names[inode][0];
                    if first != path {
                        line.push_str(&format!(" = /{first}"));
                    }
                }
            }
            // A link's own mode means nothing.
            if !matches!(entry.what, What::Link(_)) {
                line.push_str(&format!(" {:04o}", entry.mode));
            }
            line.push_str(&format!(" {}:{}", entry.owner.0, entry.owner.1));
            for (name, value) in &entry.xattrs {
                line.push_str(&format!(" {name}={}", value.escape_ascii()));
            }
            lines.push(line);
        }
        let gone = base.0.keys().filter(|p| !self.0.contains_key(*p));
        lines.extend(gone.map(|p| format!("- /{p}")));
        lines
    }
}

impl Entry {
    /// The same but for inode numbers.
    fn same(&self, other: &Self) -> bool {
        let mut other = other.clone();
        if let (What::File { inode, .. }, What::File { inode: theirs, .. }) =
            (&self.what, &mut other.what)
        {
            *theirs = *inode;
        }
        *self == other
    }
}
