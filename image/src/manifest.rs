//! Image manifests and indexes, parsed with their raw bytes beside them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::descriptor::{Descriptor, MAX_BLOB_SIZE, media_type};
use crate::digest::Digest;
use crate::json::{no_text, nullable, some_text};

/// The largest manifest or index that is read: 4 MiB, the limit that registries use.
pub const MAX_MANIFEST_SIZE: usize = 4 << 20;

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// More bytes than [`MAX_MANIFEST_SIZE`].
    #[error("manifest has {0} bytes, more than the limit")]
    TooLarge(usize),
    /// Not the JSON of a manifest.
    #[error("manifest is not valid JSON of a manifest")]
    Json(#[from] serde_json::Error),
    /// Both `layers` and `manifests`: readers could disagree about what was signed
    /// (CVE-2021-41190).
    #[error("manifest has the fields of an image and of an index at once")]
    Ambiguous,
    /// Neither an image nor an index.
    #[error("manifest is neither an image nor an index")]
    Unknown,
    /// The manifest of an artifact in a form of its own (OCI image specification, drafts of 1.1).
    #[error("it is an artifact of type `{0}`, not an image")]
    Artifact(String),
    /// The first schema, which names no content digests of its own.
    #[error("manifest of schema version 1 is not supported")]
    Schema1,
    /// `schemaVersion` is not 2.
    #[error("manifest has schema version {0}, not 2")]
    SchemaVersion(i64),
    /// What was announced is not what is there.
    #[error("manifest has media type `{found}`, but `{expected}` was announced")]
    MediaType {
        /// What the transport or descriptor said.
        expected: String,
        /// What the manifest says or is.
        found: String,
    },
    /// A descriptor announces an impossible size.
    #[error("manifest names blob {0} with an absurd size")]
    BlobSize(Digest),
}

/// The manifest of an image for one platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: i64,
    /// The manifest's own media type; Docker always writes it, OCI allows to leave it out.
    #[serde(
        default,
        deserialize_with = "some_text",
        skip_serializing_if = "no_text"
    )]
    pub media_type: Option<String>,
    /// The kind of artifact.
    #[serde(
        default,
        deserialize_with = "some_text",
        skip_serializing_if = "no_text"
    )]
    pub artifact_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form metadata.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl ImageManifest {
    /// An OCI manifest of a config and layers.
    #[must_use]
    pub fn oci(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// What kind of artifact the manifest describes; none if it is that of an image. Signatures and
    /// attestations may have an image's config, and are told by what stands where layers would be.
    #[must_use]
    pub fn artifact_kind(&self) -> Option<String> {
        let config = self.config.media_type.as_str();
        let first = self.layers.first().map(|layer| layer.media_type.as_str());
        let is_tar = |kind: &str| {
            media_type::is_layer(kind) || matches!(kind, "" | "application/octet-stream")
        };
        let has_layer = first.is_none() || self.layers.iter().any(|l| is_tar(&l.media_type));
        if media_type::may_be_config(config) && has_layer {
            return None;
        }
        let own = self.artifact_type.as_deref();
        let config = Some(config)
            .filter(|kind| !media_type::may_be_config(kind) && *kind != media_type::OCI_EMPTY);
        let kind = own.or(config).or(first).unwrap_or(media_type::OCI_EMPTY);
        Some(shown_kind(kind))
    }

    /// The manifest as JSON, indented by two spaces as other builders write it.
    ///
    /// # Errors
    /// None in practice: all keys are strings.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        Ok(serde_json::to_vec_pretty(self)?)
    }
}

/// A list of manifests, usually one per platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: i64,
    /// The index's own media type.
    #[serde(
        default,
        deserialize_with = "some_text",
        skip_serializing_if = "no_text"
    )]
    pub media_type: Option<String>,
    /// The kind of artifact.
    #[serde(
        default,
        deserialize_with = "some_text",
        skip_serializing_if = "no_text"
    )]
    pub artifact_type: Option<String>,
    /// The manifests.
    #[serde(default, deserialize_with = "nullable")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form metadata.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl ImageIndex {
    /// An OCI index of manifests.
    #[must_use]
    pub fn oci(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.into()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// The index as JSON, indented by two spaces as other builders write it.
    ///
    /// # Errors
    /// None in practice: all keys are strings.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        Ok(serde_json::to_vec_pretty(self)?)
    }
}

/// A parsed value, the exact bytes that it came from, and their digest.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<T> {
    /// The value.
    pub value: T,
    /// The bytes as they were read.
    pub raw: Vec<u8>,
    /// The SHA-256 digest of `raw`.
    pub digest: Digest,
    /// The effective media type.
    pub media_type: String,
}

impl<T> Parsed<T> {
    /// The descriptor of the raw bytes.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(
            self.media_type.as_str(),
            self.digest.clone(),
            self.raw.len() as u64,
        )
    }
}

/// A manifest of either kind.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "short-lived, and few exist at a time"
)]
pub enum Manifest {
    /// One image.
    Image(Parsed<ImageManifest>),
    /// A list of manifests.
    Index(Parsed<ImageIndex>),
}

/// The fields by which the kinds are told apart.
#[derive(Deserialize)]
struct Probe {
    #[serde(rename = "schemaVersion", default)]
    schema_version: Option<i64>,
    #[serde(rename = "mediaType", default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(rename = "fsLayers", default)]
    fs_layers: Option<serde::de::IgnoredAny>,
    #[serde(rename = "artifactType", default)]
    artifact_type: Option<String>,
}

impl Manifest {
    /// Parses a manifest; `content_type` is what the transport or the descriptor announced.
    ///
    /// # Errors
    /// When it is too large, no JSON, ambiguous, of schema 1, or not of the announced type.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_SIZE {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        // Parameters such as `; charset=utf-8` say nothing about the kind. Servers that know
        // nothing about manifests send generic types, which announce nothing.
        let announced = content_type
            .map(|text| text.split(';').next().unwrap_or_default().trim())
            .filter(|text| {
                !matches!(
                    *text,
                    "" | "application/json" | "text/plain" | "application/octet-stream"
                )
            });
        if announced.is_some_and(|text| media_type::DOCKER_SCHEMA1.contains(&text)) {
            return Err(ManifestError::Schema1);
        }
        let probe: Probe = serde_json::from_slice(bytes)?;
        if probe.fs_layers.is_some() || probe.schema_version == Some(1) {
            return Err(ManifestError::Schema1);
        }
        if let Some(version) = probe.schema_version.filter(|version| *version != 2) {
            return Err(ManifestError::SchemaVersion(version));
        }
        let image = probe.layers.is_some() || probe.config.is_some();
        let index = probe.manifests.is_some();
        let own = probe.media_type.filter(|text| !text.is_empty());
        if let (Some(own), Some(announced)) = (own.as_deref(), announced)
            && own != announced
        {
            return Err(ManifestError::MediaType {
                expected: announced.into(),
                found: own.into(),
            });
        }
        let effective = own.as_deref().or(announced);
        match (image, index) {
            (true, true) => Err(ManifestError::Ambiguous),
            (true, false) => {
                check_kind(effective, media_type::is_manifest, media_type::OCI_MANIFEST)?;
                let value: ImageManifest = serde_json::from_slice(bytes)?;
                check_sizes(std::iter::once(&value.config).chain(&value.layers))?;
                let kind = effective.unwrap_or(media_type::OCI_MANIFEST).into();
                Ok(Self::Image(parsed(value, bytes, kind)))
            }
            (false, true) => {
                check_kind(effective, media_type::is_index, media_type::OCI_INDEX)?;
                let value: ImageIndex = serde_json::from_slice(bytes)?;
                check_sizes(&value.manifests)?;
                let kind = effective.unwrap_or(media_type::OCI_INDEX).into();
                Ok(Self::Index(parsed(value, bytes, kind)))
            }
            (false, false) if effective == Some(media_type::OCI_ARTIFACT) => {
                let kind = probe.artifact_type.unwrap_or_default();
                Err(ManifestError::Artifact(shown_kind(&kind)))
            }
            (false, false) => Err(ManifestError::Unknown),
        }
    }

    /// The exact bytes.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        match self {
            Self::Image(parsed) => &parsed.raw,
            Self::Index(parsed) => &parsed.raw,
        }
    }

    /// The SHA-256 digest of the exact bytes.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        match self {
            Self::Image(parsed) => &parsed.digest,
            Self::Index(parsed) => &parsed.digest,
        }
    }

    /// The effective media type.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match self {
            Self::Image(parsed) => &parsed.media_type,
            Self::Index(parsed) => &parsed.media_type,
        }
    }

    /// The descriptor of the exact bytes.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        match self {
            Self::Image(parsed) => parsed.descriptor(),
            Self::Index(parsed) => parsed.descriptor(),
        }
    }
}

fn parsed<T>(value: T, bytes: &[u8], media_type: String) -> Parsed<T> {
    Parsed {
        value,
        raw: bytes.to_vec(),
        digest: Digest::of(bytes),
        media_type,
    }
}

fn check_kind(
    effective: Option<&str>,
    fits: fn(&str) -> bool,
    shape: &str,
) -> Result<(), ManifestError> {
    match effective {
        Some(kind) if !fits(kind) => Err(ManifestError::MediaType {
            expected: kind.into(),
            found: shape.into(),
        }),
        _ => Ok(()),
    }
}

fn check_sizes<'a>(
    descriptors: impl IntoIterator<Item = &'a Descriptor>,
) -> Result<(), ManifestError> {
    match descriptors
        .into_iter()
        .find(|descriptor| descriptor.size > MAX_BLOB_SIZE)
    {
        Some(descriptor) => Err(ManifestError::BlobSize(descriptor.digest.clone())),
        None => Ok(()),
    }
}

/// The type of an artifact as messages name it: whoever published it may write any text there.
pub(crate) fn shown_kind(kind: &str) -> String {
    kind.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn blob(size: &str) -> String {
        format!(r#"{{"mediaType":"x","digest":"sha256:{HEX}","size":{size}}}"#)
    }

    #[test]
    fn kinds_are_told_apart() {
        let blob = blob("3");
        let image = format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[{blob}]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{blob}],"layers":null}}"#);
        let typed = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{blob},"layers":null}}"#,
            media_type::DOCKER_MANIFEST
        );
        for (json, content_type, expected) in [
            (&image, None, media_type::OCI_MANIFEST),
            (&image, Some("application/json"), media_type::OCI_MANIFEST),
            (
                &image,
                Some(media_type::DOCKER_MANIFEST),
                media_type::DOCKER_MANIFEST,
            ),
            (
                &typed,
                Some(media_type::DOCKER_MANIFEST),
                media_type::DOCKER_MANIFEST,
            ),
            (&index, None, media_type::OCI_INDEX),
            (
                &index,
                Some("application/vnd.oci.image.index.v1+json; q=1"),
                media_type::OCI_INDEX,
            ),
        ] {
            let manifest = Manifest::parse(json.as_bytes(), content_type).unwrap();
            assert_eq!(manifest.media_type(), expected, "{json}");
            assert_eq!(manifest.digest(), &Digest::of(json.as_bytes()));
            assert_eq!(manifest.raw(), json.as_bytes());
        }
    }

    #[test]
    fn refuses_confusion_and_nonsense() {
        let b = blob("3");
        let oci = media_type::OCI_MANIFEST;
        let index = media_type::OCI_INDEX;
        let huge = blob("99999999999999");
        let negative = blob("-1");
        let traversal = r#"{"mediaType":"x","digest":"sha256:../../../etc/passwd","size":1}"#;
        let cases: Vec<(String, Option<&str>)> = vec![
            (
                format!(r#"{{"schemaVersion":2,"config":{b},"layers":[],"manifests":[]}}"#),
                None,
            ),
            (
                format!(r#"{{"schemaVersion":2,"config":{b},"manifests":[{b}]}}"#),
                Some(index),
            ),
            (
                format!(r#"{{"schemaVersion":2,"layers":[{b}],"manifests":[{b}]}}"#),
                Some(oci),
            ),
            (
                format!(r#"{{"schemaVersion":2,"config":{b},"layers":[]}}"#),
                Some(index),
            ),
            (r#"{"schemaVersion":2,"manifests":[]}"#.into(), Some(oci)),
            (
                format!(r#"{{"schemaVersion":2,"mediaType":"{index}","config":{b},"layers":[]}}"#),
                None,
            ),
            (
                format!(r#"{{"schemaVersion":2,"mediaType":"{oci}","manifests":[]}}"#),
                None,
            ),
            (
                format!(r#"{{"schemaVersion":2,"mediaType":"{oci}","config":{b},"layers":[]}}"#),
                Some(media_type::DOCKER_MANIFEST),
            ),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), None),
            (
                format!(r#"{{"schemaVersion":3,"config":{b},"layers":[]}}"#),
                None,
            ),
            (
                format!(r#"{{"config":{b},"layers":[]}}"#),
                Some(media_type::DOCKER_SCHEMA1[1]),
            ),
            (format!(r#"{{"config":{b},"layers":[],"layers":[]}}"#), None),
            ("{}".into(), None),
            ("[]".into(), None),
            (String::new(), None),
            (
                format!(r#"{{"schemaVersion":2,"config":{b},"layers":[{huge}]}}"#),
                None,
            ),
            (
                format!(r#"{{"schemaVersion":2,"config":{negative},"layers":[]}}"#),
                None,
            ),
            (
                format!(r#"{{"schemaVersion":2,"config":{traversal},"layers":[]}}"#),
                None,
            ),
            (
                format!(
                    r#"{{"schemaVersion":2,"config":{b},"layers":[]}}{}"#,
                    " ".repeat(4 << 20)
                ),
                None,
            ),
        ];
        for (json, content_type) in cases {
            assert!(
                Manifest::parse(json.as_bytes(), content_type).is_err(),
                "{} as {content_type:?}",
                json.get(..200).unwrap_or(&json)
            );
        }
    }

    #[test]
    fn what_is_written_parses_again() {
        let layer = Descriptor::of(media_type::OCI_LAYER_GZIP, b"layer");
        let config = Descriptor::of(media_type::OCI_CONFIG, b"{}");
        let image = ImageManifest::oci(config, vec![layer]);
        let bytes = image.to_json().unwrap();
        assert!(bytes.starts_with(b"{\n  \"schemaVersion\": 2,\n  \"mediaType\": \""));
        let Manifest::Image(parsed) = Manifest::parse(&bytes, None).unwrap() else {
            panic!()
        };
        assert_eq!(parsed.value, image);
        let index = ImageIndex::oci(vec![parsed.descriptor().with_annotation("a", "b")]);
        let bytes = index.to_json().unwrap();
        let Manifest::Index(parsed) = Manifest::parse(&bytes, None).unwrap() else {
            panic!()
        };
        assert_eq!(parsed.value, index);
    }
}
