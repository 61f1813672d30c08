//! From a layer's tar to a directory in overlay form.
//!
//! Everything is made below a [`RootDir`] in a directory that no container can reach yet, so no
//! link in the archive leads out and nobody can swap one in.

mod content;

use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kiln_image::layer::{LayerReader, Limits};
use kiln_image::{Entry, EntryKind};
use kiln_solver::key::TreeDigest;
use kiln_sys::{Attributes, FileKind, NewFile, RootDir, xattr};

use crate::error::{Error, Result};
use crate::pack::is_image_xattr;
use crate::tree::TarTree;
use crate::unpack::content::Writer;

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
    /// Blocks of zeros become holes.
    pub sparse: bool,
    /// Devices are left out: what comes from another host must not name this host's.
    pub no_devices: bool,
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

/// What was unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The number of entries.
    pub entries: u64,
    /// The digest of the tree if it was wanted, and the tar is one that kiln would write; of others it
    /// takes [`pack`](crate::pack) to find it.
    pub tree: Option<TreeDigest>,
}

/// Unpacks the tar that `input` gives into `root`.
///
/// # Errors
/// The archive is malformed, has entries that do not fit each other, or writing failed.
pub fn unpack(input: impl Read, root: &RootDir, options: &UnpackOptions<'_>) -> Result<Unpacked> {
    let mut reader = LayerReader::new(input)
        .whiteouts(options.whiteouts)
        .limits(Limits::default());
    let writer = Writer::start(options.sparse)?;
    let mut target = Target {
        root,
        options,
        directories: Vec::new(),
        writer: &writer,
        around: None,
        tree: options.tree.then(TarTree::new),
    };
    let read = target.read(&mut reader);
    let directories = std::mem::take(&mut target.directories);
    let tree = target.tree.as_ref().and_then(TarTree::finish);
    // Whatever happened, nothing writes any more after this; and if that went wrong, it is why the
    // rest did.
    writer.finish()?;
    let entries = read?;
    set_times(root, directories)?;
    Ok(Unpacked { entries, tree })
}

/// Directories get their times last, the deepest first.
fn set_times(root: &RootDir, mut directories: Vec<(PathBuf, (i64, u32))>) -> Result<()> {
    while let Some((path, mtime)) = directories.pop() {
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

/// A new file, whatever an earlier entry has made there.
fn new_file(dir: &RootDir, name: &Path, mode: u32) -> Result<NewFile> {
    match dir.new_file(name, mode) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            dir.remove_all(name)?;
            Ok(dir.new_file(name, mode)?)
        }
        other => Ok(other?),
    }
}

struct Target<'a> {
    root: &'a RootDir,
    options: &'a UnpackOptions<'a>,
    /// Times of directories, set when nothing is written into them any more.
    directories: Vec<(PathBuf, (i64, u32))>,
    writer: &'a Writer,
    /// The directory of the last entry: the next is mostly in it too. It is there as long as only its
    /// own entries come.
    around: Option<(PathBuf, RootDir)>,
    tree: Option<TarTree>,
}

impl Target<'_> {
    /// Makes all entries; returns their number.
    fn read(&mut self, reader: &mut LayerReader<impl Read>) -> Result<u64> {
        let mut entries = 0;
        while let Some(entry) = reader.next()? {
            self.entry(&entry, &mut reader.data())?;
            entries += 1;
        }
        reader.drain().map_err(|e| Error::io("read archive", e))?;
        Ok(entries)
    }

    fn entry(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        let is_device = matches!(
            entry.kind,
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. }
        );
        if is_device && self.options.no_devices {
            return Ok(());
        }
        let content = self.make_entry(entry, data)?;
        if let Some(tree) = &mut self.tree {
            tree.entry(entry, content.as_ref());
        }
        Ok(())
    }

    /// Makes what an entry says; returns the hash of a file's content if that is wanted.
    fn make_entry(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<Option<blake3::Hash>> {
        let path = as_path(&entry.path);
        let mut content = None;
        if entry.path.is_empty() {
            // The root itself: only its attributes can be meant.
            if entry.kind == EntryKind::Directory && !self.options.into_tree {
                self.attributes(self.root, Path::new(""), entry)?;
                self.directories
                    .push((PathBuf::new(), (entry.mtime.secs, entry.mtime.nanos)));
            }
            return Ok(None);
        }
        let (dir, name) = self.around(path)?;
        let name = Path::new(&name);
        match &entry.kind {
            EntryKind::Whiteout => {
                dir.remove_all(name)?;
                dir.mknod(name, FileKind::CharDevice, 0, (0, 0))?;
                return Ok(None);
            }
            EntryKind::Opaque => {
                let inside = self.make_directory(&dir, name)?;
                xattr::set(&inside, b"trusted.overlay.opaque", b"y")?;
                return Ok(None);
            }
            EntryKind::Directory => {
                self.make_directory(&dir, name)?;
                self.directories
                    .push((path.to_path_buf(), (entry.mtime.secs, entry.mtime.nanos)));
            }
            EntryKind::File { .. } => content = self.make_file(&dir, name, entry, data)?,
            _ => {
                // A later entry replaces an earlier one of any kind.
                dir.remove_all(name)?;
                self.make(&dir, name, entry)?;
            }
        }
        if !matches!(
            entry.kind,
            EntryKind::Hardlink { .. } | EntryKind::File { .. }
        ) {
            self.attributes(&dir, name, entry)?;
            if entry.kind != EntryKind::Directory {
                dir.set_mtime(name, (entry.mtime.secs, entry.mtime.nanos))?;
            }
        }
        Ok(content)
    }

    /// The directory that an entry goes into, and the entry's name there.
    fn around<'p>(&mut self, path: &'p Path) -> Result<(RootDir, &'p std::ffi::OsStr)> {
        if let Some((around, dir)) = &self.around
            && path.parent() == Some(around)
            && let Some(name) = path.file_name()
        {
            return Ok((dir.try_clone()?, name));
        }
        self.around = None;
        let (dir, name) = self.parent(path)?;
        if let Some(parent) = path.parent() {
            self.around = Some((parent.to_path_buf(), dir.try_clone()?));
        }
        Ok((dir, name))
    }

    /// The directory that an entry goes into, made where the archive left it out.
    fn parent<'p>(&self, path: &'p Path) -> Result<(RootDir, &'p std::ffi::OsStr)> {
        let bytes = path.as_os_str().as_bytes();
        let name = path
            .file_name()
            .ok_or_else(|| wrong(bytes, "has no name"))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        if self.options.into_tree {
            return Ok((
                self.root.mkdir_all(parent, 0o755, &mut |_, _| Ok(()))?,
                name,
            ));
        }
        // In a layer of its own a link in the way belongs to the archive: a file behind it would
        // have been written through the link in other engines. Here it is an error.
        let mut here = self.root.try_clone()?;
        for part in parent.components() {
            let part = Path::new(part.as_os_str());
            match here.try_lstat(part)? {
                Some(st) if st.is_dir() => {}
                Some(st) if st.kind == FileKind::Symlink => {
                    return Err(wrong(
                        bytes,
                        "lies behind a symbolic link of the same archive",
                    ));
                }
                Some(st) if st.is_overlay_whiteout() => {
                    here.unlink(part)?;
                    here.mkdir(part, 0o755)?;
                }
                Some(_) => return Err(wrong(bytes, "lies below something that is no directory")),
                None => here.mkdir(part, 0o755)?,
            }
            here = here.sub_dir(part)?;
        }
        Ok((here, name))
    }

    fn make_directory(&self, dir: &RootDir, name: &Path) -> Result<RootDir> {
        match dir.try_lstat(name)? {
            Some(st) if st.is_dir() => {}
            Some(st) if st.kind == FileKind::Symlink && self.options.into_tree => {
                // A tree's own link to a directory stays, as tar and docker keep it.
                if let Ok(inside) = dir.sub_dir(name) {
                    return Ok(inside);
                }
                dir.unlink(name)?;
                dir.mkdir(name, 0o755)?;
            }
            Some(_) => {
                dir.remove_all(name)?;
                dir.mkdir(name, 0o755)?;
            }
            None => dir.mkdir(name, 0o755)?,
        }
        Ok(dir.sub_dir(name)?)
    }

    /// Makes a file, which may get its content and attributes a little later.
    fn make_file(
        &mut self,
        dir: &RootDir,
        name: &Path,
        entry: &Entry,
        data: &mut dyn Read,
    ) -> Result<Option<blake3::Hash>> {
        let attributes = Attributes {
            owner: self.options.owner.unwrap_or((entry.uid, entry.gid)),
            mode: entry.mode & 0o7777,
            xattrs: image_xattrs(entry).cloned().collect(),
            mtime: (entry.mtime.secs, entry.mtime.nanos),
        };
        let file = new_file(dir, name, entry.mode)?;
        self.writer
            .write(file, attributes, data, self.tree.is_some())
    }

    fn make(&self, dir: &RootDir, name: &Path, entry: &Entry) -> Result<()> {
        match &entry.kind {
            EntryKind::Symlink { target } => {
                dir.symlink(std::ffi::OsStr::from_bytes(target), name)?;
            }
            EntryKind::Hardlink { target } => self.hard_link(entry, target)?,
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
            | EntryKind::Directory
            | EntryKind::Whiteout
            | EntryKind::Opaque => {}
        }
        Ok(())
    }

    fn hard_link(&self, entry: &Entry, target: &[u8]) -> Result<()> {
        let (target, path) = (as_path(target), as_path(&entry.path));
        match self.root.try_lstat(target)? {
            Some(st) if st.is_dir() => Err(wrong(&entry.path, "is a hard link to a directory")),
            Some(st) if !st.is_overlay_whiteout() => Ok(self.root.hard_link(target, path)?),
            // The other name is in a layer below: this one gets a copy, so that the layer stands
            // alone.
            _ => {
                for below in &self.options.below {
                    if let Ok(fd) = below.open_read_nofollow(target) {
                        return self.copy_from_below(below, target, &fd, path);
                    }
                }
                Err(wrong(
                    &entry.path,
                    format!(
                        "is a hard link to `{}`, which is not there",
                        target.display()
                    ),
                ))
            }
        }
    }

    fn copy_from_below(
        &self,
        below: &RootDir,
        from: &Path,
        fd: &std::os::fd::OwnedFd,
        path: &Path,
    ) -> Result<()> {
        let st = below.lstat(from)?;
        if !st.is_file() {
            return Err(wrong(
                path.as_os_str().as_bytes(),
                "is a hard link to no regular file",
            ));
        }
        // The first name moves into this layer too, so that both stay one file.
        let to = self.root.create_new(path, 0o600)?;
        kiln_sys::system::copy_file(fd, &to, st.size)?;
        self.root.chown(path, st.uid, st.gid)?;
        self.root.chmod(path, st.mode)?;
        for (name, value) in xattr::list(fd)?.iter().filter(|(n, _)| is_image_xattr(n)) {
            self.root.set_xattr(path, name, value)?;
        }
        Ok(self.root.set_mtime(path, st.mtime)?)
    }

    fn attributes(&self, dir: &RootDir, name: &Path, entry: &Entry) -> Result<()> {
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid, entry.gid));
        dir.chown(name, uid, gid)?;
        // Attributes before the mode: a read-only file still takes them from root, and the
        // change of owner above has cleared set-id bits that the mode brings back.
        for (key, value) in image_xattrs(entry) {
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
