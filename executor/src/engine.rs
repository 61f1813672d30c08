//! What is asked of a worker beside its ports, in short: each of these is done by one of its parts.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use kiln_cache::{LayerForm, LayerId, Removed, Scratch, StoredImage};
use kiln_image::archive::Archive;
use kiln_image::{Descriptor, Digest, Platform, Reference};
use kiln_solver::Watch;
use kiln_solver::ports::ResolvedImage;

use crate::compare::{Difference, Repeated};
use crate::error::Result;
use crate::export::{ArchiveForm, ArchiveTarget, Assembled, Assembly, ExportImage, PushWatch};
use crate::images::{Import, Loaded, Pulled};
use crate::output::{LayerRef, Output};
use crate::source::WebFile;
use crate::worker::Worker;

impl Worker {
    /// What was removed to make room since this was last asked.
    pub fn take_removed(&self) -> Removed {
        self.space().take_removed()
    }

    /// Has the results whose layers are in the image exported to the remotes that get only those.
    pub fn leave_result(&self, layers: &[LayerRef]) {
        if let Some(caches) = self.share() {
            caches.export_image(self.store(), layers.iter().filter_map(LayerRef::id));
        }
    }

    /// Has the cache mounts that this build has used and changed exported.
    pub fn leave_mounts(&self) {
        if let Some(caches) = self.share() {
            caches.export_mounts(self.store());
        }
    }

    /// The layers of `layers` in the store, fetched and unpacked where they are not there.
    ///
    /// # Errors
    /// A layer cannot be had.
    pub async fn ready(&self, layers: &[LayerRef]) -> Result<Vec<LayerId>> {
        self.layers().ready(layers).await
    }

    /// Pulls an image with all its layers.
    ///
    /// # Errors
    /// The registry does not have it, or a layer cannot be had.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        watch: Option<Watch>,
    ) -> Result<Pulled> {
        self.images().pull(reference, platform, watch).await
    }

    /// The layers of an image whose metadata is in the store.
    ///
    /// # Errors
    /// The metadata is gone or damaged.
    pub fn image_layers(
        &self,
        from: Option<&Reference>,
        id: &Digest,
        watch: Option<&Watch>,
    ) -> Result<Vec<LayerRef>> {
        self.images().image_layers(from, id, watch)
    }

    /// The config of an image of the store for this platform; none if it has no such image.
    ///
    /// # Errors
    /// An id is ambiguous, or the store cannot be read.
    pub fn find(&self, name: &str, platform: &Platform) -> Result<Option<ResolvedImage>> {
        self.images().find(name, platform)
    }

    /// Takes the images of an archive into the store.
    ///
    /// # Errors
    /// The archive is broken or holds nothing for the platform, or the store failed.
    pub async fn load(&self, archive: Archive, platform: &Platform) -> Result<Vec<Loaded>> {
        self.images().load(archive, platform).await
    }

    /// Makes an image of a tar in any compression and stores it without a name. Gives its id.
    ///
    /// # Errors
    /// The tar is broken, or the store failed.
    pub fn import(&self, input: Box<dyn Read + Send>, import: Import) -> Result<Digest> {
        self.images().import(input, import)
    }

    /// Checks a repository out and gives a directory with its files, and the commit's time in seconds
    /// since 1970.
    ///
    /// # Errors
    /// The address is not understood, `git` is missing, or the repository cannot be had.
    pub async fn git_checkout(
        &self,
        address: &str,
        keep_git_dir: bool,
        checksum: Option<&str>,
    ) -> Result<(Scratch, i64)> {
        let sources = self.sources();
        sources.git_checkout(address, keep_git_dir, checksum).await
    }

    /// Downloads a file, which must have the digest `checksum` if there is one, and opens it.
    ///
    /// # Errors
    /// It cannot be had.
    pub async fn download_file(&self, url: &str, checksum: Option<&str>) -> Result<WebFile> {
        self.sources().download_file(url, checksum).await
    }

    /// Puts an image together and stores its config.
    ///
    /// # Errors
    /// A layer's record is gone, or the store failed.
    pub async fn assemble(&self, assembly: Assembly, squash: bool) -> Result<Assembled> {
        self.exporter().assemble(assembly, squash).await
    }

    /// Gives an image its names; without any it is kept nameless.
    ///
    /// # Errors
    /// The store failed.
    pub fn name_image(
        &self,
        id: &Digest,
        names: &[Reference],
        manifest: Option<&Digest>,
    ) -> Result<()> {
        self.exporter().name_image(id, names, manifest)
    }

    /// Stores a manifest with annotations for an image that was built. Gives its digest.
    ///
    /// # Errors
    /// A layer's record is gone, or the store failed.
    pub fn annotate(
        &self,
        image: &Assembled,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Digest> {
        self.exporter().annotate(image, annotations)
    }

    /// An image of the store as one to be written under these names.
    ///
    /// # Errors
    /// The store's data on it is gone or damaged.
    pub fn exportable(&self, image: &StoredImage, names: Vec<Reference>) -> Result<ExportImage> {
        self.exporter().exportable(image, names)
    }

    /// Writes images as one archive, and gives what the archive says of each.
    ///
    /// # Errors
    /// A layer cannot be had, or the target failed.
    pub async fn write_archive(
        &self,
        images: Vec<ExportImage>,
        form: ArchiveForm,
        layers: Option<LayerForm>,
        target: ArchiveTarget,
    ) -> Result<Vec<Descriptor>> {
        let exporter = self.exporter();
        exporter.write_archive(images, form, layers, target).await
    }

    /// Copies the files of a stack of layers into a directory.
    ///
    /// # Errors
    /// A layer cannot be had, or the directory cannot be written.
    pub async fn write_files(
        &self,
        layers: &[LayerRef],
        dest: &Path,
        epoch: Option<u64>,
    ) -> Result<()> {
        self.exporter().write_files(layers, dest, epoch).await
    }

    /// Writes the files of a stack of layers as one tar.
    ///
    /// # Errors
    /// A layer cannot be had, or `out` failed.
    pub async fn write_tar(
        &self,
        layers: &[LayerRef],
        out: Box<dyn Write + Send>,
        epoch: Option<u64>,
    ) -> Result<()> {
        self.exporter().write_tar(layers, out, epoch).await
    }

    /// Pushes an image under its names, its own layers in this form. Gives its manifest.
    ///
    /// # Errors
    /// A layer cannot be had, or a registry refused something.
    pub async fn push(
        &self,
        image: &ExportImage,
        form: LayerForm,
        told: &PushWatch<'_>,
    ) -> Result<Descriptor> {
        self.exporter().push(image, form, told).await
    }

    /// What each layer that was made here holds again of those below it.
    ///
    /// # Errors
    /// A layer cannot be read.
    pub async fn repeated(&self, output: &Output) -> Result<Vec<Repeated>> {
        self.comparer().repeated(output).await
    }

    /// Compares the topmost layers of two outputs as their tars would be.
    ///
    /// # Errors
    /// A layer cannot be read.
    pub async fn first_difference(
        &self,
        first: &Output,
        second: &Output,
        epoch: Option<u64>,
    ) -> Result<Option<Difference>> {
        let comparer = self.comparer();
        comparer.first_difference(first, second, epoch).await
    }
}
