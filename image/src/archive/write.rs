//! Writes OCI layouts as tars, optionally with what `docker load` needs, and as directories.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use kiln_sys::RootDir;
use serde::Serialize;

use super::{
    ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, ArchiveError, INDEX_FILE, LAYOUT_FILE,
    MANIFEST_FILE, REPOSITORIES_FILE, blob_path,
};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::layer::{Entry, EntryKind, LayerWriter};
use crate::manifest::{ImageIndex, MAX_MANIFEST_SIZE, Manifest};
use crate::reference::Reference;
use crate::verify::VerifyingReader;

const LAYOUT_JSON: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image for `docker load`: all blobs that it names must have been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageEntry {
    /// Its tags; those without a tag are left out of what Docker reads.
    pub names: Vec<Reference>,
    /// The digest of its config.
    pub config: Digest,
    /// The digests of its layers as written, lowest first.
    pub layers: Vec<Digest>,
}

/// Writes a layout as a tar. The bytes depend on what is written and in which order, on nothing
/// else.
#[derive(Debug)]
pub struct OciTarWriter<W: Write> {
    tar: LayerWriter<W>,
    directories: HashSet<String>,
    blobs: HashSet<Digest>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestEntry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl<W: Write> OciTarWriter<W> {
    /// Starts a layout.
    pub fn new(output: W) -> Self {
        let mut tar = LayerWriter::new(output);
        tar.set_whiteouts(false);
        Self {
            tar,
            directories: HashSet::new(),
            blobs: HashSet::new(),
        }
    }

    /// Whether a blob was written already.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.blobs.contains(digest)
    }

    /// Writes a blob, unless it was written before; `data` is read and verified only if not.
    ///
    /// # Errors
    /// When the output or `data` fails, or `data` is not what the descriptor says. The output is
    /// of no use then.
    pub fn blob(
        &mut self,
        descriptor: &Descriptor,
        data: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        if self.blobs.contains(&descriptor.digest) {
            return Ok(());
        }
        let parent = format!("blobs/{}", descriptor.digest.algorithm());
        for directory in ["blobs".into(), parent] {
            if !self.directories.contains(&directory) {
                let entry = Entry::new(directory.as_str(), EntryKind::Directory, 0o755);
                self.tar
                    .append(&entry, &mut io::empty())
                    .map_err(ArchiveError::io(&directory))?;
                self.directories.insert(directory);
            }
        }
        let mut data = VerifyingReader::new(data, descriptor);
        self.file(&blob_path(&descriptor.digest), descriptor.size, &mut data)?;
        self.blobs.insert(descriptor.digest.clone());
        Ok(())
    }

    /// Ends the layout with an index of the given manifests and indexes.
    ///
    /// # Errors
    /// When the output fails or an entry of the index was not written as a blob.
    pub fn finish(self, manifests: Vec<Descriptor>) -> Result<W, ArchiveError> {
        self.finish_with(manifests, None)
    }

    /// Like [`OciTarWriter::finish`], with the files that `docker load` of any version and other
    /// tools for docker archives read.
    ///
    /// # Errors
    /// As [`OciTarWriter::finish`], also for the blobs of `images`.
    pub fn finish_docker(
        self,
        manifests: Vec<Descriptor>,
        images: &[ImageEntry],
    ) -> Result<W, ArchiveError> {
        self.finish_with(manifests, Some(images))
    }

    fn finish_with(
        mut self,
        manifests: Vec<Descriptor>,
        images: Option<&[ImageEntry]>,
    ) -> Result<W, ArchiveError> {
        let named = manifests.iter().map(|entry| &entry.digest);
        let docker = images.unwrap_or_default().iter();
        let parts = docker.flat_map(|image| std::iter::once(&image.config).chain(&image.layers));
        if let Some(missing) = named
            .chain(parts)
            .find(|digest| !self.blobs.contains(*digest))
        {
            return Err(ArchiveError::Missing(blob_path(missing)));
        }
        self.small(
            INDEX_FILE,
            &compact(INDEX_FILE, &ImageIndex::oci(manifests))?,
        )?;
        if let Some(images) = images {
            let items: Vec<_> = images.iter().map(manifest_item).collect();
            self.small(MANIFEST_FILE, &compact(MANIFEST_FILE, &items)?)?;
        }
        self.small(LAYOUT_FILE, LAYOUT_JSON)?;
        let repositories = repositories(images.unwrap_or_default());
        if !repositories.is_empty() {
            self.small(
                REPOSITORIES_FILE,
                &compact(REPOSITORIES_FILE, &repositories)?,
            )?;
        }
        self.tar.finish().map_err(ArchiveError::io("archive"))
    }

    fn small(&mut self, path: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.file(path, bytes.len() as u64, &mut &*bytes)
    }

    fn file(&mut self, path: &str, size: u64, data: &mut dyn Read) -> Result<(), ArchiveError> {
        let entry = Entry::new(path, EntryKind::File { size }, 0o644);
        self.tar
            .append(&entry, data)
            .map_err(ArchiveError::io(path))
    }
}

fn manifest_item(image: &ImageEntry) -> ManifestEntry {
    let tagged = image
        .names
        .iter()
        .filter_map(|name| name.tag().map(|tag| (name, tag)));
    ManifestEntry {
        config: blob_path(&image.config),
        repo_tags: tagged
            .map(|(name, tag)| format!("{}:{tag}", name.familiar_name()))
            .collect(),
        layers: image.layers.iter().map(blob_path).collect(),
    }
}

/// Name to tag to top layer, for the oldest readers.
fn repositories(images: &[ImageEntry]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut repositories: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for image in images {
        let Some(top) = image.layers.last() else {
            continue;
        };
        for name in &image.names {
            if let Some(tag) = name.tag() {
                let tags = repositories.entry(name.familiar_name()).or_default();
                tags.insert(tag.to_owned(), top.hex().to_owned());
            }
        }
    }
    repositories
}

fn compact(path: &str, value: &impl Serialize) -> Result<Vec<u8>, ArchiveError> {
    serde_json::to_vec(value).map_err(|source| ArchiveError::Json {
        path: path.into(),
        source,
    })
}

/// Writes a layout to a directory, which may hold one already. Links in it do not lead out of it: somebody
/// else may have put them there.
#[derive(Debug)]
pub struct OciDirWriter {
    root: RootDir,
}

impl OciDirWriter {
    /// Makes the directory if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(root: &Path) -> Result<Self, ArchiveError> {
        fs::create_dir_all(root).map_err(ArchiveError::io(root))?;
        let root = RootDir::open_trusted(root)?;
        Ok(Self { root })
    }

    /// Writes a blob; it appears under its name only when it is complete and verified.
    ///
    /// # Errors
    /// When the directory or `data` fails, or `data` is not what the descriptor says.
    pub fn blob(
        &mut self,
        descriptor: &Descriptor,
        data: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        let path = blob_path(&descriptor.digest);
        self.replace(&path, &mut VerifyingReader::new(data, descriptor))
    }

    /// Adds entries to the layout's index. They replace entries of the same name and of the same
    /// digest.
    ///
    /// # Errors
    /// When the directory fails, an entry's blob is not there, or the present index is broken.
    pub fn finish(self, manifests: Vec<Descriptor>) -> Result<(), ArchiveError> {
        for entry in &manifests {
            let path = blob_path(&entry.digest);
            let is_there = self
                .root
                .stat(Path::new(&path))
                .is_ok_and(|st| st.is_file());
            if !is_there {
                return Err(ArchiveError::Missing(path));
            }
        }
        let mut index = self.present()?;
        let names = |entry: &Descriptor| {
            [ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME]
                .map(|key| entry.annotations.get(key).cloned())
        };
        index.manifests.retain(|old| {
            manifests.iter().all(|new| {
                let named = names(old) == names(new) && names(new).iter().any(Option::is_some);
                !named && (old.digest != new.digest || names(old) != names(new))
            })
        });
        index.manifests.extend(manifests);
        self.replace(LAYOUT_FILE, &mut &*LAYOUT_JSON)?;
        let json = compact(INDEX_FILE, &index)?;
        self.replace(INDEX_FILE, &mut json.as_slice())
    }

    /// The index that is there already.
    fn present(&self) -> Result<ImageIndex, ArchiveError> {
        let json = match self
            .root
            .read(Path::new(INDEX_FILE), MAX_MANIFEST_SIZE as u64)
        {
            Ok(json) => json,
            Err(error) if error.is_not_found() => return Ok(ImageIndex::oci(Vec::new())),
            Err(error) => return Err(error.into()),
        };
        match Manifest::parse(&json, None)? {
            Manifest::Index(index) => Ok(index.value),
            Manifest::Image(_) => Err(ArchiveError::UnknownFormat),
        }
    }

    /// Writes a file beside its place and moves it there.
    fn replace(&self, path: &str, data: &mut dyn Read) -> Result<(), ArchiveError> {
        let pending = self.root.pending_file(Path::new(path), 0o666)?;
        io::copy(data, &mut pending.file()).map_err(ArchiveError::io(path))?;
        Ok(pending.keep()?)
    }
}
