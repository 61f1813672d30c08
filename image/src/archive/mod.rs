//! Image archives: what `docker save` writes, in its old and its new form, and OCI layouts as
//! directories and tars.

mod docker;
mod layout;
mod source;
mod write;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use kiln_sys::FsError;

use crate::compression::Compression;
use crate::config::ConfigError;
use crate::digest::Digest;
use crate::layer::LayerError;
use crate::manifest::ManifestError;
use crate::reference::ReferenceError;

pub use docker::{DockerArchive, DockerImage, DockerLayer};
pub use layout::{OciLayout, image_name, ref_name};
use source::Source;
pub use write::{ImageEntry, OciDirWriter, OciTarWriter};

/// The full reference of an image in an index, as containerd and Docker write it.
pub const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";
/// The tag or name of an image in an index (OCI image specification, "Annotation Keys").
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The folder of an OCI layout in which files are named by their digests.
const BLOBS: &str = "blobs";
const INDEX_FILE: &str = "index.json";
const LAYOUT_FILE: &str = "oci-layout";
const MANIFEST_FILE: &str = "manifest.json";
const REPOSITORIES_FILE: &str = "repositories";

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file failed.
    #[error("`{path}`")]
    Io {
        /// The path, inside the archive or of it.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive's tar is broken.
    #[error("archive is not a readable tar")]
    Tar(#[from] LayerError),
    /// The archive is compressed and must be unpacked to a scratch file first.
    #[error("archive is compressed with {0}")]
    Compressed(Compression),
    /// Neither of the known forms.
    #[error("it is neither a docker-archive, as `docker save` writes it, nor an OCI layout")]
    UnknownFormat,
    /// The layout's version is not 1.
    #[error("OCI layout has the unsupported version `{0}`")]
    LayoutVersion(String),
    /// A file is named but not there.
    #[error("archive has no file `{0}`")]
    Missing(String),
    /// A path that leaves the archive, or links in a circle.
    #[error("archive has the unsafe path `{0}`")]
    UnsafePath(String),
    /// A file is larger than it can sensibly be.
    #[error("`{path}` in the archive has more than {limit} bytes")]
    TooLarge {
        /// The file.
        path: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// A file is not the JSON that it should be.
    #[error("`{path}` in the archive is not valid")]
    Json {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file has another content than its name says.
    #[error("`{path}` in the archive has the digest {found}")]
    Mismatch {
        /// The file.
        path: String,
        /// Its digest.
        found: Digest,
    },
    /// A manifest or index is broken.
    #[error("archive has a broken manifest")]
    Manifest(#[from] ManifestError),
    /// A config is broken.
    #[error("archive has a broken image config")]
    Config(#[from] ConfigError),
    /// An image name is broken.
    #[error("archive has the invalid image name `{name}`")]
    Name {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: ReferenceError,
    },
    /// Layers and diff ids do not fit together.
    #[error("image in the archive has {layers} layers, but its config has {diff_ids} diff ids")]
    LayerCount {
        /// Layers in the archive.
        layers: usize,
        /// Diff ids in the config.
        diff_ids: usize,
    },
}

impl From<FsError> for ArchiveError {
    fn from(error: FsError) -> Self {
        Self::io(error.path)(error.source)
    }
}

impl ArchiveError {
    fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().display().to_string();
        |source| Self::Io { path, source }
    }
}

/// An opened archive.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one exists per archive")]
pub enum Archive {
    /// An OCI layout, which the newer `docker save` also writes.
    Oci(OciLayout),
    /// The older output of `docker save`.
    Docker(DockerArchive),
}

impl Archive {
    /// Opens a directory or an uncompressed tar.
    ///
    /// # Errors
    /// When it cannot be read or is not an archive; [`ArchiveError::Compressed`] for a compressed
    /// tar, which [`Archive::from_reader`] takes.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let metadata = std::fs::metadata(path).map_err(ArchiveError::io(path))?;
        if metadata.is_dir() {
            let source = Source::directory(path)?;
            if !source.contains(LAYOUT_FILE) && !source.contains(INDEX_FILE) {
                return Err(ArchiveError::UnknownFormat);
            }
            return OciLayout::from_source(source).map(Self::Oci);
        }
        if !metadata.is_file() {
            let kind = io::Error::from(io::ErrorKind::InvalidInput);
            return Err(ArchiveError::io(path)(kind));
        }
        Self::from_file(File::open(path).map_err(ArchiveError::io(path))?)
    }

    /// Opens an uncompressed tar; the file's position does not matter.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn from_file(file: File) -> Result<Self, ArchiveError> {
        let source = Source::tar(file)?;
        // The new form has the files of both; the layout says more, so it wins.
        if source.contains(LAYOUT_FILE) && source.contains(INDEX_FILE) {
            OciLayout::from_source(source).map(Self::Oci)
        } else if source.contains(MANIFEST_FILE) {
            DockerArchive::from_source(source).map(Self::Docker)
        } else {
            Err(ArchiveError::UnknownFormat)
        }
    }

    /// Unpacks a stream, compressed or not, to a scratch file of the caller and opens that. More
    /// than `limit` bytes are refused.
    ///
    /// # Errors
    /// As [`Archive::open`], and when the stream or the scratch file fails.
    pub fn from_reader(
        input: Box<dyn Read + Send>,
        mut scratch: File,
        limit: u64,
    ) -> Result<Self, ArchiveError> {
        let unpack = |scratch: &mut File| {
            let (_, plain) = crate::compression::decoder(input)?;
            io::copy(&mut plain.take(limit.saturating_add(1)), scratch)
        };
        let size = unpack(&mut scratch).map_err(ArchiveError::io("archive"))?;
        if size > limit {
            return Err(ArchiveError::TooLarge {
                path: "archive".into(),
                limit,
            });
        }
        Self::from_file(scratch)
    }
}

/// Where an OCI layout keeps a blob.
fn blob_path(digest: &Digest) -> String {
    format!("{BLOBS}/{}/{}", digest.algorithm(), digest.hex())
}

#[cfg(test)]
mod tests;
