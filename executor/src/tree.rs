//! Trees that can be read, whatever kind of output they are.

use std::sync::Arc;

use kiln_cache::View;
use kiln_sys::RootDir;

use crate::output::DirTree;

/// An output that is open for reading.
#[derive(Debug)]
pub(crate) enum OpenTree {
    Dir { root: RootDir, dir: Arc<DirTree> },
    View(View),
}

impl OpenTree {
    pub(crate) fn root(&self) -> &RootDir {
        match self {
            Self::Dir { root, .. } => root,
            Self::View(view) => view.root(),
        }
    }

    pub(crate) fn dir(&self) -> Option<&DirTree> {
        match self {
            Self::Dir { dir, .. } => Some(dir),
            Self::View(_) => None,
        }
    }
}
