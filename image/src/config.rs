//! The image config: what a container of the image runs, and the layers that the image is made of
//! (OCI image specification, "Image Configuration", with Docker's additions).
//!
//! Written in the order in which Docker and BuildKit write it; fields that are not known here
//! survive a round trip, and `null` is read as an empty value.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::digest::{ChainId, DiffId};
use crate::json::{name_set, no_text, nullable, some_text, zero};
use crate::platform::Platform;

/// The largest config that is read: 8 MiB.
pub const MAX_CONFIG_SIZE: usize = 8 << 20;

/// Why a config was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// More bytes than [`MAX_CONFIG_SIZE`].
    #[error("image config has {0} bytes, more than the limit")]
    TooLarge(usize),
    /// Not the JSON of an image config.
    #[error("image config is not valid JSON of an image config")]
    Json(#[from] serde_json::Error),
}

/// The config of an image.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct ImageConfig {
    /// When the image was made.
    #[serde(default)]
    pub created: Option<Timestamp>,
    /// Who made it.
    #[serde(default, deserialize_with = "some_text")]
    pub author: Option<String>,
    /// Processor architecture.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// Variant of the architecture.
    #[serde(default, deserialize_with = "some_text")]
    pub variant: Option<String>,
    /// Operating system.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(rename = "os.version", default, deserialize_with = "some_text")]
    pub os_version: Option<String>,
    /// Features of the operating system (Windows).
    #[serde(rename = "os.features", default, deserialize_with = "nullable")]
    pub os_features: Vec<String>,
    /// What containers start with.
    #[serde(default, deserialize_with = "nullable")]
    pub config: ContainerConfig,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub rootfs: RootFs,
    /// How each layer came about, oldest first.
    #[serde(default, deserialize_with = "nullable")]
    pub history: Vec<History>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// One top-level field on its way out.
enum Field<'a> {
    Text(&'a str),
    Texts(&'a [String]),
    Time(Timestamp),
    Container(&'a ContainerConfig),
    RootFs(&'a RootFs),
    History(&'a [History]),
    Other(&'a Value),
}

impl Serialize for ImageConfig {
    // Docker and BuildKit write the top level sorted by name, extra fields among the known ones.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields: BTreeMap<&str, Field<'_>> = self
            .extra
            .iter()
            .map(|(name, value)| (name.as_str(), Field::Other(value)))
            .collect();
        let optional = [
            ("author", &self.author),
            ("variant", &self.variant),
            ("os.version", &self.os_version),
        ];
        for name in [
            "author",
            "variant",
            "os.version",
            "os.features",
            "created",
            "history",
        ] {
            fields.remove(name);
        }
        for (name, value) in optional {
            if let Some(text) = value.as_deref().filter(|text| !text.is_empty()) {
                fields.insert(name, Field::Text(text));
            }
        }
        fields.insert("architecture", Field::Text(&self.architecture));
        fields.insert("os", Field::Text(&self.os));
        fields.insert("config", Field::Container(&self.config));
        fields.insert("rootfs", Field::RootFs(&self.rootfs));
        if let Some(created) = self.created {
            fields.insert("created", Field::Time(created));
        }
        if !self.os_features.is_empty() {
            fields.insert("os.features", Field::Texts(&self.os_features));
        }
        if !self.history.is_empty() {
            fields.insert("history", Field::History(&self.history));
        }
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for (name, field) in fields {
            match field {
                Field::Text(value) => map.serialize_entry(name, value)?,
                Field::Texts(value) => map.serialize_entry(name, value)?,
                Field::Time(value) => map.serialize_entry(name, &value)?,
                Field::Container(value) => map.serialize_entry(name, value)?,
                Field::RootFs(value) => map.serialize_entry(name, value)?,
                Field::History(value) => map.serialize_entry(name, value)?,
                Field::Other(value) => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

impl ImageConfig {
    /// An empty config for a platform.
    #[must_use]
    pub fn for_platform(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            os_version: platform.os_version.clone(),
            os_features: platform.os_features.clone(),
            ..Self::default()
        }
    }

    /// Reads a config.
    ///
    /// # Errors
    /// When it is larger than [`MAX_CONFIG_SIZE`] or not the JSON of a config.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > MAX_CONFIG_SIZE {
            return Err(ConfigError::TooLarge(bytes.len()));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The config as compact JSON; its digest is the image's id.
    ///
    /// # Errors
    /// None in practice: all keys are strings.
    pub fn to_json(&self) -> Result<Vec<u8>, ConfigError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Makes it the config of an image for `platform`. A variant or version that this leaves open
    /// stays where system and architecture are the same.
    pub fn set_platform(&mut self, platform: &Platform) {
        let is_same = (&self.os, &self.architecture) == (&platform.os, &platform.architecture);
        self.os.clone_from(&platform.os);
        self.architecture.clone_from(&platform.architecture);
        if platform.variant.is_some() || !is_same {
            self.variant.clone_from(&platform.variant);
        }
        if platform.os_version.is_some() || !is_same {
            self.os_version.clone_from(&platform.os_version);
        }
        if !platform.os_features.is_empty() {
            self.os_features.clone_from(&platform.os_features);
        }
    }

    /// The platform that the image is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            ..Platform::new(&self.os, &self.architecture, self.variant.as_deref())
        }
    }

    /// The chain id of all layers; `None` for an image without layers.
    #[must_use]
    pub fn chain_id(&self) -> Option<ChainId> {
        ChainId::of(&self.rootfs.diff_ids)
    }
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default = "RootFs::layers")]
    pub kind: String,
    /// Digests of the uncompressed layer tars, lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<DiffId>,
}

impl RootFs {
    fn layers() -> String {
        "layers".into()
    }
}

impl Default for RootFs {
    fn default() -> Self {
        Self {
            kind: Self::layers(),
            diff_ids: Vec::new(),
        }
    }
}

/// One step of an image's history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When the step ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// The command that made the layer.
    #[serde(
        default,
        deserialize_with = "some_text",
        skip_serializing_if = "no_text"
    )]
    pub created_by: Option<String>,
    /// Who made it.
    #[serde(
        default,
        deserialize_with = "some_text",
        skip_serializing_if = "no_text"
    )]
    pub author: Option<String>,
    /// Free text.
    #[serde(
        default,
        deserialize_with = "some_text",
        skip_serializing_if = "no_text"
    )]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub empty_layer: bool,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// What a container of the image starts with, unless it is told otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// User, optionally with a group, by name or number.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// Ports such as `80/tcp`.
    #[serde(default, with = "name_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// Environment as `NAME=value`, in order.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// The fixed front of the command line.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub entrypoint: Vec<String>,
    /// The default arguments, or the whole command line without an entrypoint.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub cmd: Vec<String>,
    /// Paths that get a volume each.
    #[serde(default, with = "name_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// Working directory.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Labels.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks a container to stop.
    #[serde(
        default,
        deserialize_with = "some_text",
        skip_serializing_if = "no_text"
    )]
    pub stop_signal: Option<String>,
    /// Seconds to wait between the stop signal and the kill (Docker's addition).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Whether the command line is already escaped (Windows).
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub args_escaped: bool,
    /// How to find out whether a container works (Docker's addition).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions that run in builds on top of the image (Docker's addition).
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub on_build: Vec<String>,
    /// The shell of shell-form instructions (Docker's addition).
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub shell: Vec<String>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A health check. Zero durations and counts mean "inherit the default".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", args…]` or `["CMD-SHELL", command]`; empty inherits.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub test: Vec<String>,
    /// Nanoseconds between checks.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "zero")]
    pub interval: i64,
    /// Nanoseconds after which a check has failed.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "zero")]
    pub timeout: i64,
    /// Nanoseconds at the start in which failures do not count.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "zero")]
    pub start_period: i64,
    /// Nanoseconds between checks during the start period.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "zero")]
    pub start_interval: i64,
    /// Failures in a row that make a container unhealthy.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "zero")]
    pub retries: i64,
}

#[cfg(test)]
mod tests;
