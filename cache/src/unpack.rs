//! From a layer's tar to a directory in overlay form.
//!
//! Everything is made below a [`RootDir`] in a directory that no container can reach yet, so no
//! link in the archive leads out and nobody can swap one in.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod content;
mod links;
mod near;
mod removal;

use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kiln_image::layer::{FileData, LayerReader, Limits};
use kiln_image::{Entry, EntryKind};
use kiln_solver::key::TreeDigest;
use kiln_sys::{Attributes, FileKind, FsError, NewFile, RootDir};

use crate::error::{Error, Result};
use crate::image_xattr::{DEFAULT_ACL, is_image_xattr};
use crate::tree::TarTree;
use crate::unpack::content::Writer;
use crate::unpack::near::Near;
use crate::unpack::removal::Removals;

/// How an archive is unpacked.
#[derive(Clone, Debug, Default)]
pub struct UnpackOptions<'a> {
    /// `.wh.` names remove what is below: layers. Otherwise they are ordinary names.
    pub whiteouts: bool,
    /// Trees below this layer, the nearest first, in which the target of a hard link may be.
    pub below: Vec<&'a RootDir>,
    /// Owner of everything, whatever the archive says.
    pub owner: Option<(u32, u32)>,
    /// The digest of the tree is wanted.
    pub tree: bool,
    /// Existing files are replaced, and links among existing directories are followed inside the
    /// root: unpacking into a tree instead of an empty directory.
    pub into_tree: bool,
    /// Devices are left out: what comes from another host must not name this host's.
    pub no_devices: bool,
    /// Entries behind links of the archive are refused: kiln itself packs none.
    pub no_links: bool,
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn wrong(path: &[u8], why: impl Into<String>) -> Error {
    Error::Entry {
        path: String::from_utf8_lossy(path).into_owned(),
        why: why.into(),
    }
}

/// An error of an entry, with the entry's whole path.
fn at(entry: &Entry, error: Error) -> Error {
    match error {
        Error::System(e) => FsError::new(e.op, as_path(&entry.path), e.source).into(),
        other => other,
    }
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The number of entries.
    pub entries: u64,
    /// Bytes of all files, as Docker counts the size of a layer.
    pub bytes: u64,
    /// The digest of the tree if it was wanted, and the tar is one that kiln would write; of others it
    /// takes [`pack`](crate::pack) to find it.
    pub tree: Option<TreeDigest>,
    /// The directory marks something that is removed from below.
    pub removes: bool,
}

/// Unpacks the tar that `input` gives into `root`.
///
/// # Errors
/// The archive is malformed, has entries that do not fit each other, or writing failed.
pub fn unpack(input: impl Read, root: &RootDir, options: &UnpackOptions<'_>) -> Result<Unpacked> {
    let mut reader = LayerReader::new(input)
        .whiteouts(options.whiteouts)
        .limits(Limits::default());
    let writer = Writer::start()?;
    let mut target = Target {
        root,
        options,
        directories: Vec::new(),
        writer: &writer,
        acl_bytes: 0,
        near: Near::default(),
        tree: options.tree.then(TarTree::new),
        removals: Removals::default(),
    };
    let read = target.read(&mut reader).and_then(|read| {
        target.settle_removals()?;
        Ok(read)
    });
    let directories = std::mem::take(&mut target.directories);
    let removes = target.removals.has_marks();
    let tree = target.tree.as_ref().and_then(TarTree::finish);
    // Whatever happened, nothing writes any more after this; and if that went wrong, it is why the
    // rest did.
    writer.finish()?;
    let (entries, bytes) = read?;
    end_directories(root, directories)?;
    Ok(Unpacked {
        entries,
        bytes,
        tree,
        removes,
    })
}

/// What a directory gets when all is in it that will be.
struct Late {
    path: PathBuf,
    mtime: (i64, u32),
    /// What is made in it would inherit this.
    acl: Option<Vec<u8>>,
}

impl Late {
    fn new(path: &Path, entry: &Entry) -> Self {
        let acl = entry.xattrs.iter().find(|(name, _)| name == DEFAULT_ACL);
        Self {
            path: path.to_path_buf(),
            mtime: (entry.mtime.secs, entry.mtime.nanos),
            acl: acl.map(|(_, value)| value.clone()),
        }
    }
}

/// Ends directories, the deepest first.
fn end_directories(root: &RootDir, mut directories: Vec<Late>) -> Result<()> {
    while let Some(Late { path, mtime, acl }) = directories.pop() {
        // It may have been replaced since.
        if let Some(acl) = acl
            && root.try_lstat(&path)?.is_some_and(|st| st.is_dir())
        {
            root.set_xattr(&path, DEFAULT_ACL, &acl)?;
        }
        match root.set_mtime(&path, mtime) {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
    }
    Ok(())
}

/// The attributes that belong into images.
fn image_xattrs(entry: &Entry) -> impl Iterator<Item = &(Vec<u8>, Vec<u8>)> {
    entry.xattrs.iter().filter(|(name, _)| is_image_xattr(name))
}

struct Target<'a> {
    root: &'a RootDir,
    options: &'a UnpackOptions<'a>,
    /// Directories, for when nothing is written into them any more.
    directories: Vec<Late>,
    writer: &'a Writer,
    /// Bytes of the default ACLs among them.
    acl_bytes: usize,
    near: Near,
    tree: Option<TarTree>,
    removals: Removals,
}

/// Bytes of a default ACL at most: what the kernel takes as a value.
const MAX_ACL: usize = 64 << 10;
/// Bytes of all default ACLs that are kept at most.
const MAX_ACLS: usize = 64 << 20;

impl Target<'_> {
    /// Keeps what a directory gets at the end. One that comes again gets what its last entry says.
    fn keep_for_later(&mut self, path: &Path, entry: &Entry) -> Result<()> {
        let late = Late::new(path, entry);
        let bytes = late.acl.as_ref().map_or(0, Vec::len);
        self.acl_bytes = self.acl_bytes.saturating_add(bytes);
        if bytes > MAX_ACL || self.acl_bytes > MAX_ACLS {
            return Err(wrong(&entry.path, "has a default ACL that is too large"));
        }
        match self.directories.last_mut().filter(|last| last.path == path) {
            Some(last) => *last = late,
            None => self.directories.push(late),
        }
        Ok(())
    }

    /// Makes all entries; returns their number, and the bytes of files.
    fn read(&mut self, reader: &mut LayerReader<impl Read>) -> Result<(u64, u64)> {
        let (mut entries, mut bytes) = (0, 0_u64);
        while let Some(entry) = reader.next()? {
            self.entry(&entry, &mut reader.data())?;
            entries += 1;
            bytes = bytes.saturating_add(entry.data_len());
        }
        reader.drain().map_err(|e| Error::io("read archive", e))?;
        Ok((entries, bytes))
    }

    fn entry(&mut self, entry: &Entry, data: &mut dyn FileData) -> Result<()> {
        let is_device = matches!(
            entry.kind,
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. }
        );
        if is_device && self.options.no_devices {
            return Ok(());
        }
        let content = self.make_entry(entry, data).map_err(|e| at(entry, e))?;
        if let Some(tree) = &mut self.tree {
            tree.entry(entry, content.as_ref());
        }
        Ok(())
    }

    /// Makes what an entry says; returns the hash of a file's content if that is wanted.
    fn make_entry(
        &mut self,
        entry: &Entry,
        data: &mut dyn FileData,
    ) -> Result<Option<blake3::Hash>> {
        let path = as_path(&entry.path);
        let mut content = None;
        if entry.path.is_empty() && !entry.is_removal() {
            // The root itself: only its attributes can be meant, and those of a layer's are not
            // taken. Docker and containerd pass over them too, so that whoever sees the image by
            // itself sees the same root as a step on top of it.
            let is_own = !self.options.into_tree && !self.options.whiteouts;
            if entry.kind == EntryKind::Directory && is_own {
                self.attributes(self.root, Path::new(""), entry)?;
                self.keep_for_later(path, entry)?;
            }
            return Ok(None);
        }
        if entry.is_removal() {
            self.near.forget();
            self.remove(path, &entry.kind)?;
            return Ok(None);
        }
        self.removals.is_there(&entry.path);
        let dir = self.parent(&entry.path)?;
        let name = Path::new(path.file_name().unwrap_or_default());
        match &entry.kind {
            EntryKind::Directory => {
                let inside = self.make_directory(&dir, path, name)?;
                self.attributes(&inside, Path::new(""), entry)?;
                self.keep_for_later(path, entry)?;
            }
            EntryKind::File { .. } => content = self.make_file(&dir, name, entry, data)?,
            EntryKind::Hardlink { target } => {
                self.clear(&dir, name)?;
                self.hard_link(entry, target)?;
                // What its own header says is said of the file, and the last header counts.
                let link = dir.open_path_nofollow(name)?;
                self.writer
                    .set_later(path.to_path_buf(), link, self.own_attributes(entry))?;
            }
            _ => {
                // A later entry replaces an earlier one of any kind.
                self.clear(&dir, name)?;
                self.make(&dir, name, entry)?;
                self.attributes(&dir, name, entry)?;
                dir.set_mtime(name, (entry.mtime.secs, entry.mtime.nanos))?;
            }
        }
        Ok(content)
    }

    /// Makes room for an entry.
    fn clear(&mut self, dir: &RootDir, name: &Path) -> Result<()> {
        if dir.remove_all(name)? {
            self.near.forget();
        }
        Ok(())
    }

    /// A new file, whatever an earlier entry has made there.
    fn new_file(&mut self, dir: &RootDir, name: &Path, mode: u32) -> Result<NewFile> {
        match dir.new_file(name, mode) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                self.clear(dir, name)?;
                Ok(dir.new_file(name, mode)?)
            }
            other => Ok(other?),
        }
    }

    /// The directory that the entry at `path` goes into, made where the archive left it out. Of the way
    /// there only what the last entry had not is walked.
    fn parent(&mut self, path: &[u8]) -> Result<RootDir> {
        let end = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
        let parent = path.get(..end).unwrap_or_default();
        let (mut at, mut here) = match self.near.closest(parent) {
            Some((length, dir)) => (length, dir.try_clone()?),
            None => (0, self.root.try_clone()?),
        };
        while at < parent.len() {
            // Behind the slash, if this is not the first.
            let start = if at == 0 { 0 } else { at + 1 };
            let rest = parent.get(start..).unwrap_or_default();
            let length = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
            let name = as_path(rest.get(..length).unwrap_or_default());
            at = start + length;
            let so_far = parent.get(..at).unwrap_or_default();
            here = match self.options.into_tree {
                true => self.dir_of_tree(&here, name, so_far)?,
                false => match self.own_dir(&here, name, so_far, path)? {
                    Some(dir) => dir,
                    None => return self.behind_link(as_path(parent), path),
                },
            };
            self.near.keep(so_far, here.try_clone()?);
        }
        Ok(here)
    }

    /// The directory `name` of a tree, in which links are followed.
    fn dir_of_tree(&self, here: &RootDir, name: &Path, so_far: &[u8]) -> Result<RootDir> {
        match here.own_dir(name) {
            Ok(Some(dir)) => Ok(dir),
            Err(e) if e.is_not_found() => Ok(here.mkdir_all(name, 0o755, &mut |_, _| Ok(()))?),
            // Where a link leads is up to the whole tree.
            Ok(None) => Ok((self.root).mkdir_all(as_path(so_far), 0o755, &mut |_, _| Ok(()))?),
            Err(e) => Err(e.into()),
        }
    }

    /// The directory `name` of what is unpacked; none if a link is there.
    fn own_dir(
        &mut self,
        here: &RootDir,
        name: &Path,
        so_far: &[u8],
        entry: &[u8],
    ) -> Result<Option<RootDir>> {
        match here.try_lstat(name)? {
            Some(st) if st.is_dir() => {}
            Some(st) if st.kind == FileKind::Symlink => return Ok(None),
            Some(st) if st.is_overlay_whiteout() => {
                self.clear(here, name)?;
                here.mkdir(name, 0o755)?;
            }
            Some(_) => return Err(wrong(entry, "lies below something that is not a directory")),
            None => here.mkdir(name, 0o755)?,
        }
        let inside = here.sub_dir(name)?;
        self.hide_below(&inside, as_path(so_far))?;
        Ok(Some(inside))
    }

    /// The directory that links of the archive lead to. They are followed inside of the root, as a
    /// process in the image would follow them, and the kernel sees to it that they do not leave.
    fn behind_link(&self, parent: &Path, entry: &[u8]) -> Result<RootDir> {
        if self.options.no_links {
            return Err(wrong(
                entry,
                "lies behind a symbolic link of the same archive",
            ));
        }
        self.root
            .mkdir_all(parent, 0o755, &mut |_, _| Ok(()))
            .map_err(|e| match e.kind() {
                _ if e.is_loop() => wrong(entry, "lies behind links in a circle"),
                std::io::ErrorKind::NotADirectory => wrong(
                    entry,
                    "lies behind a link to something that is not a directory",
                ),
                _ => e.into(),
            })
    }

    fn make_directory(&mut self, dir: &RootDir, path: &Path, name: &Path) -> Result<RootDir> {
        match dir.try_lstat(name)? {
            Some(st) if st.is_dir() => {}
            Some(st) if st.kind == FileKind::Symlink && self.options.into_tree => {
                // A tree's own link to a directory stays, as tar and docker keep it.
                if let Ok(inside) = dir.sub_dir(name) {
                    return Ok(inside);
                }
                self.clear(dir, name)?;
                dir.mkdir(name, 0o755)?;
            }
            Some(st) => {
                self.clear(dir, name)?;
                dir.mkdir(name, 0o755)?;
                if !st.is_overlay_whiteout() {
                    // What the layer had there has taken the place of what is below.
                    self.removals.replaced(path);
                }
            }
            None => dir.mkdir(name, 0o755)?,
        }
        let inside = dir.sub_dir(name)?;
        self.hide_below(&inside, path)?;
        Ok(inside)
    }

    /// What an entry says of a file, beside its content.
    fn own_attributes(&self, entry: &Entry) -> Attributes {
        Attributes {
            owner: self.options.owner.unwrap_or((entry.uid, entry.gid)),
            mode: entry.mode & 0o7777,
            xattrs: image_xattrs(entry).cloned().collect(),
            mtime: (entry.mtime.secs, entry.mtime.nanos),
        }
    }

    /// Makes a file, which may get its content and attributes a little later.
    fn make_file(
        &mut self,
        dir: &RootDir,
        name: &Path,
        entry: &Entry,
        data: &mut dyn FileData,
    ) -> Result<Option<blake3::Hash>> {
        let attributes = self.own_attributes(entry);
        let file = self.new_file(dir, name, entry.mode)?;
        self.writer
            .write(file, attributes, data, self.tree.is_some())
    }

    fn make(&self, dir: &RootDir, name: &Path, entry: &Entry) -> Result<()> {
        match &entry.kind {
            EntryKind::Symlink { target } => {
                dir.symlink(std::ffi::OsStr::from_bytes(target), name)?;
            }
            EntryKind::CharDevice { major, minor } => {
                // 0:0 is how an overlay marks removed files: no archive may bring that in.
                if (*major, *minor) == (0, 0) {
                    return Err(wrong(&entry.path, "is a device 0:0"));
                }
                dir.mknod(name, FileKind::CharDevice, 0o600, (*major, *minor))?;
            }
            EntryKind::BlockDevice { major, minor } => {
                dir.mknod(name, FileKind::BlockDevice, 0o600, (*major, *minor))?;
            }
            EntryKind::Fifo => dir.mknod(name, FileKind::Fifo, 0o600, (0, 0))?,
            EntryKind::File { .. }
            | EntryKind::Hardlink { .. }
            | EntryKind::Directory
            | EntryKind::Whiteout
            | EntryKind::Opaque => {}
        }
        Ok(())
    }

    fn attributes(&self, dir: &RootDir, name: &Path, entry: &Entry) -> Result<()> {
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid, entry.gid));
        dir.chown(name, uid, gid)?;
        // Attributes before the mode: a read-only file still takes them from root, and the
        // change of owner above has cleared set-id bits that the mode brings back.
        for (key, value) in image_xattrs(entry).filter(|(key, _)| key != DEFAULT_ACL) {
            dir.set_xattr(name, key, value)?;
        }
        if !matches!(entry.kind, EntryKind::Symlink { .. }) {
            dir.chmod(name, entry.mode & 0o7777)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
