//! Whose the files of a context appear to be, where a step sees the directory itself.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_sandbox::Spawner;
use kiln_sys::RootDir;
use tokio::sync::oneshot;

use crate::error::Result;

/// A directory with a user and a group.
type OwnedDir = (PathBuf, u32, u32);

/// Tells whether files of an owner in a directory can be shown as root's. Cloning shares what is known.
#[derive(Clone, Debug)]
pub(crate) struct IdMapSupport {
    spawner: Option<Spawner>,
    known: Arc<Mutex<HashMap<OwnedDir, bool>>>,
}

impl IdMapSupport {
    pub(crate) fn new(spawner: Option<Spawner>) -> Self {
        Self {
            spawner,
            known: Arc::default(),
        }
    }

    /// The user and group whose files in a context a step sees as root's, and root's as theirs: those of
    /// the directory itself. None where owners show as they are, since that is root, or the kernel or the
    /// file system cannot show others. Key and mount of a step both ask this.
    pub(crate) async fn shown_as_root(&self, dir: &Path) -> Result<Option<(u32, u32)>> {
        let st = RootDir::open_trusted(dir)?.lstat(Path::new(""))?;
        let owner = (st.uid, st.gid);
        let Some(spawner) = self.spawner.as_ref().filter(|_| owner != (0, 0)) else {
            return Ok(None);
        };
        let key = (dir.to_owned(), owner.0, owner.1);
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&key).copied()
        };
        let can = match known {
            Some(known) => known,
            None => {
                let (tell, told) = oneshot::channel();
                spawner.can_show_as_root(dir, owner, move |can| {
                    // Who does not wait any more needs no answer.
                    let _ = tell.send(can);
                })?;
                let can = told.await.unwrap_or(false);
                let known = self.known.lock();
                let mut known = known.unwrap_or_else(PoisonError::into_inner);
                *known.entry(key).or_insert(can)
            }
        };
        Ok(can.then_some(owner))
    }
}
