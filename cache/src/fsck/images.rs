//! What becomes of images whose parts are damaged.

use std::collections::{BTreeMap, BTreeSet};

use kiln_image::{DiffId, Digest, ImageConfig, Reference};

use super::{Finding, Part};
use crate::error::Result;
use crate::store::{Maintenance, Store};

/// What becomes of an image that has lost something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It cannot be used any more, and a repair takes it out of the list.
    Goes,
    /// A repair leaves it there: what it lost is fetched again when it is needed.
    IsFetched,
}

/// An image that has lost something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HurtImage {
    /// Its id.
    pub id: Digest,
    /// Its names, if it has any.
    pub names: Vec<Reference>,
    /// What it has lost, in words.
    pub lost: Vec<String>,
    /// What becomes of it.
    pub fate: Fate,
}

/// The images of a store before anything is taken out, with what each has lost by then.
pub(super) struct Hurt(BTreeMap<String, HurtImage>);

impl Hurt {
    /// Looks up what images lose by `findings`.
    pub(super) fn by(store: &Store, findings: &[Finding]) -> Result<Self> {
        let names = |part| {
            let of_part = findings.iter().filter(move |f| f.part == part);
            of_part.map(|f| f.name.as_str()).collect::<BTreeSet<_>>()
        };
        let (layers, blobs) = (names(Part::Layer), names(Part::Blob));
        let mut hurt = Self(BTreeMap::new());
        for row in store.images()? {
            let id = row.config.to_string();
            if hurt.0.contains_key(&id) {
                continue;
            }
            let mut image = HurtImage {
                names: store.names_of(&row.config)?,
                id: row.config,
                lost: Vec::new(),
                fate: Fate::IsFetched,
            };
            store.lease(&id)?;
            let config = std::fs::read(store.blob_path(&image.id));
            let config = config.ok().filter(|_| !blobs.contains(id.as_str()));
            match config.and_then(|raw| ImageConfig::parse(&raw).ok()) {
                None => {
                    image.lost.push("its config".into());
                    image.fate = Fate::Goes;
                }
                Some(config) => {
                    for diff_id in &config.rootfs.diff_ids {
                        if !store.maintenance().loses(diff_id, &layers, &blobs)? {
                            continue;
                        }
                        image.lost.push(format!("its layer {diff_id}"));
                        if store.origins_of(diff_id)?.is_empty() {
                            image.fate = Fate::Goes;
                        }
                    }
                }
            }
            // Removed since the list was made, it has lost nothing.
            if image.lost.is_empty() || !store.maintenance().rows_of_image(&image.id)?.is_empty() {
                hurt.0.insert(id, image);
            }
        }
        Ok(hurt)
    }

    /// What is wrong with images: what was found of them, and what becomes of others by that.
    pub(super) fn lost(&self, mut found: Vec<Finding>) -> Vec<Finding> {
        let known: BTreeSet<String> = found.iter().map(|f| f.name.clone()).collect();
        let gone = self.0.iter().filter(|(id, image)| {
            image.fate == Fate::Goes && !image.lost.is_empty() && !known.contains(*id)
        });
        found.extend(gone.map(|(id, image)| Finding {
            part: Part::Image,
            name: id.clone(),
            problem: format!("{} is lost", image.lost.join(", ")),
        }));
        found
    }

    /// Those that have lost anything. `findings` has those that cannot be used, as far as that is
    /// known by now.
    pub(super) fn finish(mut self, findings: &[Finding]) -> Vec<HurtImage> {
        for finding in findings.iter().filter(|f| f.part == Part::Image) {
            if let Some(image) = self.0.get_mut(&finding.name) {
                image.fate = Fate::Goes;
            }
        }
        let all = self.0.into_values();
        all.filter(|i| !i.lost.is_empty() || i.fate == Fate::Goes)
            .collect()
    }
}

impl Maintenance<'_> {
    /// Whether nothing is left of a layer without these layers and blobs.
    fn loses(
        &self,
        diff_id: &DiffId,
        layers: &BTreeSet<&str>,
        blobs: &BTreeSet<&str>,
    ) -> Result<bool> {
        let ids: Vec<String> = {
            let db = self.db();
            let mut query = db.prepare_cached("SELECT id FROM layers WHERE diff_id = ?1")?;
            let rows = query.query_map([diff_id.to_string()], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        let of_blobs = self.blobs_of(diff_id)?;
        let was_there = !ids.is_empty() || !of_blobs.is_empty();
        let is_left = ids.iter().any(|id| !layers.contains(id.as_str()))
            || of_blobs.iter().any(|b| !blobs.contains(b.digest.as_str()));
        Ok(was_there && !is_left)
    }
}
