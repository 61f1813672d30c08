//! What of a build's result is pushed.

use std::collections::BTreeMap;

use kiln_executor::Engine;
use kiln_executor::export::{Assembled, ExportImage, LayerForm, Pushed};
use kiln_image::{Compression, Descriptor, Reference};

use super::{Kind, Outputs};
use crate::errors::Failure;
use crate::ui;

impl Outputs {
    /// The names that the image is pushed under: of outputs that say so, or all names if `asked`.
    ///
    /// # Errors
    /// It is to be pushed and has no name.
    pub(crate) fn pushed_names(
        &self,
        asked: bool,
        names: &[Reference],
    ) -> Result<Vec<Reference>, Failure> {
        let mut all: Vec<Reference> = Vec::new();
        for output in self.list.iter().filter(|o| o.push || asked) {
            if let Kind::Image(own) = &output.kind {
                all.extend(own.iter().cloned());
            }
        }
        let push = asked || self.list.iter().any(|o| o.push);
        if push {
            all.extend(names.iter().cloned());
        }
        if push && all.is_empty() {
            return Err(Failure::usage("an image without a name cannot be pushed")
                .with_hint("give it one with -t [REGISTRY/]NAME[:TAG]"));
        }
        if let Some(name) = all.iter().find(|n| n.digest().is_some()) {
            let name = name.familiar();
            return Err(Failure::usage(format!(
                "`{name}`: a digest cannot be pushed to"
            )));
        }
        all.sort_by_key(ToString::to_string);
        all.dedup();
        Ok(all)
    }

    /// The annotations of a manifest that is pushed.
    fn pushed_annotations(&self) -> BTreeMap<String, String> {
        let of_images = self
            .list
            .iter()
            .filter(|o| matches!(o.kind, Kind::Image(_)));
        let mut all = self.annotations.manifest.clone();
        all.extend(of_images.flat_map(|o| o.annotations.manifest.clone()));
        all
    }

    /// Pushes the image under these names, and tells of it as docker does. Gives its manifest.
    pub(crate) async fn push(
        &self,
        engine: &Engine,
        image: &Assembled,
        names: &[Reference],
        told: bool,
    ) -> Result<Option<Descriptor>, Failure> {
        let form = LayerForm {
            compression: Compression::Gzip,
            level: None,
            all: false,
        };
        let mut manifest = None;
        for name in names {
            let tell = |line: &str| {
                if told {
                    ui::note(line);
                }
            };
            tell(&format!("The push refers to repository [{}]", name.name()));
            let mut export = ExportImage::built(image, std::slice::from_ref(name));
            export.annotations = self.pushed_annotations();
            let of_layer = |blob: &Descriptor, became: Pushed| {
                let what = match became {
                    Pushed::Existed => "Layer already exists",
                    Pushed::Mounted => "Mounted",
                    Pushed::Uploaded => "Pushed",
                };
                tell(&format!("{}: {what}", blob.digest.short()));
            };
            let pushed = engine.push(&export, form, &of_layer).await?;
            let tag = name.tag().unwrap_or("latest");
            tell(&format!(
                "{tag}: digest: {} size: {}",
                pushed.digest, pushed.size
            ));
            manifest = Some(pushed);
        }
        Ok(manifest)
    }
}
