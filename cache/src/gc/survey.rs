//! What is in the store: every thing that can be removed alone, its size, its value, who holds it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::SystemTime;

use kiln_image::search::MAX_DEPTH;
use kiln_image::{Digest, ImageConfig, Manifest, Reference, media_type};
use kiln_sys::RootDir;
use rusqlite::Transaction;

use crate::db::nanos;
use crate::error::Result;
use crate::layers::tree_of_image_layer;
use crate::scratch;
use crate::store::Store;

/// A kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Layers, with the records of the steps that made them.
    Layers,
    /// Blobs: configs, manifests, compressed layers.
    Content,
    /// Files from the web.
    Downloads,
    /// Cache mounts.
    Mounts,
    /// What is remembered of contexts.
    StatCaches,
    /// Output of steps.
    Logs,
    /// Downloads that were cut off.
    Partial,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Layers,
        Self::Content,
        Self::Downloads,
        Self::Mounts,
        Self::StatCaches,
        Self::Logs,
        Self::Partial,
    ];

    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Layers => "layers",
            Self::Content => "content",
            Self::Downloads => "downloads",
            Self::Mounts => "mounts",
            Self::StatCaches => "stat-caches",
            Self::Logs => "logs",
            Self::Partial => "partial",
        }
    }
}

/// Who holds a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nobody.
    Free,
    /// An image.
    Image,
    /// A running process.
    Process,
}

/// A thing of the store.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its kind.
    pub class: Class,
    /// Its name: of a layer or file, a digest, the home of a mount.
    pub name: String,
    /// For people: the step's line, the mount's id.
    pub title: String,
    /// Bytes.
    pub bytes: u64,
    /// Last use, in nanoseconds since 1970.
    pub used: i64,
    /// Seconds that it takes to have it again, as far as is known.
    pub cost: f64,
    /// Who holds it.
    pub held: Held,
    /// An image holds it, whoever else does.
    pub of_image: bool,
}

impl Item {
    /// What keeping it is worth: the time that it saves, for the room that it takes, less the
    /// longer nobody has wanted it.
    pub(super) fn value(&self, now: i64) -> f64 {
        let age = (now - self.used).max(0) as f64 / 1e9;
        (self.cost + 0.05) / (self.bytes as f64 + 4096.0) / (age + 600.0)
    }
}

/// Bytes a second at which things are brought from a registry or the web.
const DOWNLOAD: f64 = 10e6;
/// Bytes a second at which layers are packed and compressed.
const COMPRESS: f64 = 50e6;
/// Bytes a second at which a cache mount fills: what is in it was downloaded or compiled.
const FILL: f64 = 2e6;

/// What images hold.
#[derive(Debug, Default)]
pub(super) struct Images {
    diffs: HashSet<String>,
    blobs: HashSet<String>,
}

impl Images {
    fn read(store: &Store, tx: &Transaction<'_>) -> Result<Self> {
        let mut images = Self::default();
        let mut query = tx.prepare_cached("SELECT DISTINCT config, manifest, name FROM images")?;
        let rows = query.query_map([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, Option<String>>(1)?,
                row.get::<_, Option<String>>(2)?,
            ))
        })?;
        for row in rows {
            let (config, manifest, name) = row?;
            let name = name.and_then(|name| Reference::parse(&name).ok());
            if let Some(digest) = name.as_ref().and_then(Reference::digest) {
                images.indexes(store, digest);
            }
            if let Some(raw) = read(store, &config)
                && let Ok(parsed) = ImageConfig::parse(&raw)
            {
                let diffs = parsed.rootfs.diff_ids.iter().map(ToString::to_string);
                images.diffs.extend(diffs);
            }
            images.blobs.insert(config);
            let Some(manifest) = manifest else { continue };
            if let Some(raw) = read(store, &manifest)
                && let Ok(Manifest::Image(parsed)) = Manifest::parse(&raw, None)
            {
                let layers = parsed.value.layers.iter().map(|l| l.digest.to_string());
                images.blobs.extend(layers);
            }
            images.blobs.insert(manifest);
        }
        // The blob of a layer that was not made here cannot be made here either.
        let mut query = tx.prepare_cached(
            "SELECT b.diff_id, b.digest, l.tree FROM blobs b
             LEFT JOIN layers l ON l.diff_id = b.diff_id",
        )?;
        let rows = query.query_map([], |row| {
            let tree: Option<String> = row.get(2)?;
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, tree))
        })?;
        let mut own = HashSet::new();
        let mut blobs = Vec::new();
        for row in rows {
            let (diff, digest, tree) = row?;
            let foreign = diff.parse().map(|d| tree_of_image_layer(&d).to_hex());
            if tree.is_some_and(|t| Ok(t) != foreign) {
                own.insert(digest.clone());
            }
            if images.diffs.contains(&diff) {
                blobs.push(digest);
            }
        }
        images
            .blobs
            .extend(blobs.into_iter().filter(|b| !own.contains(b)));
        Ok(images)
    }

    /// Holds the indexes that show that an image is what the digest in its name says.
    fn indexes(&mut self, store: &Store, digest: &Digest) {
        let mut left = vec![(digest.clone(), 0)];
        while let Some((digest, depth)) = left.pop() {
            if depth >= MAX_DEPTH || self.blobs.contains(digest.as_str()) {
                continue;
            }
            if let Some(raw) = read(store, digest.as_str())
                && let Ok(Manifest::Index(index)) = Manifest::parse(&raw, None)
            {
                self.blobs.insert(digest.to_string());
                let entries = index.value.manifests.into_iter();
                let indexes = entries.filter(|entry| media_type::is_index(&entry.media_type));
                left.extend(indexes.map(|entry| (entry.digest, depth + 1)));
            }
        }
    }
}

/// The bytes of a small blob; without a lease, for a moment.
fn read(store: &Store, digest: &str) -> Option<Vec<u8>> {
    let digest: Digest = digest.parse().ok()?;
    std::fs::read(store.blob_path(&digest)).ok()
}

/// Everything that is in the store. Nobody takes a lease or writes to the database meanwhile.
pub(super) fn survey(
    store: &Store,
    tx: &Transaction<'_>,
    leased: &dyn Fn(&str) -> Result<bool>,
) -> Result<Vec<Item>> {
    let images = Images::read(store, tx)?;
    let held = |name: &str, by_image: bool| -> Result<Held> {
        Ok(match (leased(name)?, by_image) {
            (true, _) => Held::Process,
            (false, true) => Held::Image,
            (false, false) => Held::Free,
        })
    };
    let mut items = layers(tx, &images, &held)?;
    items.extend(contents(tx, &images, &held)?);
    items.extend(mounts(store, tx)?);
    items.extend(files(store, leased)?);
    Ok(items)
}

type Holder<'a> = &'a dyn Fn(&str, bool) -> Result<Held>;

fn layers(tx: &Transaction<'_>, images: &Images, held: Holder<'_>) -> Result<Vec<Item>> {
    let mut made: HashMap<String, (i64, i64, String)> = HashMap::new();
    let mut query = tx.prepare_cached("SELECT layer, ran_at, took, name FROM records")?;
    let rows = query.query_map([], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
        ))
    })?;
    for row in rows {
        let (layer, ran_at, took, name): (String, i64, i64, String) = row?;
        let entry = made.entry(layer).or_insert((0, 0, name));
        *entry = (
            entry.0.max(ran_at),
            entry.1.max(took),
            std::mem::take(&mut entry.2),
        );
    }
    let mut query = tx.prepare_cached(
        "SELECT l.id, l.diff_id, l.bytes, l.created, coalesce(u.used, 0) FROM layers l
         LEFT JOIN uses u ON u.name = l.id",
    )?;
    let copies = copies_of_images(tx, images)?;
    let mut rows = query.query([])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, diff): (String, String) = (row.get(0)?, row.get(1)?);
        let bytes = row.get::<_, i64>(2)?.max(0).cast_unsigned();
        let (created, used): (i64, i64) = (row.get(3)?, row.get(4)?);
        let of_image = copies.contains(&name);
        let held = held(&name, of_image)?;
        let (ran_at, took, title) = made.remove(&name).unwrap_or((0, 0, String::new()));
        let cost = match took {
            0 if title.is_empty() => bytes as f64 / DOWNLOAD,
            took => took as f64 / 1e9,
        };
        let title = if title.is_empty() { diff } else { title };
        items.push(Item {
            class: Class::Layers,
            title,
            bytes,
            used: created.max(used).max(ran_at),
            cost,
            held,
            of_image,
            name,
        });
    }
    Ok(items)
}

/// Layers that images hold: of those with one content it is one. Best is one that was made here, for
/// its blob can be made again, then one that a record leads to, then what was used last.
fn copies_of_images(tx: &Transaction<'_>, images: &Images) -> Result<HashSet<String>> {
    let mut query = tx.prepare_cached(
        "SELECT l.diff_id, l.id, l.tree, max(l.created, coalesce(u.used, 0)),
             EXISTS (SELECT 1 FROM records r WHERE r.layer = l.id)
         FROM layers l LEFT JOIN uses u ON u.name = l.id",
    )?;
    let mut rows = query.query([])?;
    let mut best: HashMap<String, ((bool, bool, i64), String)> = HashMap::new();
    while let Some(row) = rows.next()? {
        let diff: String = row.get(0)?;
        if !images.diffs.contains(&diff) {
            continue;
        }
        let (id, tree): (String, String) = (row.get(1)?, row.get(2)?);
        let foreign = diff.parse().map(|d| tree_of_image_layer(&d).to_hex());
        let rank = (Ok(tree) != foreign, row.get(4)?, row.get(3)?);
        let known = best.get(&diff);
        if known.is_none_or(|known| *known < (rank, id.clone())) {
            best.insert(diff, (rank, id));
        }
    }
    Ok(best.into_values().map(|(_, id)| id).collect())
}

fn contents(tx: &Transaction<'_>, images: &Images, held: Holder<'_>) -> Result<Vec<Item>> {
    let mut query = tx.prepare_cached(
        "SELECT c.digest, c.size, c.created, coalesce(u.used, 0),
             EXISTS (SELECT 1 FROM downloads d WHERE d.digest = c.digest),
             EXISTS (SELECT 1 FROM blobs b WHERE b.digest = c.digest)
         FROM contents c LEFT JOIN uses u ON u.name = c.digest",
    )?;
    let mut rows = query.query([])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let bytes = row.get::<_, i64>(1)?.max(0).cast_unsigned();
        let (download, layer): (bool, bool) = (row.get(4)?, row.get(5)?);
        let of_image = images.blobs.contains(&name);
        let speed = if layer { COMPRESS } else { DOWNLOAD };
        items.push(Item {
            class: if download {
                Class::Downloads
            } else {
                Class::Content
            },
            title: String::new(),
            bytes,
            used: row.get::<_, i64>(2)?.max(row.get(3)?),
            cost: bytes as f64 / speed,
            held: held(&name, of_image)?,
            of_image,
            name,
        });
    }
    Ok(items)
}

fn mounts(store: &Store, tx: &Transaction<'_>) -> Result<Vec<Item>> {
    let mut query = tx.prepare_cached("SELECT home, id, bytes, used FROM mounts")?;
    let mut rows = query.query([])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let bytes = row.get::<_, i64>(2)?.max(0).cast_unsigned();
        let free = store.cache_mounts().lock_mount(&name, false)?.is_some();
        items.push(Item {
            class: Class::Mounts,
            title: row.get(1)?,
            bytes,
            used: row.get(3)?,
            cost: bytes as f64 / FILL,
            held: if free { Held::Free } else { Held::Process },
            of_image: false,
            name,
        });
    }
    Ok(items)
}

/// What has no rows: the folders are listed.
pub(super) fn files(store: &Store, leased: &dyn Fn(&str) -> Result<bool>) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let now = nanos(SystemTime::now());
    for class in [Class::StatCaches, Class::Logs, Class::Partial] {
        let folder = RootDir::open_trusted(&store.path(folder_of(class)))?;
        for entry in folder.read_dir(Path::new(""))? {
            let path = Path::new(&entry.name);
            // Others may remove the same at the same time.
            let Ok(st) = folder.lstat(path) else { continue };
            let name = entry.name.to_string_lossy().into_owned();
            let used = st.mtime.0.saturating_mul(1_000_000_000) + i64::from(st.mtime.1);
            let mut bytes = st.allocated;
            if st.is_dir()
                && let Ok(inside) = folder.sub_dir(path)
            {
                let inner = inside.read_dir(Path::new("")).unwrap_or_default();
                let sizes = inner
                    .iter()
                    .filter_map(|e| inside.lstat(Path::new(&e.name)).ok());
                bytes += sizes.map(|st| st.allocated).sum::<u64>();
            }
            let busy = match class {
                Class::Logs => leased(&scratch::logs_lease(&name))?,
                Class::Partial => {
                    leased(&format!("sha256:{name}"))? || leased(&format!("sha512:{name}"))?
                }
                // A build replaces it when it ends.
                _ => false,
            };
            let cost = match class {
                Class::Partial => bytes as f64 / DOWNLOAD,
                Class::StatCaches => bytes as f64 / FILL,
                _ => 0.0,
            };
            items.push(Item {
                class,
                title: String::new(),
                bytes,
                used: used.min(now),
                cost,
                held: if busy { Held::Process } else { Held::Free },
                of_image: false,
                name,
            });
        }
    }
    Ok(items)
}

/// Where the files of a class are.
pub(super) fn folder_of(class: Class) -> &'static str {
    match class {
        Class::Layers => "layers-v1",
        Class::Content | Class::Downloads => "content-v1",
        Class::Mounts => "mounts-v1",
        Class::StatCaches => "stat-v1",
        Class::Logs => "logs-v1",
        Class::Partial => "content-v1/partial",
    }
}
