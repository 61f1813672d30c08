//! What a layer removes from the layers below it (OCI image specification, "Whiteouts").
//!
//! A whiteout is about what is below, never about what its own layer brings, wherever in the tar
//! either stands. Here that becomes overlayfs's form, in which a name is one thing: a device that
//! hides what is below, or a directory that may be opaque, or what the layer has there.

use std::collections::{BTreeSet, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kiln_image::EntryKind;
use kiln_sys::{FileKind, RootDir, xattr};

use super::Target;
use crate::error::Result;
use crate::image_xattr::OPAQUE;

/// What a layer removes.
#[derive(Default)]
pub(super) struct Removals {
    /// Paths with a whiteout, or with something else that hides what is below.
    whiteouts: HashSet<Vec<u8>>,
    /// Directories that hide all below them.
    opaque: BTreeSet<PathBuf>,
    /// Directories that only what is removed in them speaks of.
    implied: BTreeSet<Vec<u8>>,
    /// Devices were made.
    marks: bool,
}

impl Removals {
    /// Whether there may be devices.
    pub(super) fn has_marks(&self) -> bool {
        self.marks
    }

    /// The layer had something else at the path of one of its directories.
    pub(super) fn replaced(&mut self, path: &Path) {
        let bytes = path.as_os_str().as_bytes();
        self.whiteouts.insert(bytes.to_vec());
    }

    /// The layer has something at this path, and so all directories above it.
    pub(super) fn is_there(&mut self, path: &[u8]) {
        if self.implied.is_empty() {
            return;
        }
        self.implied.remove(path);
        for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
            self.implied.remove(path.get(..at).unwrap_or_default());
        }
    }
}

/// What is at the place where something is removed.
enum Place<'p> {
    /// The directory, and the name in it.
    In(RootDir, &'p Path),
    /// Nothing of below shows there in any case.
    Hidden,
}

impl Target<'_> {
    /// Takes in a whiteout or the mark of an opaque directory.
    pub(super) fn remove(&mut self, path: &Path, kind: &EntryKind) -> Result<()> {
        let Place::In(dir, name) = self.place(path)? else {
            self.not_as_told();
            return Ok(());
        };
        let there = dir.try_lstat(name)?;
        let bytes = path.as_os_str().as_bytes();
        let is_whiteout = *kind == EntryKind::Whiteout;
        if is_whiteout {
            self.removals.whiteouts.insert(bytes.to_vec());
        }
        match there {
            None if is_whiteout => {
                dir.mknod(name, FileKind::CharDevice, 0, (0, 0))?;
                self.removals.marks = true;
                Ok(())
            }
            None => {
                dir.mkdir(name, 0o755)?;
                self.removals.implied.insert(bytes.to_vec());
                self.make_opaque(&dir.sub_dir(name)?, path)
            }
            Some(st) if st.is_dir() && is_whiteout && self.removals.implied.contains(bytes) => {
                // There is no such directory: only more of what is gone with it was told.
                dir.remove_all(name)?;
                dir.mknod(name, FileKind::CharDevice, 0, (0, 0))?;
                self.removals.marks = true;
                // Itself, and what is below it: names that go on with a slash stand together.
                let first = [bytes, b"/"].concat();
                let after = [bytes, b"0"].concat();
                let below: Vec<_> = (self.removals.implied)
                    .range(first..after)
                    .cloned()
                    .collect();
                self.removals.implied.remove(bytes);
                for implied in below {
                    self.removals.implied.remove(&implied);
                }
                self.not_as_told();
                Ok(())
            }
            Some(st) if st.is_dir() => {
                if is_whiteout {
                    self.not_as_told();
                }
                self.make_opaque(&dir.sub_dir(name)?, path)
            }
            // The layer has something else there, or has removed it already.
            Some(_) => {
                self.not_as_told();
                Ok(())
            }
        }
    }

    /// Where something is removed. Directories on the way are made: they are below, or the layer
    /// would not speak of them.
    fn place<'p>(&mut self, path: &'p Path) -> Result<Place<'p>> {
        let name = Path::new(path.file_name().unwrap_or_default());
        let parent = path.parent().unwrap_or(Path::new(""));
        let mut here = self.root.try_clone()?;
        let mut so_far = PathBuf::new();
        for part in parent.components() {
            let part = Path::new(part.as_os_str());
            so_far.push(part);
            match here.try_lstat(part)? {
                Some(st) if st.is_dir() => {}
                Some(st) if st.kind == FileKind::Symlink => {
                    let bytes = path.as_os_str().as_bytes();
                    return Ok(Place::In(self.behind_link(parent, bytes)?, name));
                }
                // Gone as a whole, or no directory any more.
                Some(_) => return Ok(Place::Hidden),
                None => {
                    here.mkdir(part, 0o755)?;
                    let implied = so_far.as_os_str().as_bytes().to_vec();
                    self.removals.implied.insert(implied);
                }
            }
            here = here.sub_dir(part)?;
        }
        Ok(Place::In(here, name))
    }

    /// Hides what is below a directory of the layer that has a whiteout of its name beside it.
    pub(super) fn hide_below(&mut self, inside: &RootDir, path: &Path) -> Result<()> {
        let bytes = path.as_os_str().as_bytes();
        // It may have been something else in between, and lost its mark with it.
        let hides = self.removals.whiteouts.contains(bytes) || self.removals.opaque.contains(path);
        if hides && xattr::get(inside, OPAQUE)?.is_none() {
            self.not_as_told();
            self.make_opaque(inside, path)?;
        }
        Ok(())
    }

    fn make_opaque(&mut self, inside: &RootDir, path: &Path) -> Result<()> {
        xattr::set(inside, OPAQUE, b"y")?;
        self.removals.opaque.insert(path.to_path_buf());
        Ok(())
    }

    /// The entries are not those that kiln would write of the directory.
    fn not_as_told(&mut self) {
        if let Some(tree) = &mut self.tree {
            tree.give_up();
        }
    }

    /// Takes marks out of opaque directories, where they hide nothing and would be seen.
    pub(super) fn settle_removals(&mut self) -> Result<()> {
        if !self.removals.marks && self.removals.implied.is_empty() {
            return Ok(());
        }
        let mut found = Vec::new();
        let mut left: Vec<PathBuf> = self.removals.opaque.iter().cloned().collect();
        let mut seen = HashSet::new();
        while let Some(path) = left.pop() {
            if !seen.insert(path.clone()) {
                continue;
            }
            // It may have been replaced since.
            let is_dir = |st: kiln_sys::Stat| st.is_dir();
            if !self.root.try_lstat(&path)?.is_some_and(is_dir) {
                continue;
            }
            let dir = self.root.sub_dir(&path)?;
            for entry in dir.read_dir(Path::new(""))? {
                let name = Path::new(&entry.name);
                match entry.kind {
                    Some(FileKind::Directory) => left.push(path.join(name)),
                    Some(FileKind::CharDevice) | None => match dir.lstat(name)? {
                        st if st.is_overlay_whiteout() => {
                            dir.unlink(name)?;
                            self.not_as_told();
                        }
                        st if st.is_dir() => left.push(path.join(name)),
                        _ => {}
                    },
                    _ => {}
                }
            }
            found.push(path);
        }
        // What is inside first. A directory that nothing but removals speak of is
        // one of below, and there it is hidden.
        found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        for path in &found {
            let mut above = path.ancestors().skip(1);
            let is_hidden = above.any(|above| self.removals.opaque.contains(above));
            if is_hidden && self.removals.implied.contains(path.as_os_str().as_bytes()) {
                match self.root.rmdir(path) {
                    Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
                    other => other?,
                }
                self.not_as_told();
            }
        }
        Ok(())
    }
}
