//! What of a build's result is pushed.

use std::collections::BTreeMap;

use kiln_executor::Worker;
use kiln_executor::export::{Assembled, ExportImage, LayerForm, Pushed};
use kiln_image::{Descriptor, Reference};

use super::{OutputKind, Outputs, USUAL_LAYERS};
use crate::error::{Error, Hint, Result};
use crate::event::{Event, Events};

/// A name that the image is pushed under, and how its layers are compressed there.
#[derive(Clone, Debug)]
pub struct Destination {
    name: Reference,
    form: LayerForm,
}

impl Outputs {
    /// Where the image is pushed to: the names of outputs that say so, or all names if `asked`.
    ///
    /// # Errors
    /// It is to be pushed and has no name, a name is pushed in two forms, or an output that is not
    /// pushed says how.
    pub fn destinations(&self, asked: bool, names: &[Reference]) -> Result<Vec<Destination>> {
        let images = || {
            let images = self.list.iter().filter_map(|output| match &output.kind {
                OutputKind::Image(own) => Some((output, own)),
                _ => None,
            });
            images.map(|(output, own)| (own, output.push || asked, output.pushed_layers))
        };
        if images().any(|(_, pushed, form)| !pushed && form.is_some()) {
            return Err(Error::request(
                "--output says how layers are compressed, but the image is not pushed",
            )
            .with_hint(Hint::PushOrArchive));
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
            let form = form.unwrap_or(USUAL_LAYERS);
            all.extend(to(own, form));
            forms.push(form);
        }
        if asked && forms.is_empty() {
            forms.push(USUAL_LAYERS);
        }
        // The names of the build are those of each output.
        for form in &forms {
            all.extend(to(names, *form));
        }
        if all.is_empty() && !forms.is_empty() {
            return Err(Error::request("an image without a name cannot be pushed")
                .with_hint(Hint::NameImage));
        }
        if let Some(to) = all.iter().find(|to| to.name.digest().is_some()) {
            let name = to.name.familiar();
            return Err(Error::request(format!(
                "`{name}`: a digest cannot be pushed to"
            )));
        }
        all.sort_by_key(|to| to.name.to_string());
        all.dedup_by(|one, other| one.name == other.name && one.form == other.form);
        if let Some([to, _]) = all.array_windows().find(|[a, b]| a.name == b.name) {
            let name = to.name.familiar();
            return Err(Error::request(format!(
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
            .filter(|o| matches!(o.kind, OutputKind::Image(_)));
        let mut all = self.annotations.manifest.clone();
        all.extend(of_images.flat_map(|o| o.annotations.manifest.clone()));
        all
    }

    /// Pushes the image to these destinations. Gives its manifest.
    pub(crate) async fn push(
        &self,
        worker: &Worker,
        image: &Assembled,
        destinations: &[Destination],
        events: &Events,
    ) -> Result<Option<Descriptor>> {
        let mut manifest = None;
        for Destination { name, form } in destinations {
            events.send(Event::Pushing(name.clone()));
            let mut export = ExportImage::built(image, std::slice::from_ref(name));
            export.annotations = self.pushed_annotations();
            let of_layer = |blob: &Descriptor, became: Pushed| {
                events.send(Event::PushedLayer {
                    digest: blob.digest.clone(),
                    became,
                });
            };
            let pushed = worker.exporter().push(&export, *form, &of_layer).await?;
            events.send(Event::Pushed {
                name: name.clone(),
                digest: pushed.digest.clone(),
                size: pushed.size,
            });
            manifest = Some(pushed);
        }
        Ok(manifest)
    }
}
