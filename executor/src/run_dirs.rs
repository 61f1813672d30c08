//! What the steps of a worker have in common: the places where their mounts are put together, and
//! the files of names, which no step can change.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_cache::{Scratch, Store};
use kiln_sandbox::MountPoints;
use kiln_sys::RootDir;

use crate::error::{Error, Result};

/// Made when the first step needs them, removed with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct RunDirs {
    store: Store,
    made: Arc<Mutex<Option<Made>>>,
}

#[derive(Debug)]
struct Made {
    scratch: Scratch,
    points: MountPoints,
    /// The files by name and text.
    files: HashMap<(&'static str, String), PathBuf>,
}

impl RunDirs {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            made: Arc::default(),
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Made) -> Result<T>) -> Result<T> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match &mut *made {
            Some(made) => made,
            none => {
                let scratch = self.store.scratch()?;
                let points = MountPoints::make_in(scratch.path())?;
                RootDir::open_trusted(scratch.path())?.mkdir(Path::new("names"), 0o755)?;
                none.insert(Made {
                    scratch,
                    points,
                    files: HashMap::new(),
                })
            }
        };
        f(made)
    }

    /// The directories to mount on.
    ///
    /// # Errors
    /// They cannot be made.
    pub(crate) fn mount_points(&self) -> Result<MountPoints> {
        self.with(|made| Ok(made.points.clone()))
    }

    /// A file with this text, for a read-only mount.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn file(&self, name: &'static str, text: String) -> Result<PathBuf> {
        self.with(|made| {
            let number = made.files.len();
            let key = (name, text);
            if let Some(path) = made.files.get(&key) {
                return Ok(path.clone());
            }
            let path = made.scratch.path().join(format!("names/{number}"));
            std::fs::write(&path, &key.1).map_err(|e| Error::io(format!("write {name}"), e))?;
            made.files.insert(key, path.clone());
            Ok(path)
        })
    }
}
