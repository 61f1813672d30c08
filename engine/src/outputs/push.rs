//! What of a build's result is pushed.

use std::collections::BTreeMap;

use kiln_executor::Engine;
use kiln_executor::export::{Assembled, ExportImage, LayerForm, Pushed};
use kiln_image::{Compression, Descriptor, Reference};

use super::{OutputKind, Outputs};
use crate::error::{Error, Hint, Result};
use crate::event::{Event, Events};

impl Outputs {
    /// The names that the image is pushed under: of outputs that say so, or all names if `asked`.
    ///
    /// # Errors
    /// It is to be pushed and has no name.
    pub fn pushed_names(&self, asked: bool, names: &[Reference]) -> Result<Vec<Reference>> {
        let mut all: Vec<Reference> = Vec::new();
        for output in self.list.iter().filter(|o| o.push || asked) {
            if let OutputKind::Image(own) = &output.kind {
                all.extend(own.iter().cloned());
            }
        }
        let push = asked || self.list.iter().any(|o| o.push);
        if push {
            all.extend(names.iter().cloned());
        }
        if push && all.is_empty() {
            return Err(Error::request("an image without a name cannot be pushed")
                .with_hint(Hint::NameImage));
        }
        if let Some(name) = all.iter().find(|n| n.digest().is_some()) {
            let name = name.familiar();
            return Err(Error::request(format!(
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
            .filter(|o| matches!(o.kind, OutputKind::Image(_)));
        let mut all = self.annotations.manifest.clone();
        all.extend(of_images.flat_map(|o| o.annotations.manifest.clone()));
        all
    }

    /// Pushes the image under these names. Gives its manifest.
    pub(crate) async fn push(
        &self,
        worker: &Engine,
        image: &Assembled,
        names: &[Reference],
        events: &Events,
    ) -> Result<Option<Descriptor>> {
        let form = LayerForm {
            compression: Compression::Gzip,
            level: None,
            all: false,
        };
        let mut manifest = None;
        for name in names {
            events.send(Event::Pushing(name.clone()));
            let mut export = ExportImage::built(image, std::slice::from_ref(name));
            export.annotations = self.pushed_annotations();
            let of_layer = |blob: &Descriptor, became: Pushed| {
                events.send(Event::PushedLayer {
                    digest: blob.digest.clone(),
                    became,
                });
            };
            let pushed = worker.push(&export, form, &of_layer).await?;
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
