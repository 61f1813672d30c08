//! What of a build's result is pushed.

use std::collections::BTreeMap;

use kiln_executor::Engine;
use kiln_executor::export::{Assembled, ExportImage, LayerForm, Pushed};
use kiln_image::{Descriptor, Reference};

use super::spec::USUAL;
use super::{Kind, Outputs};
use crate::errors::Failure;
use crate::ui;

/// A name that the image is pushed under, and how its layers are compressed there.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    name: Reference,
    form: LayerForm,
}

impl Outputs {
    /// Where the image is pushed to: the names of outputs that say so, or all names if `asked`.
    ///
    /// # Errors
    /// It is to be pushed and has no name, a name is pushed in two forms, or an output that is not
    /// pushed says how.
    pub(crate) fn destinations(
        &self,
        asked: bool,
        names: &[Reference],
    ) -> Result<Vec<Destination>, Failure> {
        let images = || {
            let images = self.list.iter().filter_map(|output| match &output.kind {
                Kind::Image(own) => Some((output, own)),
                _ => None,
            });
            images.map(|(output, own)| (own, output.push || asked, output.pushed_layers))
        };
        if images().any(|(_, pushed, form)| !pushed && form.is_some()) {
            return Err(Failure::usage(
                "--output says how layers are compressed, but the image is not pushed",
            )
            .with_hint("add push=true, or write an archive with type=oci,dest=FILE"));
        }
        let mut forms: Vec<LayerForm> = Vec::new();
        let mut all: Vec<Destination> = Vec::new();
        let to = |names: &[Reference], form| {
            let to = |name: &Reference| Destination {
                name: name.clone(),
                form,
            };
            names.iter().map(to).collect::<Vec<_>>()
        };
        for (own, _, form) in images().filter(|(_, pushed, _)| *pushed) {
            let form = form.unwrap_or(USUAL);
            all.extend(to(own, form));
            forms.push(form);
        }
        if asked && forms.is_empty() {
            forms.push(USUAL);
        }
        // The names of the build are those of each output.
        for form in &forms {
            all.extend(to(names, *form));
        }
        if all.is_empty() && !forms.is_empty() {
            return Err(Failure::usage("an image without a name cannot be pushed")
                .with_hint("give it one with -t [REGISTRY/]NAME[:TAG]"));
        }
        if let Some(to) = all.iter().find(|to| to.name.digest().is_some()) {
            let name = to.name.familiar();
            return Err(Failure::usage(format!(
                "`{name}`: a digest cannot be pushed to"
            )));
        }
        all.sort_by_key(|to| to.name.to_string());
        all.dedup_by(|one, other| one.name == other.name && one.form == other.form);
        if let Some([to, _]) = all.array_windows().find(|[a, b]| a.name == b.name) {
            let name = to.name.familiar();
            return Err(Failure::usage(format!(
                "`{name}` would be pushed in two forms"
            )));
        }
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

    /// Pushes the image to these destinations, and tells of it as docker does. Gives its manifest.
    pub(crate) async fn push(
        &self,
        engine: &Engine,
        image: &Assembled,
        destinations: &[Destination],
        told: bool,
    ) -> Result<Option<Descriptor>, Failure> {
        let mut manifest = None;
        for Destination { name, form } in destinations {
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
            let pushed = engine.push(&export, *form, &of_layer).await?;
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
