//! The names of a layer, in the order of its tar: a directory before what is in it, and what is in it
//! by name.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use kiln_sys::{DirEntry, FileKind, RootDir};

use crate::error::Result;

/// Names that are taken at once.
pub(super) const BATCH: usize = 32;

/// A name that was found.
pub(super) struct Name {
    /// The directory that it is in.
    pub(super) dir: Arc<RootDir>,
    pub(super) name: OsString,
    /// From the root of the layer.
    pub(super) path: Vec<u8>,
    pub(super) kind: FileKind,
    /// The directory of that name.
    pub(super) inside: Option<Arc<RootDir>>,
}

struct Level {
    dir: Arc<RootDir>,
    names: std::vec::IntoIter<DirEntry>,
    /// Length of the directory's own path.
    path: usize,
}

/// Walks a layer.
pub(super) struct Names {
    levels: Vec<Level>,
    /// The path of the directory that is walked.
    path: Vec<u8>,
}

impl Names {
    pub(super) fn below(root: RootDir) -> Result<Self> {
        let mut names = Self {
            levels: Vec::new(),
            path: Vec::new(),
        };
        names.enter(Arc::new(root))?;
        Ok(names)
    }

    fn enter(&mut self, dir: Arc<RootDir>) -> Result<()> {
        let mut names = dir.read_dir(Path::new(""))?;
        names.sort_by(|a, b| a.name.cmp(&b.name));
        self.levels.push(Level {
            dir,
            names: names.into_iter(),
            path: self.path.len(),
        });
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Name>> {
        loop {
            let Some(level) = self.levels.last_mut() else {
                return Ok(None);
            };
            self.path.truncate(level.path);
            let Some(entry) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let dir = level.dir.clone();
            let name = Path::new(&entry.name);
            let kind = match entry.kind {
                Some(kind) => kind,
                None => dir.lstat(name)?.kind,
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(entry.name.as_bytes());
            let path = self.path.clone();
            let mut inside = None;
            if kind == FileKind::Directory {
                let sub = Arc::new(dir.sub_dir(name)?);
                self.enter(sub.clone())?;
                inside = Some(sub);
            }
            return Ok(Some(Name {
                dir,
                name: entry.name,
                path,
                kind,
                inside,
            }));
        }
    }

    /// The next few; none at the end.
    pub(super) fn batch(&mut self) -> Result<Vec<Name>> {
        let mut out = Vec::with_capacity(BATCH);
        while out.len() < BATCH {
            match self.next()? {
                Some(name) => out.push(name),
                None => break,
            }
        }
        Ok(out)
    }
}
