//! `--output`: where a build's result goes.

mod annotations;
mod dest;
mod push;
mod spec;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;

use kiln_executor::Engine;
use kiln_executor::export::{ArchiveTarget, Assembled, ExportImage};
use kiln_image::{Descriptor, Reference};
use tokio::runtime::Runtime;

use crate::errors::Failure;
use crate::interrupt::Interrupt;
use crate::ui;
use annotations::Annotations;
pub(super) use dest::{Dest, begin, refuse_terminal};
use spec::{Kind, NO_ENTRY, Output, parse};

/// All of `--output` and `--annotation`.
#[derive(Debug)]
pub(crate) struct Outputs {
    list: Vec<Output>,
    annotations: Annotations,
    /// `type=docker` without a file is among them: the store, as in buildx.
    loads: bool,
}

impl Outputs {
    /// Reads the options; `load` adds the store to the outputs, as `type=docker` does.
    pub(crate) fn parse(
        list: &[String],
        load: bool,
        annotations: &[String],
    ) -> Result<Self, Failure> {
        let mut all = Annotations::default();
        for text in annotations {
            all.option(text)
                .map_err(|why| Failure::usage(format!("--annotation `{text}`: {why}")))?;
        }
        let mut loads = false;
        let mut list = list
            .iter()
            .map(|text| {
                let output = parse(text)
                    .map_err(|why| Failure::usage(format!("--output `{text}`: {why}")))?;
                let is_docker = text.split(',').any(|field| field == "type=docker");
                loads |= is_docker && matches!(output.kind, Kind::Image(_));
                if output.uses_stdout() {
                    refuse_terminal("-o type=…,dest=FILE")?;
                }
                Ok(output)
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        if list.iter().filter(|o| o.uses_stdout()).count() > 1 {
            return Err(Failure::usage(
                "only one --output can go to standard output",
            ));
        }
        // Without any output the image goes into the store anyway.
        let is_loaded = list.is_empty() || list.iter().any(|o| matches!(o.kind, Kind::Image(_)));
        if load && !is_loaded {
            list.push(Output {
                kind: Kind::Image(Vec::new()),
                annotations: Annotations::default(),
                push: false,
                pushed_layers: None,
            });
        }
        let out = Self {
            list,
            annotations: all,
            loads,
        };
        if !out.annotations.manifest.is_empty() && !out.have_image() {
            return Err(Failure::usage(
                "--annotation: files have no manifest to annotate",
            ));
        }
        if !out.annotations.entry.is_empty() && !out.list.iter().any(|o| o.kind.has_entry()) {
            return Err(Failure::usage(format!("--annotation: {NO_ENTRY}")));
        }
        Ok(out)
    }

    /// Whether standard output is taken by an output.
    pub(crate) fn use_stdout(&self) -> bool {
        self.list.iter().any(Output::uses_stdout)
    }

    /// Says where the image went if standard output is a pipe or file that waits for an archive.
    pub(crate) fn tell_of_store(&self) {
        let stdout = std::io::stdout().as_fd().try_clone_to_owned();
        let kind = stdout.and_then(|fd| Ok(File::from(fd).metadata()?.file_type()));
        if self.loads && !self.use_stdout() && kind.is_ok_and(|k| k.is_fifo() || k.is_file()) {
            ui::hint(
                "type=docker without dest puts the image into the store; type=docker,dest=- writes \
                 an archive to standard output",
            );
        }
    }

    /// Whether an image, with its config and its names, is kept anywhere.
    pub(crate) fn have_image(&self) -> bool {
        self.list.is_empty() || self.list.iter().any(|o| o.kind.has_manifest())
    }

    /// Whether one of them is made of the result's files, and not only of what is known of it.
    pub(crate) fn need_files(&self) -> bool {
        let made_of_files = |kind: &Kind| match kind {
            Kind::Archive { .. } | Kind::Local(_) | Kind::Tar(_) => true,
            Kind::Image(_) | Kind::CacheOnly => false,
        };
        self.list.iter().any(|o| made_of_files(&o.kind))
    }

    /// The names of `--output` itself, beside those of the build.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Reference> {
        self.list.iter().flat_map(|o| match &o.kind {
            Kind::Image(names) | Kind::Archive { names, .. } => names.as_slice(),
            _ => &[],
        })
    }

    /// Names the image and writes what was asked for. Without any output the image goes into the
    /// store. Gives the manifest that was written, of several archives that of the last; an image
    /// in the store has none before it is written somewhere.
    pub(crate) fn carry_out(
        &self,
        engine: &Engine,
        (runtime, interrupt): (&Runtime, &Interrupt),
        image: &Assembled,
        names: &[Reference],
    ) -> Result<Option<Descriptor>, Failure> {
        if self.list.is_empty() {
            keep(engine, image, names, &self.annotations)?;
            return Ok(None);
        }
        let mut manifest = None;
        for output in &self.list {
            let annotations = self.annotations.with(&output.annotations);
            match &output.kind {
                Kind::Image(own) => keep(engine, image, &[names, own].concat(), &annotations)?,
                Kind::Archive {
                    form,
                    layers,
                    names: own,
                    dest,
                    directory,
                } => {
                    let mut export = ExportImage::built(image, &[names, own].concat());
                    export.annotations = annotations.manifest;
                    export.entry_annotations = annotations.entry;
                    let write = |target| {
                        let work = engine.write_archive(vec![export], *form, Some(*layers), target);
                        Ok(interrupt.wait(runtime, work)??)
                    };
                    let written: Vec<Descriptor> = match dest {
                        Dest::File(path) if *directory => {
                            write(ArchiveTarget::Directory(path.clone()))?
                        }
                        dest => dest.write(|out| write(ArchiveTarget::Stream(out)))?,
                    };
                    manifest = written.into_iter().next();
                }
                Kind::Local(path) => {
                    let work = engine.write_files(&image.layers, path, image.epoch);
                    interrupt.wait(runtime, work)??;
                }
                Kind::Tar(dest) => dest.write(|out| {
                    let work = engine.write_tar(&image.layers, out, image.epoch);
                    Ok(interrupt.wait(runtime, work)??)
                })?,
                Kind::CacheOnly => {}
            }
        }
        Ok(manifest)
    }
}

/// Puts the image into the store under these names; without any it is kept nameless. Annotations
/// are kept in a manifest of the store, which goes along when the image is tagged or written.
fn keep(
    engine: &Engine,
    image: &Assembled,
    names: &[Reference],
    annotations: &Annotations,
) -> Result<(), Failure> {
    let manifest = if annotations.manifest.is_empty() {
        None
    } else {
        Some(engine.annotate(image, &annotations.manifest)?)
    };
    engine.name_image(&image.id, names, manifest.as_ref())?;
    if names.is_empty() && manifest.is_some() && !engine.store().names_of(&image.id)?.is_empty() {
        ui::warning(
            "annotations are not kept: the store has this image under a name already; \
             give a name with -t",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_need_an_output_that_has_their_place() {
        let parse = |outputs: &[&str], annotation: &str| {
            let outputs: Vec<String> = outputs.iter().map(ToString::to_string).collect();
            Outputs::parse(&outputs, false, &[annotation.into()]).is_ok()
        };
        let (archive, entry) = ("type=oci,dest=x", "manifest-descriptor:a=b");
        for (outputs, annotation, good) in [
            (&[][..], "a=b", true),
            (&["type=image", "type=local,dest=x"], "a=b", true),
            (&["type=local,dest=x"], "a=b", false),
            (&["type=cacheonly"], "a=b", false),
            (&[], entry, false),
            (&["type=image"], entry, false),
            (&[archive], entry, true),
            (&["type=image", archive], entry, true),
        ] {
            assert_eq!(parse(outputs, annotation), good, "{outputs:?} {annotation}");
        }
    }
}
