//! Walks a tree and hashes what identifies it: types, modes, owners, attributes, bytes.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use kiln_solver::FilesVersion;
use kiln_solver::explain::PathFacts;
use kiln_sys::{FileKind, HoleReader, RootDir, Stat, xattr};
use rayon::prelude::*;

use super::stat_cache::{FileDigest, StatCache};
use crate::error::{Error, Result};
use crate::image_xattr::is_image_xattr;

/// Decides what of a tree counts.
pub trait Keep: Sync {
    /// Whether `path` (relative to the tree's root) is left out.
    fn excludes(&self, path: &str, is_dir: bool) -> bool;
    /// Whether something below an excluded directory may count all the same.
    fn may_include_below(&self, dir: &str) -> bool;
}

/// What is hashed of each file.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    /// The root that paths are relative to.
    pub root: &'a RootDir,
    /// What counts.
    pub keep: Option<&'a dyn Keep>,
    /// Remembered digests.
    pub cache: Option<&'a StatCache>,
    /// Which owners are part of the identity.
    pub owners: Owners,
    /// Modes of files and directories are part of the identity.
    pub modes: bool,
    /// Sockets count, as the empty files that they become.
    pub sockets: bool,
    /// Told what counts of each path.
    pub list: Option<&'a (dyn Fn(PathFacts) + Sync)>,
}

/// Which owners count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// None.
    Ignored,
    /// Those of the files.
    Kept,
    /// Those that a mount shows in which root and this user and group have changed places.
    Swapped(u32, u32),
}

impl Owners {
    /// Who counts as the owner of a file.
    pub const fn of(self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        match self {
            Self::Ignored => None,
            Self::Kept => Some((uid, gid)),
            Self::Swapped(user, group) => Some((swapped(uid, user), swapped(gid, group))),
        }
    }
}

const fn swapped(id: u32, with: u32) -> u32 {
    match id {
        0 => with,
        id if id == with => 0,
        id => id,
    }
}

impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

/// What counts of an object and everything below it, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Hashed {
    /// Digest of types, modes, owners, attributes and content.
    pub digest: blake3::Hash,
    /// What it was read from.
    pub version: FilesVersion,
}

/// The object at `path` with everything below it that counts; none if nothing does.
///
/// # Errors
/// Something cannot be read.
pub fn hash_tree(node: &Node<'_>, path: &str) -> Result<Option<Hashed>> {
    let (dir, name) = if path.is_empty() {
        (node.root.try_clone()?, String::new())
    } else {
        let (dir, name) = node.root.parent_of(Path::new(path))?;
        (dir, name.to_string_lossy().into_owned())
    };
    hash_object(node, &dir, Path::new(&name), path)
}

fn hash_object(node: &Node<'_>, dir: &RootDir, name: &Path, path: &str) -> Result<Option<Hashed>> {
    let st = dir.lstat(name)?;
    let is_dir = st.is_dir();
    let excluded = !path.is_empty() && node.keep.is_some_and(|k| k.excludes(path, is_dir));
    if excluded && !(is_dir && node.keep.is_some_and(|k| k.may_include_below(path))) {
        return Ok(None);
    }
    let mut version = version_of(&st);
    let mut facts = PathFacts::default();
    // Most objects are a few bytes: hashed at once, which is several times as fast as by a hasher.
    let mut bytes = Vec::with_capacity(64);
    bytes.push(st.kind as u8);
    if node.modes && st.kind != FileKind::Symlink {
        bytes.extend_from_slice(&st.mode.to_le_bytes());
    }
    let owner = node.owners.of(st.uid, st.gid);
    if let Some((uid, gid)) = owner {
        bytes.extend_from_slice(&uid.to_le_bytes());
        bytes.extend_from_slice(&gid.to_le_bytes());
    }
    let mut digest = None;
    match st.kind {
        FileKind::Directory => {
            let inside = dir.sub_dir(name)?;
            let list = xattr::list(&inside)?;
            let mut hasher = blake3::Hasher::new();
            hasher.update(&bytes);
            attributes(&mut hasher, &list);
            if node.list.is_some() {
                facts.xattrs = short_digest(&list);
            }
            let below = hash_children(node, &inside, path, &mut hasher)?;
            if excluded && !below.any {
                return Ok(None);
            }
            // What comes and goes in a directory changes its times, and so does what does not count.
            if !below.all {
                version = FilesVersion::default();
            }
            version.add(below.version);
            digest = Some(hasher.finalize());
        }
        FileKind::File => {
            let content = hash_file(node, dir, name, &st)?;
            bytes.extend_from_slice(content.digest.as_bytes());
            if node.list.is_some() {
                list_file(dir, name, content, &mut facts)?;
            }
        }
        FileKind::Symlink => {
            let target = dir.read_link(name)?;
            bytes.extend_from_slice(target.as_os_str().as_bytes());
            facts.link = short(&blake3::hash(target.as_os_str().as_bytes()));
        }
        FileKind::CharDevice | FileKind::BlockDevice => {
            bytes.extend_from_slice(&st.rdev.0.to_le_bytes());
            bytes.extend_from_slice(&st.rdev.1.to_le_bytes());
            facts.content = format!("{}:{}", st.rdev.0, st.rdev.1);
        }
        FileKind::Fifo => {}
        FileKind::Socket if node.sockets => {}
        FileKind::Socket => return Ok(None),
    }
    if let Some(list) = node.list {
        facts.path = path.to_owned();
        facts.kind = kind_name(st.kind).to_owned();
        facts.mode = (node.modes && st.kind != FileKind::Symlink).then_some(st.mode);
        facts.owner = owner;
        list(facts);
    }
    Ok(Some(Hashed {
        digest: digest.unwrap_or_else(|| blake3::hash(&bytes)),
        version,
    }))
}

/// That of one file.
pub fn version_of(st: &Stat) -> FilesVersion {
    let (seconds, nanos) = st.mtime;
    let numbers = [
        st.dev,
        st.ino,
        st.size,
        seconds.cast_unsigned(),
        nanos.into(),
    ];
    match st.kind {
        FileKind::Directory => FilesVersion::of_directory(&numbers, st.ctime),
        _ => FilesVersion::of(&numbers, st.ctime),
    }
}

fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Directory => "directory",
        FileKind::File => "file",
        FileKind::Symlink => "link",
        FileKind::CharDevice => "character device",
        FileKind::BlockDevice => "block device",
        FileKind::Fifo => "pipe",
        FileKind::Socket => "socket",
    }
}

/// Enough of a digest to tell two values apart that stood in the same place.
fn short(digest: &blake3::Hash) -> String {
    digest.to_hex()[..16].to_owned()
}

fn short_digest(list: &[(Vec<u8>, Vec<u8>)]) -> String {
    if !list.iter().any(|(name, _)| is_image_xattr(name)) {
        return String::new();
    }
    let mut hasher = blake3::Hasher::new();
    attributes(&mut hasher, list);
    short(&hasher.finalize())
}

/// The digest of a file is one of attributes and content. Where there are attributes, the content
/// is hashed once more, so that it is clear which of the two has changed.
fn list_file(dir: &RootDir, name: &Path, content: FileDigest, facts: &mut PathFacts) -> Result<()> {
    if !content.attributes {
        facts.content = short(&content.digest);
        return Ok(());
    }
    let fd = dir.open_read_nofollow(name)?;
    facts.xattrs = short_digest(&xattr::list_open(&fd)?);
    facts.content = short(&hash_content(blake3::Hasher::new(), fd.into(), name)?);
    Ok(())
}

/// Directories with fewer names are walked by one thread.
const PARALLEL_FROM: usize = 64;

/// What is in a directory.
#[derive(Default)]
struct Below {
    /// Something counts.
    any: bool,
    /// Everything does.
    all: bool,
    version: FilesVersion,
}

fn hash_children(
    node: &Node<'_>,
    inside: &RootDir,
    path: &str,
    hasher: &mut blake3::Hasher,
) -> Result<Below> {
    let mut names = inside.read_dir(Path::new(""))?;
    names.sort_by(|a, b| a.name.cmp(&b.name));
    let one = |entry: &kiln_sys::DirEntry| {
        let text = entry.name.to_string_lossy();
        let below = if path.is_empty() {
            text.into_owned()
        } else {
            format!("{path}/{text}")
        };
        hash_object(node, inside, Path::new(&entry.name), &below)
    };
    let hashes: Vec<Option<Hashed>> = if names.len() < PARALLEL_FROM {
        names.iter().map(one).collect::<Result<_>>()?
    } else {
        names
            .par_iter()
            .with_min_len(32)
            .map(one)
            .collect::<Result<_>>()?
    };
    let mut below = Below {
        all: true,
        ..Below::default()
    };
    for (entry, hashed) in names.iter().zip(hashes) {
        if let Some(hashed) = hashed {
            let name = entry.name.as_bytes();
            hasher
                .update(&(name.len() as u64).to_le_bytes())
                .update(name)
                .update(hashed.digest.as_bytes());
            below.version.add(hashed.version);
            below.any = true;
        } else {
            below.all = false;
        }
    }
    Ok(below)
}

fn attributes(hasher: &mut blake3::Hasher, list: &[(Vec<u8>, Vec<u8>)]) {
    for (name, value) in list.iter().filter(|(n, _)| is_image_xattr(n)) {
        for part in [name, value] {
            hasher
                .update(&(part.len() as u64).to_le_bytes())
                .update(part);
        }
    }
}

/// Attributes and content of a file, as one digest.
fn hash_file(node: &Node<'_>, dir: &RootDir, name: &Path, st: &Stat) -> Result<FileDigest> {
    if let Some(known) = node.cache.and_then(|c| c.get(st)) {
        return Ok(known);
    }
    let fd = dir.open_read_nofollow(name)?;
    let oldest_change = node.cache.and_then(|_| StatCache::oldest_change(&fd));
    // What is hashed is what was opened, whatever has become of the name meanwhile.
    let before = kiln_sys::RootDir::stat_of(&fd)?;
    let mut hasher = blake3::Hasher::new();
    let list = xattr::list_open(&fd)?;
    attributes(&mut hasher, &list);
    let content = FileDigest {
        digest: hash_content(hasher, fd.into(), name)?,
        attributes: list.iter().any(|(name, _)| is_image_xattr(name)),
    };
    if let Some(cache) = node.cache {
        cache.put(&before, content, oldest_change);
    }
    Ok(content)
}

fn hash_content(
    mut hasher: blake3::Hasher,
    file: std::fs::File,
    name: &Path,
) -> Result<blake3::Hash> {
    let mut file = HoleReader::from(file);
    hasher.update(b"content");
    let mut buffer = [0_u8; 64 << 10];
    loop {
        let n = file
            .read(&mut buffer)
            .map_err(|e| Error::io(format!("read `{}`", name.display()), e))?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of steps that read files have it in them: where it changes, `kiln_solver::key::VERSION` does.
    #[test]
    fn the_fingerprint_of_a_tree_in_this_version() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open_trusted(dir.path()).unwrap();
        root.mkdir(Path::new("d"), 0o750).unwrap();
        for (path, text) in [("d/b", "two"), ("d/a", ""), ("d/c", "three")] {
            std::fs::write(dir.path().join(path), text).unwrap();
            root.chmod(Path::new(path), 0o640).unwrap();
        }
        std::os::unix::fs::symlink("../x", dir.path().join("d/link")).unwrap();
        root.mknod(Path::new("d/pipe"), FileKind::Fifo, 0o600, (0, 0))
            .unwrap();
        let hash = |owners, modes| {
            let node = Node {
                root: &root,
                keep: None,
                cache: None,
                owners,
                modes,
                sockets: false,
                list: None,
            };
            let hashed = hash_tree(&node, "d").unwrap().unwrap();
            hashed.digest.to_hex().to_string()
        };
        assert_eq!(
            hash(Owners::Ignored, false),
            "06edd36e4cda4ee67b019da3bfcf62a8823b368fc0795655f2fc2fb2cda86d2e"
        );
        assert_eq!(
            hash(Owners::Ignored, true),
            "b2c8472794a6d1c3dff17fd0735685f5de059e177594144b7ee45d5b41ede74d"
        );
    }
}
