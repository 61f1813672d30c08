//! What of a build's result is pushed.

use std::collections::BTreeMap;

use kiln_executor::Engine;
use kiln_executor::export::{Assembled, ExportImage, LayerForm, Pushed};
use kiln_image::{Descriptor, Reference};

use super::{OutputKind, Outputs};
use crate::error::{Error, Hint, Result};
use crate::event::{Event, Events};

/// A name that the image is pushed under, and how its layers are compressed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The name.
    pub name: Reference,
    /// How layers are compressed.
    pub layers: LayerForm,
}

impl Outputs {
    /// Where the image is pushed to: under the names of outputs that say so, or under all names if `asked`.
    ///
    /// # Errors
    /// It is to be pushed and has no name, a name would be pushed in two forms, or an output says how layers are
    /// compressed and is not pushed.
    pub fn destinations(&self, asked: bool, names: &[Reference]) -> Result<Vec<Destination>> {
        let mut forms: Vec<LayerForm> = Vec::new();
        let mut all: Vec<Destination> = Vec::new();
        for output in &self.list {
            let OutputKind::Image(own) = &output.kind else {
                continue;
            };
            match output.pushed_layers {
                form if output.push || asked => {
                    let form = form.unwrap_or(LayerForm::USUAL);
                    all.extend(destinations(own, form));
                    forms.push(form);
                }
                Some(_) => {
                    return Err(Error::request(
                        "an output says how layers are compressed, but the image is not pushed",
                    )
                    .with_hint(Hint::PushOutput));
                }
                None => {}
            }
        }
        if asked && forms.is_empty() {
            forms.push(LayerForm::USUAL);
        }
        // The names of the build are those of each output.
        all.extend(forms.iter().flat_map(|form| destinations(names, *form)));
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
        all.dedup();
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
        worker: &Engine,
        image: &Assembled,
        destinations: &[Destination],
        events: &Events,
    ) -> Result<Option<Descriptor>> {
        let mut manifest = None;
        for Destination { name, layers } in destinations {
            events.send(Event::Pushing(name.clone()));
            let mut export = ExportImage::built(image, std::slice::from_ref(name));
            export.annotations = self.pushed_annotations();
            let of_layer = |blob: &Descriptor, became: Pushed| {
                events.send(Event::PushedLayer {
                    digest: blob.digest.clone(),
                    became,
                });
            };
            let pushed = worker.push(&export, *layers, &of_layer).await?;
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

fn destinations(names: &[Reference], layers: LayerForm) -> impl Iterator<Item = Destination> {
    names.iter().map(move |name| Destination {
        name: name.clone(),
        layers,
    })
}
