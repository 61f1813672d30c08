//! Images in archives: writing and reading them.

use std::fs::File;
use std::io::{Read, Seek as _};
use std::path::{Path, PathBuf};

use kiln_executor::BuildInputs;
use kiln_executor::export::{ArchiveForm, ArchiveTarget, ExportImage};
use kiln_executor::source::Loaded;
use kiln_image::archive::{Archive, ArchiveError};
use kiln_image::descriptor::MAX_BLOB_SIZE;
use kiln_image::{Platform, Reference, with_causes};
use tokio_util::sync::CancellationToken;

use super::Images;
use crate::cancel::blocking;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::outputs::Dest;

/// Where an archive is read.
#[derive(Debug)]
pub enum LoadSource {
    /// A file, or a directory with an OCI layout.
    Path(PathBuf),
    /// A file that is open, or a pipe, with what errors call it.
    Stream(File, String),
}

impl LoadSource {
    fn shown(&self) -> String {
        match self {
            Self::Path(path) => format!("`{}`", path.display()),
            Self::Stream(_, name) => name.clone(),
        }
    }
}

impl Images<'_> {
    /// Writes images as one archive. `stream` is what [`Dest::Stream`] stands for.
    ///
    /// # Errors
    /// There is no such image, or the archive cannot be written.
    pub async fn save(
        self,
        images: &[String],
        form: ArchiveForm,
        dest: &Dest,
        stream: Option<&File>,
        events: &Events,
    ) -> Result<()> {
        let worker = self.engine.worker(BuildInputs::default(), false, events)?;
        let mut exports: Vec<ExportImage> = Vec::new();
        for text in images {
            let image = worker.store().find_image(text)?;
            // An image that is given by its id or by a digest is written without a name.
            let is_name =
                |r: &Reference| r.digest().is_none() && image.row.name.as_ref() == Some(r);
            let name = image.asked.clone().filter(is_name);
            let same = |known: &&mut ExportImage| known.id == image.row.config;
            match exports.iter_mut().find(same) {
                Some(known) => known.names.extend(name),
                None => exports.push(
                    worker
                        .exporter()
                        .exportable(&image, name.into_iter().collect())?,
                ),
            }
        }
        let write = |out| async {
            let target = ArchiveTarget::Stream(out);
            worker
                .exporter()
                .write_archive(exports, form, None, target)
                .await?;
            Ok(())
        };
        dest.write(stream, write).await
    }

    /// Takes the images of an archive into the store: of `docker save`, or an OCI layout.
    ///
    /// # Errors
    /// The archive cannot be read, or has no image.
    pub async fn load(
        self,
        source: LoadSource,
        platform: &Platform,
        events: &Events,
    ) -> Result<Vec<Loaded>> {
        let worker = self.engine.worker(BuildInputs::default(), false, events)?;
        let scratch = worker.store().scratch()?;
        let what = format!("cannot load {}", source.shown());
        if let LoadSource::Path(path) = &source {
            std::fs::metadata(path).map_err(|e| Error::failed(format!("{what}: {e}")))?;
        }
        let dir = scratch.path().to_owned();
        let open = move || match source {
            LoadSource::Path(path) => open(&path, &dir),
            LoadSource::Stream(file, name) => read(file, Path::new(&name), &dir),
        };
        let opened = blocking(&CancellationToken::new(), open).await?;
        let archive = opened.map_err(|e| Error::failed(format!("{what}: {}", with_causes(&e))))?;
        let loaded = worker.images().load(archive, platform).await;
        loaded.map_err(|e| Error::from(e).about(what))
    }
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> ArchiveError {
    let path = path.display().to_string();
    move |source| ArchiveError::Io {
        path: path.clone(),
        source,
    }
}

fn open(path: &Path, scratch: &Path) -> Result<Archive, ArchiveError> {
    let metadata = std::fs::metadata(path).map_err(io(path))?;
    if metadata.is_dir() || metadata.is_file() {
        match Archive::open(path) {
            Err(ArchiveError::Compressed(_)) => {}
            other => return other,
        }
    }
    let file = File::open(path).map_err(io(path))?;
    through(Box::new(file), scratch)
}

/// A stream that is a file is read in place.
fn read(file: File, shown: &Path, scratch: &Path) -> Result<Archive, ArchiveError> {
    if file.metadata().map_err(io(shown))?.is_file() {
        let again = file.try_clone().map_err(io(shown))?;
        match Archive::from_file(again) {
            Err(ArchiveError::Compressed(_)) => (&file).rewind().map_err(io(shown))?,
            other => return other,
        }
    }
    through(Box::new(file), scratch)
}

/// An archive that cannot be read at any place is written to a file first.
fn through(input: Box<dyn Read + Send>, scratch: &Path) -> Result<Archive, ArchiveError> {
    let path = scratch.join("archive");
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path);
    Archive::from_reader(input, file.map_err(io(&path))?, MAX_BLOB_SIZE)
}
