//! What is known of one image.

use std::collections::BTreeMap;
use std::time::SystemTime;

use kiln_cache::Store;
use kiln_image::{Digest, ImageConfig, Manifest, Reference};

use super::Images;
use super::filter::created;
use super::list::image_bytes;
use crate::error::Result;

/// All facts about an image.
#[derive(Clone, Debug)]
pub struct ImageDetails {
    /// Digest of its config.
    pub id: Digest,
    /// Its names.
    pub names: Vec<Reference>,
    /// Digest of the manifest that it was pulled by, or that has its annotations.
    pub manifest: Option<Digest>,
    /// Its config.
    pub config: ImageConfig,
    /// The same as it is written.
    pub raw_config: serde_json::Value,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// Bytes of its files, as far as its layers are here.
    pub bytes: u64,
}

/// How an image was made.
#[derive(Clone, Debug)]
pub struct ImageHistory {
    /// Digest of its config.
    pub id: Digest,
    /// The lines of its history, the oldest first.
    pub lines: Vec<ImageHistoryLine>,
}

/// One line of an image's history.
#[derive(Clone, Debug)]
pub struct ImageHistoryLine {
    /// When that was, where the line says so.
    pub created: Option<SystemTime>,
    /// The same, or when the image was made.
    pub since: SystemTime,
    /// What was done.
    pub created_by: String,
    /// Bytes of the layer's files; none without a layer.
    pub bytes: u64,
    /// A comment.
    pub comment: String,
}

impl Images<'_> {
    /// All facts about the image of this name or id.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn inspect(&self, image: &str) -> Result<ImageDetails> {
        let store = self.engine.session()?;
        let found = store.find_image(image)?;
        let names = store.names_of(&found.row.config)?;
        let annotations = match &found.row.manifest {
            Some(manifest) => annotations(&store, manifest),
            None => BTreeMap::new(),
        };
        Ok(ImageDetails {
            names,
            bytes: image_bytes(&store, &found.config)?,
            raw_config: serde_json::from_slice(&found.raw_config)?,
            annotations,
            id: found.row.config,
            manifest: found.row.manifest,
            config: found.config,
        })
    }

    /// How the image of this name or id was made.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn history(&self, image: &str) -> Result<ImageHistory> {
        let store = self.engine.session()?;
        let image = store.find_image(image)?;
        let mut layers = image.config.rootfs.diff_ids.iter();
        let mut lines = Vec::new();
        for line in &image.config.history {
            let layer = match line.empty_layer {
                true => None,
                false => layers.next(),
            };
            let bytes = match layer {
                Some(diff_id) => store.layer_by_diff(diff_id)?.map_or(0, |l| l.bytes),
                None => 0,
            };
            let own = line.created.map(SystemTime::from);
            lines.push(ImageHistoryLine {
                created: own,
                since: own.unwrap_or_else(|| created(&image.config, &image.row)),
                created_by: line.created_by.clone().unwrap_or_default(),
                bytes,
                comment: line.comment.clone().unwrap_or_default(),
            });
        }
        Ok(ImageHistory {
            id: image.row.config,
            lines,
        })
    }
}

/// What the manifest is annotated with. One that is gone or damaged has lost its annotations.
fn annotations(store: &Store, manifest: &Digest) -> BTreeMap<String, String> {
    let raw = store.read_blob(manifest).ok();
    match raw.and_then(|raw| Manifest::parse(&raw, None).ok()) {
        Some(Manifest::Image(image)) => image.value.annotations,
        Some(Manifest::Index(_)) | None => BTreeMap::new(),
    }
}
