//! `--squash`: one layer in place of all that a build added.
//!
//! Directories are made anew; files are further names of those of the layers, which nobody ever
//! writes to.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kiln_cache::{LayerId, NewRecord, Store, View, is_opaque, pack};
use kiln_solver::key::{Encoder, Key};
use kiln_solver::plan::Origin;
use kiln_sys::{FileKind, RootDir, Stat, xattr};

use super::Exporter;
use super::files::{copy_attributes, make_object};
use crate::error::{Error, Result, blocking};
use crate::output::LayerRef;

/// The attribute of a directory of which nothing below shows.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";

impl Exporter {
    /// The stack with one layer in place of those above the first `of_base`.
    pub(super) async fn squash(
        &self,
        layers: &[LayerRef],
        of_base: usize,
        epoch: Option<u64>,
    ) -> Result<Vec<LayerRef>> {
        let mut to = Encoder::new("squash");
        to.number(of_base as u64);
        for layer in layers {
            to.bytes(self.layer_facts(layer)?.0.to_string().as_bytes());
        }
        to.number(epoch.map_or(u64::MAX, |e| e));
        let key = Key::from(to.finish());
        let ids = self.layers.materialise(layers).await?;
        let store = self.store().clone();
        let mut tries = 0;
        let flight = loop {
            match store.try_flight(key)? {
                Some(flight) => break flight,
                None => tokio::time::sleep(Store::flight_pause(tries)).await,
            }
            tries += 1;
        };
        let mut out = layers.get(..of_base).unwrap_or_default().to_vec();
        let id = blocking(move || {
            let id = match store.records().record(key)? {
                Some(known) => known.layer.id,
                None => make(&store, key, &ids, of_base, epoch)?,
            };
            drop(flight);
            Ok(id)
        })
        .await?;
        out.push(LayerRef::stored(id, None));
        Ok(out)
    }
}

fn make(
    store: &Store,
    key: Key,
    ids: &[LayerId],
    of_base: usize,
    epoch: Option<u64>,
) -> Result<LayerId> {
    let started = SystemTime::now();
    let (base, own) = ids.split_at(of_base.min(ids.len()));
    let view: Option<View> = if base.is_empty() {
        None
    } else {
        Some(store.view(base)?)
    };
    let scratch = store.scratch()?;
    let dir = scratch.path().join("diff");
    #[allow(clippy::disallowed_methods, reason = "the store is kiln's own")]
    std::fs::create_dir(&dir).map_err(|e| Error::io("make layer", e))?;
    let top = RootDir::open_trusted(store.root())?;
    let below = |path: &Path| {
        path.strip_prefix(store.root())
            .unwrap_or(path)
            .to_path_buf()
    };
    let mut layers = Vec::new();
    let mut hides_base = false;
    for id in own.iter().rev() {
        let path = store.layer_dir(id);
        let dir = RootDir::open_trusted(&path)?;
        hides_base = is_opaque(&dir)?;
        layers.push(Part {
            dir,
            path: below(&path),
        });
        if hides_base {
            break;
        }
    }
    let target = Part {
        dir: RootDir::open_trusted(&dir)?,
        path: below(&dir),
    };
    let base = view.as_ref().filter(|_| !hides_base);
    let base = base.map(|v| v.root().try_clone()).transpose()?;
    if hides_base && view.is_some() {
        xattr::set(&target.dir, OPAQUE, b"y")?;
    }
    merge(&top, &layers, base.as_ref(), &target)?;
    drop(view);
    let packed = pack(&dir, epoch, &mut std::io::sink())?;
    let id = store.adopt_layer(&dir)?;
    store.record_layer(&id, &packed, SystemTime::now())?;
    store.records().put_record(&NewRecord {
        key,
        layer: &id,
        made: None,
        ran_at: started,
        took: started.elapsed().unwrap_or_default(),
        name: "squash",
        inputs: &[],
        origin: &Origin::default(),
    })?;
    Ok(id)
}

/// A directory of a layer.
struct Part {
    dir: RootDir,
    /// Where it is below the store.
    path: PathBuf,
}

impl Part {
    fn sub(&self, name: &Path) -> Result<Self> {
        Ok(Self {
            dir: self.dir.sub_dir(name)?,
            path: self.path.join(name),
        })
    }
}

/// Merges directories, the topmost first, into `target`, which gets the attributes of the first.
/// `base` is what the same path is in the base image, if that still shows through.
fn merge(top: &RootDir, layers: &[Part], base: Option<&RootDir>, target: &Part) -> Result<()> {
    let mut all: BTreeSet<OsString> = BTreeSet::new();
    for layer in layers {
        all.extend(
            layer
                .dir
                .read_dir(Path::new(""))?
                .into_iter()
                .map(|e| e.name),
        );
    }
    for name in &all {
        one(top, layers, base, target, Path::new(name))?;
    }
    if let Some(first) = layers.first() {
        let st = first.dir.lstat(Path::new(""))?;
        let here = Path::new("");
        copy_attributes(&first.dir, here, &target.dir, here, &st, st.mtime)?;
    }
    Ok(())
}

fn one(
    top: &RootDir,
    layers: &[Part],
    base: Option<&RootDir>,
    target: &Part,
    name: &Path,
) -> Result<()> {
    let in_base = match base {
        Some(base) => base.try_lstat(name)?,
        None => None,
    };
    let mut dirs: Vec<Part> = Vec::new();
    // Whether something of the build's own hides what the base has here.
    let mut hidden = false;
    for layer in layers {
        let Some(st) = layer.dir.try_lstat(name)? else {
            continue;
        };
        if st.is_overlay_whiteout() {
            if dirs.is_empty() {
                return removed(in_base.as_ref(), target, name);
            }
            hidden = true;
            break;
        }
        if !st.is_dir() {
            if dirs.is_empty() {
                return link(top, layer, target, name, &st);
            }
            hidden = true;
            break;
        }
        let sub = layer.sub(name)?;
        let opaque = is_opaque(&sub.dir)?;
        dirs.push(sub);
        if opaque {
            hidden = true;
            break;
        }
    }
    target.dir.mkdir(name, 0o700)?;
    let sub = target.sub(name)?;
    let base_dir = in_base.is_some_and(|st| st.is_dir());
    let through = match base {
        Some(base) if base_dir && !hidden => Some(base.sub_dir(name)?),
        _ => None,
    };
    merge(top, &dirs, through.as_ref(), &sub)?;
    if hidden && base_dir {
        xattr::set(&sub.dir, OPAQUE, b"y")?;
    }
    Ok(())
}

/// The mark of a removed file, where the base has something to remove.
fn removed(in_base: Option<&Stat>, target: &Part, name: &Path) -> Result<()> {
    match in_base {
        Some(_) => Ok(target.dir.mknod(name, FileKind::CharDevice, 0, (0, 0))?),
        None => Ok(()),
    }
}

/// Gives a file of a layer a further name; copies it where that cannot be.
fn link(top: &RootDir, layer: &Part, target: &Part, name: &Path, st: &Stat) -> Result<()> {
    if top
        .hard_link(&layer.path.join(name), &target.path.join(name))
        .is_ok()
    {
        return Ok(());
    }
    if make_object(&layer.dir, &target.dir, name, st)? {
        copy_attributes(&layer.dir, name, &target.dir, name, st, st.mtime)?;
    }
    Ok(())
}
