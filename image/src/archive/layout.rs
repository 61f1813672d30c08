//! Reads OCI layouts (OCI image specification, "OCI Image Layout").

use std::io::Read;

use serde::Deserialize;

use super::source::Source;
use super::{
    ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, ArchiveError, INDEX_FILE, LAYOUT_FILE, blob_path,
};
use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::manifest::{ImageIndex, MAX_MANIFEST_SIZE, Manifest, ManifestError, Parsed};
use crate::reference::Reference;
use crate::verify::VerifyingReader;

/// An OCI layout in a directory or a tar.
#[derive(Debug)]
pub struct OciLayout {
    source: Source,
    index: Parsed<ImageIndex>,
}

#[derive(Deserialize)]
struct LayoutFile {
    #[serde(rename = "imageLayoutVersion", default)]
    version: String,
}

impl OciLayout {
    pub(super) fn from_source(source: Source) -> Result<Self, ArchiveError> {
        let json = source.read(LAYOUT_FILE, 4096)?;
        let layout: LayoutFile =
            serde_json::from_slice(&json).map_err(|source| ArchiveError::Json {
                path: LAYOUT_FILE.into(),
                source,
            })?;
        if !layout.version.starts_with("1.") {
            return Err(ArchiveError::LayoutVersion(
                layout.version.chars().take(40).collect(),
            ));
        }
        let raw = source.read(INDEX_FILE, MAX_MANIFEST_SIZE as u64)?;
        match Manifest::parse(&raw, None)? {
            Manifest::Index(index) => Ok(Self { source, index }),
            Manifest::Image(image) => Err(ArchiveError::Manifest(ManifestError::MediaType {
                expected: media_type::OCI_INDEX.into(),
                found: image.media_type,
            })),
        }
    }

    /// The index of the layout.
    #[must_use]
    pub const fn index(&self) -> &Parsed<ImageIndex> {
        &self.index
    }

    /// Whether a blob is there.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.source.contains(&blob_path(digest))
    }

    /// Opens a blob; the reader fails when size or digest do not match.
    ///
    /// # Errors
    /// When the blob is not there or cannot be opened.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, ArchiveError> {
        let (_, reader) = self.source.open(&blob_path(&descriptor.digest))?;
        Ok(Box::new(VerifyingReader::new(reader, descriptor)))
    }

    /// Reads a small blob, such as a config, and verifies it.
    ///
    /// # Errors
    /// When it is not there, larger than `limit` or not what the descriptor says.
    pub fn read_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let path = blob_path(&descriptor.digest);
        if descriptor.size > limit {
            return Err(ArchiveError::TooLarge { path, limit });
        }
        let mut bytes = Vec::new();
        self.blob(descriptor)?
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(ArchiveError::io(path))?;
        Ok(bytes)
    }

    /// Reads and verifies a manifest or index.
    ///
    /// # Errors
    /// As [`OciLayout::read_blob`], and when it is not of the descriptor's kind.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, ArchiveError> {
        let raw = self.read_blob(descriptor, MAX_MANIFEST_SIZE as u64)?;
        Ok(Manifest::parse(&raw, Some(&descriptor.media_type))?)
    }

    /// The entries of the index that a name or tag stands for: those with this full name, and
    /// those with this reference name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Descriptor> + 'a {
        let full = name.parse::<Reference>().ok();
        self.index.value.manifests.iter().filter(move |entry| {
            ref_name(entry) == Some(name) || (full.is_some() && image_name(entry) == full)
        })
    }
}

/// The full name of an index entry, when one is annotated.
#[must_use]
pub fn image_name(entry: &Descriptor) -> Option<Reference> {
    let full = entry.annotations.get(ANNOTATION_IMAGE_NAME);
    // Some writers put full names into the annotation for tags; a plain tag is no name.
    let reference = || ref_name(entry).filter(|name| name.contains(['/', ':']));
    full.map(String::as_str).or_else(reference)?.parse().ok()
}

/// The reference name of an index entry: usually a tag.
#[must_use]
pub fn ref_name(entry: &Descriptor) -> Option<&str> {
    entry
        .annotations
        .get(ANNOTATION_REF_NAME)
        .map(String::as_str)
}
