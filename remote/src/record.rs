//! What a remote keeps of a result.

use std::time::{Duration, SystemTime};

use kiln_image::{Descriptor, DiffId};
use kiln_solver::explain::LabelledInput;
use kiln_solver::key::{Key, TreeDigest};
use serde::{Deserialize, Serialize};

use kiln_cache::{nanos, time};

/// Version of the form. A record of another version is refused.
const VERSION: u32 = 1;
/// How far clocks of hosts may differ.
const WRONG_CLOCK: Duration = Duration::from_secs(24 * 3600);
/// Characters of a name that are kept.
const LONGEST_NAME: usize = 1000;

/// A result of a step on a remote.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteRecord {
    /// The step's key.
    pub key: Key,
    /// Content of the layer.
    pub tree: TreeDigest,
    /// Digest of the layer's tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub tar_size: u64,
    /// Bytes of the layer's files.
    pub bytes: u64,
    /// The clamp of times, in seconds since 1970, with which the layer was packed.
    pub epoch: Option<u64>,
    /// When the layer was made.
    pub created: SystemTime,
    /// When the step ran.
    pub ran_at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Its line for progress.
    pub name: String,
    /// The inputs of its key, for explanations.
    pub inputs: Vec<LabelledInput>,
    /// The blob that holds the layer.
    pub blob: Descriptor,
}

/// The record as JSON; times are nanoseconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordJson {
    version: u32,
    key: String,
    tree: String,
    diff_id: DiffId,
    tar_size: u64,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    created: i64,
    ran_at: i64,
    took: u64,
    name: String,
    inputs: Vec<LabelledInput>,
    blob: Descriptor,
}

impl RemoteRecord {
    pub(crate) fn to_json(&self) -> Result<String, String> {
        serde_json::to_string(&RecordJson {
            version: VERSION,
            key: self.key.to_hex(),
            tree: self.tree.to_hex(),
            diff_id: self.diff_id.clone(),
            tar_size: self.tar_size,
            bytes: self.bytes,
            epoch: self.epoch,
            created: nanos(self.created),
            ran_at: nanos(self.ran_at),
            took: u64::try_from(self.took.as_nanos()).unwrap_or(u64::MAX),
            name: self.name.clone(),
            inputs: self.inputs.clone(),
            blob: self.blob.clone(),
        })
        .map_err(|e| e.to_string())
    }

    pub(crate) fn from_json(text: &str) -> Result<Self, String> {
        let wire: RecordJson = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if wire.version != VERSION {
            return Err(format!("it has version {}", wire.version));
        }
        let bad = |what: &str| format!("its {what} is malformed");
        Ok(Self {
            key: Key::from_hex(&wire.key).ok_or_else(|| bad("key"))?,
            tree: TreeDigest::from_hex(&wire.tree).ok_or_else(|| bad("tree digest"))?,
            diff_id: wire.diff_id,
            tar_size: wire.tar_size,
            bytes: wire.bytes,
            epoch: wire.epoch,
            created: time(wire.created),
            ran_at: time(wire.ran_at),
            took: Duration::from_nanos(wire.took),
            name: wire.name,
            inputs: wire.inputs,
            blob: wire.blob,
        })
    }

    /// The record if it is the one that was asked for, and of this world: blobs that are no layers and
    /// times that no clock is wrong by are refused, and a name is one line of text.
    pub(crate) fn checked(self, key: Key) -> Result<Self, String> {
        if self.key != key {
            return Err("it is that of another key".into());
        }
        if !kiln_image::media_type::is_layer(&self.blob.media_type) {
            return Err(format!(
                "its blob is `{}`",
                self.blob.media_type.escape_debug()
            ));
        }
        let latest = SystemTime::now() + WRONG_CLOCK;
        if self.created > latest || self.ran_at > latest {
            return Err("it is of the future".into());
        }
        let name = self
            .name
            .chars()
            .filter(|c| !c.is_control())
            .take(LONGEST_NAME);
        Ok(Self {
            name: name.collect(),
            ..self
        })
    }
}

/// What a remote keeps of the fingerprint of selected paths of a result, so that whoever copies from
/// the result can tell whether anything changed without having its layers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FingerprintRecord {
    pub(crate) identity: String,
    pub(crate) selection: String,
    pub(crate) fingerprint: String,
}
