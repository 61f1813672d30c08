//! Where a build's result goes.

mod annotations;
mod dest;
mod push;

use std::fs::File;
use std::path::PathBuf;

use kiln_executor::Worker;
use kiln_executor::export::{ArchiveForm, ArchiveTarget, Assembled, ExportImage, LayerForm};
use kiln_image::{Compression, Descriptor, Reference};
use kiln_solver::event::WarningCode;

use crate::error::Result;
use crate::event::Events;

pub use annotations::Annotations;
pub use dest::Dest;
pub(crate) use dest::begin;
pub use push::Destination;

/// One place that a result goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The place.
    pub kind: OutputKind,
    /// What is annotated there, beside the annotations of all outputs.
    pub annotations: Annotations,
    /// The image is pushed under its names as well.
    pub push: bool,
    /// How the layers of an image are compressed when it is pushed, if that is said.
    pub pushed_layers: Option<LayerForm>,
}

/// How layers are compressed where nothing else is said.
pub const USUAL_LAYERS: LayerForm = LayerForm {
    compression: Compression::Gzip,
    level: None,
    all: false,
};

impl Output {
    /// An output without annotations, from which nothing is pushed.
    pub fn new(kind: OutputKind) -> Self {
        Self {
            kind,
            annotations: Annotations::default(),
            push: false,
            pushed_layers: None,
        }
    }

    /// Whether it is written to the stream of the request.
    pub fn uses_stream(&self) -> bool {
        match &self.kind {
            OutputKind::Tar(dest) | OutputKind::Archive { dest, .. } => *dest == Dest::Stream,
            OutputKind::Image(_) | OutputKind::Local(_) | OutputKind::CacheOnly => false,
        }
    }
}

/// Kinds of places that a result goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// The store, under these names too.
    Image(Vec<Reference>),
    /// An archive, or a directory with an OCI layout.
    Archive {
        /// Its form.
        form: ArchiveForm,
        /// How its layers are compressed.
        layers: LayerForm,
        /// Names in it, beside those of the build.
        names: Vec<Reference>,
        /// Where it is written.
        dest: Dest,
        /// The destination is a directory.
        directory: bool,
    },
    /// The files in a directory.
    Local(PathBuf),
    /// The files as a tar.
    Tar(Dest),
    /// Nowhere: the cache has it.
    CacheOnly,
}

impl OutputKind {
    /// Whether it is an image, which has a manifest sooner or later.
    pub fn has_manifest(&self) -> bool {
        matches!(self, Self::Image(_) | Self::Archive { .. })
    }

    /// Whether an index comes with it that describes the manifest.
    pub fn has_entry(&self) -> bool {
        matches!(self, Self::Archive { .. })
    }
}

/// All places that a result goes to. Without any it goes into the store.
#[derive(Debug, Default)]
pub struct Outputs {
    /// The places.
    pub list: Vec<Output>,
    /// Annotations for all of them.
    pub annotations: Annotations,
    /// What [`Dest::Stream`] writes to.
    pub stream: Option<File>,
}

impl Outputs {
    /// Whether an image, with its config and its names, is kept anywhere.
    pub fn have_image(&self) -> bool {
        self.list.is_empty() || self.list.iter().any(|o| o.kind.has_manifest())
    }

    /// Whether the stream of the request is taken by an output.
    pub fn use_stream(&self) -> bool {
        self.list.iter().any(Output::uses_stream)
    }

    /// Whether one of them is made of the result's files, and not only of what is known of it.
    pub fn need_files(&self) -> bool {
        let made_of_files = |kind: &OutputKind| match kind {
            OutputKind::Archive { .. } | OutputKind::Local(_) | OutputKind::Tar(_) => true,
            OutputKind::Image(_) | OutputKind::CacheOnly => false,
        };
        self.list.iter().any(|o| made_of_files(&o.kind))
    }

    /// The names of the outputs themselves, beside those of the build.
    pub fn names(&self) -> impl Iterator<Item = &Reference> {
        self.list.iter().flat_map(|o| match &o.kind {
            OutputKind::Image(names) | OutputKind::Archive { names, .. } => names.as_slice(),
            _ => &[],
        })
    }

    /// Names the image and writes what was asked for. Gives the manifest that was written, of several archives
    /// that of the last; an image in the store has none before it is written somewhere.
    pub(crate) async fn write(
        &self,
        worker: &Worker,
        image: &Assembled,
        names: &[Reference],
        events: &Events,
    ) -> Result<Option<Descriptor>> {
        if self.list.is_empty() {
            keep(worker, image, names, &self.annotations, events)?;
            return Ok(None);
        }
        let mut manifest = None;
        for output in &self.list {
            let annotations = self.annotations.with(&output.annotations);
            match &output.kind {
                OutputKind::Image(own) => {
                    keep(worker, image, &[names, own].concat(), &annotations, events)?;
                }
                OutputKind::Archive {
                    form,
                    layers,
                    names: own,
                    dest,
                    directory,
                } => {
                    let mut export = ExportImage::built(image, &[names, own].concat());
                    export.annotations = annotations.manifest;
                    export.entry_annotations = annotations.entry;
                    let write = async |target| {
                        let work = worker.exporter().write_archive(
                            vec![export],
                            *form,
                            Some(*layers),
                            target,
                        );
                        Ok(work.await?)
                    };
                    let written: Vec<Descriptor> = match dest {
                        Dest::File(path) if *directory => {
                            write(ArchiveTarget::Directory(path.clone())).await?
                        }
                        dest => {
                            let to_stream = |out| write(ArchiveTarget::Stream(out));
                            dest.write(self.stream.as_ref(), to_stream).await?
                        }
                    };
                    manifest = written.into_iter().next();
                }
                OutputKind::Local(path) => {
                    worker
                        .exporter()
                        .write_files(&image.layers, path, image.epoch)
                        .await?;
                }
                OutputKind::Tar(dest) => {
                    let write = |out| async {
                        Ok(worker
                            .exporter()
                            .write_tar(&image.layers, out, image.epoch)
                            .await?)
                    };
                    dest.write(self.stream.as_ref(), write).await?;
                }
                OutputKind::CacheOnly => {}
            }
        }
        Ok(manifest)
    }
}

/// Puts the image into the store under these names; without any it is kept nameless. Annotations
/// are kept in a manifest of the store, which goes along when the image is tagged or written.
fn keep(
    worker: &Worker,
    image: &Assembled,
    names: &[Reference],
    annotations: &Annotations,
    events: &Events,
) -> Result<()> {
    let manifest = if annotations.manifest.is_empty() {
        None
    } else {
        Some(worker.exporter().annotate(image, &annotations.manifest)?)
    };
    worker
        .exporter()
        .name_image(&image.id, names, manifest.as_ref())?;
    if names.is_empty() && manifest.is_some() && !worker.store().names_of(&image.id)?.is_empty() {
        events.warn(
            WarningCode::Annotations,
            "annotations are not kept: the store has this image under a name already; \
             give a name with -t",
        );
    }
    Ok(())
}
