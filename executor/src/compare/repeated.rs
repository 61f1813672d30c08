//! Bytes that a layer ships though the layers below have them: files that were copied up for a new
//! owner or mode, or written again with the same content.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use kiln_cache::LayerId;
use kiln_sys::{RootDir, Stat};

use super::Comparer;
use crate::error::{Error, Result, blocking};
use crate::output::Output;

/// What one layer holds again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repeated {
    /// Number of files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The largest of them, with a leading slash.
    pub largest: String,
    largest_size: u64,
}

impl Comparer {
    /// Compares each layer that was made here with those below it: files of the same path and
    /// content. Nothing is said where the files of the base are not here, since fetching them
    /// would cost more than the answer is worth.
    ///
    /// # Errors
    /// A layer cannot be read.
    pub async fn repeated(&self, output: &Output) -> Result<Vec<Repeated>> {
        let Output::Layers(layers) = output else {
            return Ok(Vec::new());
        };
        let base = layers.iter().take_while(|l| l.is_of_image()).count();
        let mut ids: Vec<LayerId> = Vec::with_capacity(layers.len());
        for layer in layers {
            let id = match (layer.id(), layer.lazy_layer()) {
                (Some(id), _) => Some(id.clone()),
                (None, Some(lazy)) => self.store.layer_by_diff(&lazy.diff_id)?.map(|l| l.id),
                (None, None) => None,
            };
            let Some(id) = id else {
                return Ok(Vec::new());
            };
            ids.push(id);
        }
        let store = self.store.clone();
        blocking(move || {
            let mut all = Vec::new();
            for own in base..ids.len() {
                let mut found = Repeated::default();
                let (Some(below), Some(id)) = (ids.get(..own), ids.get(own)) else {
                    break;
                };
                if !below.is_empty() {
                    let view = store.view(below)?;
                    let layer = RootDir::open_trusted(&store.layer_dir(id))?;
                    compare(&layer, view.root(), &mut found)?;
                }
                all.push(found);
            }
            Ok(all)
        })
        .await
    }
}

/// Walks `layer` and adds what `below` has as well.
fn compare(layer: &RootDir, below: &RootDir, found: &mut Repeated) -> Result<()> {
    let mut open = vec![PathBuf::new()];
    let mut linked: BTreeSet<u64> = BTreeSet::new();
    while let Some(dir) = open.pop() {
        // What is no directory below has nothing in it.
        if !below.try_lstat(&dir)?.is_some_and(|st| st.is_dir()) {
            continue;
        }
        for entry in layer.read_dir(&dir)? {
            let path = dir.join(&entry.name);
            let st = layer.lstat(&path)?;
            if st.is_dir() {
                open.push(path);
                continue;
            }
            let old = below.try_lstat(&path)?;
            let alike = st.is_file() && st.size > 0 && old.is_some_and(|old| is_like(&old, &st));
            // However many names a file has, it is shipped once.
            if alike
                && same_content(layer, below, &path)?
                && (st.nlink == 1 || linked.insert(st.ino))
            {
                found.files += 1;
                found.bytes += st.size;
                if st.size > found.largest_size {
                    found.largest_size = st.size;
                    found.largest = format!("/{}", path.display());
                }
            }
        }
    }
    Ok(())
}

fn is_like(old: &Stat, new: &Stat) -> bool {
    old.is_file() && old.size == new.size
}

fn same_content(layer: &RootDir, below: &RootDir, path: &Path) -> Result<bool> {
    let failed = |e| Error::io(format!("read `{}`", path.display()), e);
    let mut new = std::fs::File::from(layer.open_read_nofollow(path)?);
    let mut old = std::fs::File::from(below.open_read_nofollow(path)?);
    let (mut a, mut b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let n = new.read(&mut a).map_err(failed)?;
        if n == 0 {
            return Ok(true);
        }
        let Some((mine, theirs)) = a.get(..n).zip(b.get_mut(..n)) else {
            return Ok(false);
        };
        match old.read_exact(theirs) {
            Ok(()) if mine == theirs => {}
            Ok(()) => return Ok(false),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(failed(e)),
        }
    }
}
