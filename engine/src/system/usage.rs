//! What takes how much room.

use std::collections::BTreeSet;

use kiln_cache::{Class, Held, Item, Store};
use kiln_sys::system;

use super::System;
use crate::error::Result;

/// What takes how much room.
#[derive(Clone, Debug)]
pub struct DiskUsage {
    /// Sums by kind.
    pub rows: Vec<UsageRow>,
    /// Every thing, by kind, the largest first.
    pub items: Vec<Item>,
    /// Bytes of the disk that are free, and all, where the disk tells.
    pub disk: Option<(u64, u64)>,
}

/// The sum of one kind of thing.
#[derive(Clone, Debug)]
pub struct UsageRow {
    /// What they are called.
    pub name: &'static str,
    /// How many there are.
    pub total: usize,
    /// How many of them something holds.
    pub active: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that can be freed.
    pub reclaimable: u64,
}

/// The rows, by what they are called.
const ROWS: [(&str, &[Class]); 5] = [
    ("Images", &[]),
    ("Build Cache", &[Class::Layers]),
    ("Cache Mounts", &[Class::Mounts]),
    (
        "Content",
        &[Class::Content, Class::Downloads, Class::Partial],
    ),
    ("Logs and Stat Caches", &[Class::Logs, Class::StatCaches]),
];

impl System<'_> {
    /// What takes how much room in the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let store = self.engine.session()?;
        store.cache_mounts().measure_mounts()?;
        let mut items = store.maintenance().items()?;
        let rows = rows(&store, &items)?;
        items.sort_by(|a, b| (a.class, b.bytes, &a.name).cmp(&(b.class, a.bytes, &b.name)));
        let root = self.engine.root();
        let disk = match (system::free_bytes(root), system::disk_bytes(root)) {
            (Ok(free), Ok(all)) => Some((free, all)),
            _ => None,
        };
        Ok(DiskUsage { rows, items, disk })
    }
}

/// Whether a thing counts with the images.
fn is_of_image(item: &Item) -> bool {
    item.of_image && matches!(item.class, Class::Layers | Class::Content)
}

fn rows(store: &Store, items: &[Item]) -> Result<Vec<UsageRow>> {
    let mut rows = Vec::new();
    for (name, classes) in ROWS {
        let of_images = classes.is_empty();
        let own: Vec<&Item> = items
            .iter()
            .filter(|i| match of_images {
                true => is_of_image(i),
                false => classes.contains(&i.class) && !is_of_image(i),
            })
            .collect();
        let free = |i: &&&Item| match of_images {
            true => i.held != Held::Process,
            false => i.held == Held::Free,
        };
        let (mut total, mut active) = (own.len(), own.len() - own.iter().filter(free).count());
        if of_images {
            let images = store.images()?;
            let ids: BTreeSet<&str> = images.iter().map(|i| i.config.as_str()).collect();
            total = ids.len();
            let used = |i: &&Item| i.held == Held::Process && ids.contains(i.name.as_str());
            active = items.iter().filter(used).count();
        }
        rows.push(UsageRow {
            name,
            total,
            active,
            bytes: own.iter().map(|i| i.bytes).sum(),
            reclaimable: own.iter().filter(free).map(|i| i.bytes).sum(),
        });
    }
    Ok(rows)
}
