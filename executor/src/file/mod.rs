//! COPY, ADD, WORKDIR: file changes, written straight into the directory that becomes the layer.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod copy;
mod select;
mod stack;
mod target;
mod unpack;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use kiln_cache::fingerprint::{Keep, Node, Owners, StatCache, hash_tree, version_of};
use kiln_cache::{LayerId, Store};
use kiln_sandbox::{MountPoints, Rootfs};
use kiln_solver::FilesVersion;
use kiln_solver::event::{Warning, WarningCode};
use kiln_solver::explain::{Listing, PathFacts};
use kiln_solver::key::digest_of;
use kiln_solver::plan::{Action, Copy, File, PathFilter};
use kiln_solver::ports::{Made, Reading, Solved, Step};

pub(crate) use copy::copy_all;
pub(crate) use select::{anything_below, real_path};
pub(crate) use unpack::open_archive;

use crate::error::{Error, Result, blocking};
use crate::layers::LayerFetcher;
use crate::new_layer::NewLayer;
use crate::output::Output;
use crate::run_dirs::RunDirs;
use crate::tree::OpenTree;
use select::{Match, select};
use target::Target;

/// Which paths of a tree are meant, and what of them counts.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) sources: Vec<String>,
    pub(crate) exclude: Option<std::sync::Arc<dyn PathFilter>>,
    /// The path of a source is kept below the destination.
    pub(crate) parents: bool,
    /// Owners of the source make a difference.
    pub(crate) owners: bool,
    /// Whose files a step sees as root's, and root's as theirs.
    pub(crate) swapped: Option<(u32, u32)>,
    /// Modes of the source make a difference.
    pub(crate) modes: bool,
    /// A source that is a link stands for what it leads to.
    pub(crate) one_path: bool,
    /// Files are shown to a step in place, or taken with their owners, even where a copy would make
    /// them root's.
    pub(crate) in_place: bool,
    /// Where the sources are, in words for messages.
    pub(crate) place: String,
}

impl Selection {
    pub(crate) fn of_copy(copy: &Copy) -> Self {
        Self {
            sources: copy.sources.clone(),
            exclude: copy.exclude.clone(),
            parents: copy.parents,
            owners: !copy.reset_owner && copy.chown.is_none(),
            swapped: None,
            modes: !copy
                .chmod
                .as_ref()
                .is_some_and(|c| c.text.bytes().all(|b| b.is_ascii_digit())),
            one_path: false,
            in_place: false,
            place: copy.place.clone(),
        }
    }

    pub(crate) fn of_path(path: &str, place: &str) -> Self {
        Self {
            sources: vec![path.to_owned()],
            exclude: None,
            parents: false,
            owners: true,
            swapped: None,
            modes: true,
            one_path: true,
            in_place: true,
            place: place.to_owned(),
        }
    }
}

/// Names a selection among all of one tree.
pub(crate) fn selection_id(copy: &Copy) -> String {
    let wanted = Selection::of_copy(copy);
    let patterns = wanted.exclude.as_ref().map(|e| e.patterns());
    let flags = [wanted.parents, wanted.owners, wanted.modes]
        .map(u32::from)
        .to_vec();
    digest_of(&((wanted.sources, patterns), flags))
}

/// What of a tree counts for one source: what the ignore file and `--exclude` leave.
struct Filter<'a> {
    ignore: Option<&'a dyn PathFilter>,
    exclude: Option<&'a dyn PathFilter>,
    /// Path of the source, which `--exclude` patterns are relative to.
    source: &'a str,
}

impl Filter<'_> {
    fn below<'p>(&self, path: &'p str) -> &'p str {
        match path.strip_prefix(self.source) {
            Some("") => path.rsplit('/').next().unwrap_or(path),
            Some(rest) => rest.trim_start_matches('/'),
            None => path,
        }
    }
}

impl Keep for Filter<'_> {
    fn excludes(&self, path: &str, _is_dir: bool) -> bool {
        self.ignore.is_some_and(|f| f.excludes(path))
            // A source that is named is wanted: patterns are for what is below it.
            || path != self.source
                && self.exclude.is_some_and(|f| f.excludes(self.below(path)))
    }

    fn may_include_below(&self, dir: &str) -> bool {
        let ignore = self
            .ignore
            .is_none_or(|f| !f.excludes(dir) || f.may_include_below(dir));
        let below = self.below(dir);
        ignore
            && self
                .exclude
                .is_none_or(|f| !f.excludes(below) || f.may_include_below(below))
    }
}

/// The wanted paths of a tree, and what they are if that is to be `listed`.
pub(crate) fn fingerprint(
    store: &Store,
    tree: &OpenTree,
    wanted: &Selection,
    listed: bool,
) -> Result<(Reading, Option<Listing>)> {
    let dir = tree.dir();
    let cache: Option<StatCache> = dir
        .filter(|d| d.remember)
        .map(|d| store.stat_cache(&d.path));
    let ignore = dir.and_then(|d| d.ignore.as_deref());
    let resets = dir.is_some_and(|d| d.reset_owner);
    let owners = match wanted.swapped {
        _ if !wanted.owners => Owners::Ignored,
        Some((user, group)) => Owners::Swapped(user, group),
        None if wanted.in_place || !resets => Owners::Kept,
        None => Owners::Ignored,
    };
    let mut hasher = blake3::Hasher::new();
    let mut version = FilesVersion::default();
    let paths = Mutex::new(Vec::new());
    let list = |facts| {
        if let Ok(mut paths) = paths.lock() {
            paths.push(facts);
        }
    };
    for found in all_matches(tree, wanted)? {
        let filter = Filter {
            ignore,
            exclude: wanted.exclude.as_deref(),
            source: &found.path,
        };
        let node = Node {
            root: tree.root(),
            keep: Some(&filter),
            cache: cache.as_ref(),
            owners,
            modes: wanted.modes,
            // A mount shows them as they are, and nobody listens.
            sockets: dir.is_some() && !wanted.in_place,
            list: listed.then_some(&list),
        };
        if wanted.parents {
            for (path, _) in &found.parents {
                let path = std::path::Path::new(path);
                let st = tree.root().lstat(path)?;
                version.add(version_of(&st));
                let owner = owners.of(st.uid, st.gid).unwrap_or_default();
                for number in [st.mode, owner.0, owner.1] {
                    hasher.update(&number.to_le_bytes());
                }
                let mut xattrs = tree.root().xattrs(path)?;
                xattrs.retain(|(name, _)| copy::is_copied(name));
                hasher.update(&(xattrs.len() as u64).to_le_bytes());
                for text in xattrs.iter().flat_map(|(name, value)| [name, value]) {
                    hasher
                        .update(&(text.len() as u64).to_le_bytes())
                        .update(text);
                }
            }
        }
        let hashed = hash_tree(&node, &found.path)?;
        let name = if wanted.parents {
            &found.kept
        } else {
            &found.name
        };
        let name = if found.is_dir && !wanted.parents {
            ""
        } else {
            name
        };
        hasher
            .update(&(name.len() as u64).to_le_bytes())
            .update(name.as_bytes());
        if let Some(hashed) = hashed {
            hasher.update(hashed.digest.as_bytes());
            version.add(hashed.version);
        }
    }
    if let Some(cache) = cache
        && let Err(error) = cache.save()
    {
        tracing::debug!(%error, "the stat cache is not written");
    }
    let mut paths = paths.into_inner().unwrap_or_default();
    paths.sort_by(|a: &PathFacts, b| a.path.cmp(&b.path));
    paths.dedup();
    let listing = Listing {
        ignore: ignore.map_or(String::new(), |i| digest_of(&i.patterns())),
        ignore_file: dir.and_then(|d| d.ignore_file.clone()).unwrap_or_default(),
        paths,
    };
    let reading = Reading {
        fingerprint: hasher.finalize().into(),
        version: Some(version),
    };
    Ok((reading, listed.then_some(listing)))
}

/// The matches of every source, in order.
fn all_matches(tree: &OpenTree, wanted: &Selection) -> Result<Vec<Match>> {
    let mut out = Vec::new();
    for source in &wanted.sources {
        out.extend(select(tree, wanted, source)?);
    }
    Ok(out)
}

/// Carries out file changes.
#[derive(Clone, Debug)]
pub(crate) struct FileChanger {
    layers: LayerFetcher,
    run_dirs: RunDirs,
}

impl FileChanger {
    pub(crate) fn new(layers: LayerFetcher, run_dirs: RunDirs) -> Self {
        Self { layers, run_dirs }
    }

    pub(crate) async fn change(
        &self,
        op: &File,
        inputs: &[Solved<Output>],
        step: &Step,
    ) -> Result<Made<Output, NewLayer>> {
        self.layers.space().make_room().await;
        let below = match inputs.first() {
            Some(base) if op.on_base => base.output.layers()?.to_vec(),
            _ => Vec::new(),
        };
        let ids = self.layers.materialise(&below).await?;
        let mut trees = Vec::new();
        for action in &op.actions {
            trees.push(match action {
                Action::Copy(copy) => {
                    let input = inputs.get(copy.input).ok_or_else(|| {
                        Error::Other("a copy names an input that it does not have".into())
                    })?;
                    Some(self.layers.open(&input.output).await?)
                }
                _ => None,
            });
        }
        step.begin();
        let points = self.run_dirs.mount_points()?;
        let (store, op, cancel) = (self.layers.store().clone(), op.clone(), step.cancel.clone());
        let epoch = op.epoch;
        let (events, vertex) = (step.events.clone(), step.vertex);
        let id = blocking(move || {
            let stop = || cancel.is_cancelled();
            // Several files may be for the same owner.
            let told = Mutex::new(HashSet::new());
            let warn = |text: String| {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                if told.insert(text.clone()) {
                    let warning = Warning::new(WarningCode::UnknownOwner, text);
                    events.warn(warning.of(vertex));
                }
            };
            let changes = Changes {
                store: &store,
                points: &points,
                below: &ids,
                stop: &stop,
                warn: &warn,
            };
            changes.make(&op.actions, &trees)
        })
        .await?;
        Ok(NewLayer::made(self.layers.space(), below, id, epoch))
    }
}

/// Everything that the actions of one op share.
pub(crate) struct Changes<'a> {
    pub(crate) store: &'a Store,
    pub(crate) points: &'a MountPoints,
    pub(crate) below: &'a [LayerId],
    pub(crate) stop: &'a (dyn Fn() -> bool + Sync),
    /// Takes what is to be said of owners.
    pub(crate) warn: &'a (dyn Fn(String) + Sync),
}

impl Changes<'_> {
    fn make(&self, actions: &[Action], trees: &[Option<OpenTree>]) -> Result<LayerId> {
        let scratch = self.store.scratch()?;
        let lowers = self.store.lower_dirs(self.below)?;
        let rootfs = Rootfs::writable(scratch.path(), self.points, lowers)?;
        let upper = scratch.path().join("upper");
        let view = self.store.view(self.below)?;
        for (number, (action, tree)) in actions.iter().zip(trees).enumerate() {
            let target = Target::open(&upper, view.root(), self.warn)?;
            match (action, tree) {
                (Action::Mkdir(mkdir), _) => {
                    let owner = target.owner(mkdir.chown.as_deref())?;
                    target.make_dirs(&mkdir.path, mkdir.mode, owner)?;
                }
                (Action::Write(write), _) => copy::write_file(&target, write)?,
                (Action::Copy(copy), Some(tree)) => {
                    let wanted = Selection::of_copy(copy);
                    let found = all_matches(tree, &wanted)?;
                    let rest = self.unpack_archives(copy, tree, found, &target, &rootfs, number)?;
                    copy::copy_matches(self, copy, tree, &rest, &target)?;
                }
                (Action::Copy(_), None) => {}
            }
        }
        // The view must not outlive the layers' use; the directory is complete now.
        drop(view);
        let id = self.store.adopt_layer(&upper)?;
        scratch.discard()?;
        Ok(id)
    }
}
