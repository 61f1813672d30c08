//! Records inside of an image: its config says under which keys its layers are results of steps.
//!
//! What is there depends on the steps and on nothing else, no time and no host, so an image whose
//! layers are the same keeps its id. Names are those of records on other remotes, under a namespace
//! of their own that no tag is part of: an image may be pushed under any.

use std::collections::{BTreeMap, HashMap};
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use kiln_image::validate::check_config;
use kiln_image::{Descriptor, DiffId, ImageManifest, media_type};
use kiln_solver::key::{Key, TreeDigest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{LOOK_UP, Remote, record_name};
use crate::backend::Backend;
use crate::error::RemoteError;
use crate::limits::ANSWER_TIMEOUT;
use crate::record::RemoteRecord;
use crate::trust::{Sealed, Trust};

/// The field of an image's config.
pub const INLINE_CACHE: &str = "dev.kiln.cache.v1";
const VERSION: u32 = 1;
/// The largest config that is read, in bytes.
const MAX_CONFIG: u64 = kiln_image::config::MAX_CONFIG_SIZE as u64;

/// What an image tells of one of its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineRecord {
    /// The key of the step that made it.
    pub key: Key,
    /// Content of the layer.
    pub tree: TreeDigest,
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub tar_size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct InlineJson {
    version: u32,
    /// By name, and so in one order.
    records: BTreeMap<String, WireRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRecord {
    tree: String,
    diff_id: DiffId,
    tar_size: u64,
}

/// Writes records into images.
#[derive(Clone, Debug)]
pub struct InlineCache {
    namespace: String,
    trust: Trust,
}

impl InlineCache {
    /// `namespace` is that of the host; `trust` signs.
    pub fn new(namespace: &str, trust: Trust) -> Self {
        Self {
            namespace: inline_namespace(namespace),
            trust,
        }
    }

    /// The value of the field [`INLINE_CACHE`]; none if there are no records.
    ///
    /// # Errors
    /// Why it has no JSON form.
    pub fn field(&self, records: &[InlineRecord]) -> Result<Option<Value>, String> {
        if records.is_empty() {
            return Ok(None);
        }
        let wire = |r: &InlineRecord| WireRecord {
            tree: r.tree.to_hex(),
            diff_id: r.diff_id.clone(),
            tar_size: r.tar_size,
        };
        let wire = InlineJson {
            version: VERSION,
            records: records
                .iter()
                .map(|r| (record_name(&self.namespace, r.key), wire(r)))
                .collect(),
        };
        let text = serde_json::to_string(&wire).map_err(|e| e.to_string())?;
        let sealed = self.trust.seal(&self.namespace, text);
        let value = serde_json::to_value(sealed).map_err(|e| e.to_string())?;
        Ok(Some(value))
    }
}

pub(crate) fn inline_namespace(namespace: &str) -> String {
    // No tag has a blank in it.
    format!("{namespace}\ninside of images")
}

/// The records of one image, by name.
#[derive(Debug, Default)]
pub(crate) struct Inline(HashMap<String, FoundRecord>);

#[derive(Debug)]
struct FoundRecord {
    record: WireRecord,
    tree: TreeDigest,
    blob: Descriptor,
    made: SystemTime,
    name: String,
}

impl Inline {
    /// Reads what an image has. Digest and size of the config are checked here.
    fn of_image(
        manifest: &ImageManifest,
        config: &[u8],
        namespace: &str,
        trust: &Trust,
    ) -> Result<Self, String> {
        let config = check_config(manifest, config).map_err(|e| e.to_string())?;
        let Some(field) = config.extra.get(INLINE_CACHE) else {
            return Ok(Self::default());
        };
        let sealed: Sealed = serde_json::from_value(field.clone()).map_err(|e| e.to_string())?;
        let text = trust.open(namespace, &sealed)?;
        let wire: InlineJson = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if wire.version != VERSION {
            return Err(format!("it has version {}", wire.version));
        }
        let mut layers = HashMap::new();
        let steps = config.history.iter().filter(|h| !h.empty_layer);
        let mut steps = steps.map(Some).chain(std::iter::repeat(None));
        for (diff_id, blob) in config.rootfs.diff_ids.iter().zip(&manifest.layers) {
            let step = steps.next().flatten();
            if !media_type::is_foreign_layer(&blob.media_type) {
                layers.insert(diff_id, (blob, step));
            }
        }
        let mut all = HashMap::new();
        for (name, record) in wire.records {
            let tree = TreeDigest::from_hex(&record.tree).ok_or("a tree digest is malformed")?;
            // A tool may have put another layer in its place.
            let Some((blob, step)) = layers.get(&record.diff_id) else {
                continue;
            };
            let made = step.and_then(|s| s.created).or(config.created);
            let words = step.and_then(|s| s.created_by.clone());
            let found = FoundRecord {
                tree,
                blob: Descriptor::new(blob.media_type.clone(), blob.digest.clone(), blob.size),
                made: made.map_or(SystemTime::UNIX_EPOCH, SystemTime::from),
                name: words.unwrap_or_else(|| "a step".into()),
                record,
            };
            all.insert(name, found);
        }
        Ok(Self(all))
    }

    fn get(&self, name: &str, key: Key) -> Option<RemoteRecord> {
        let found = self.0.get(name)?;
        Some(RemoteRecord {
            key,
            tree: found.tree,
            diff_id: found.record.diff_id.clone(),
            tar_size: found.record.tar_size,
            bytes: found.record.tar_size,
            // What is unpacked has the times of the tar.
            epoch: None,
            created: found.made,
            ran_at: found.made,
            // How long the step took is not told: it would make another image each time.
            took: Duration::ZERO,
            name: found.name.clone(),
            inputs: Vec::new(),
            blob: found.blob.clone(),
        })
    }
}

impl Remote {
    /// What the image that the remote is says of a key. Where it is no image, nothing.
    pub(crate) async fn inline(&self, key: Key) -> Result<Option<RemoteRecord>, RemoteError> {
        let (namespace, trust) = (&self.inner.inline_namespace, &self.inner.trust);
        let read = || async {
            let image = self.guarded(LOOK_UP, ANSWER_TIMEOUT, async {
                match &self.inner.backend {
                    Backend::Registry(registry) => registry.image(MAX_CONFIG).await,
                    Backend::Objects(objects) => objects.image(MAX_CONFIG).await,
                }
            });
            let Some((manifest, config)) = image.await? else {
                return Ok(Inline::default());
            };
            let read = Inline::of_image(&manifest, &config, namespace, trust);
            Ok::<_, RemoteError>(read.unwrap_or_else(|why| {
                let refused = self.inner.refused_image.lock();
                *refused.unwrap_or_else(PoisonError::into_inner) = Some(why);
                Inline::default()
            }))
        };
        // Asked once, by whoever comes first; who waits for that goes on with the other records.
        let mut failure = None;
        let first = async {
            read().await.unwrap_or_else(|error| {
                failure = Some(error);
                Inline::default()
            })
        };
        let inline = self.inner.inline.get_or_init(|| first).await;
        if let Some(error) = failure {
            return Err(error);
        }
        Ok(inline.get(&record_name(namespace, key), key))
    }
}
