//! Images to registries.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use kiln_cache::{LayerForm, Store};
use kiln_image::{Descriptor, Digest, Reference, media_type};
use kiln_registry::{FileSource, Pushed, RegistryError};

use super::Exporter;
use super::archive::{ArchiveForm, ExportImage};
use crate::error::{Error, Result, blocking};
use kiln_solver::Hint;

/// Layers that are sent at the same time, as many as docker sends.
const AT_ONCE: usize = 5;

/// Hears what becomes of the blobs of layers.
pub type PushWatch<'a> = dyn Fn(&Descriptor, Pushed) + Send + Sync + 'a;

fn failed(to: &Reference, error: RegistryError) -> Error {
    let hint = if error.is_denied() {
        Some(Hint::PushCredentials)
    } else if error.unreachable().is_some() {
        // A mirror is only read from.
        Some(Hint::CheckHost)
    } else {
        None
    };
    Error::Registry {
        what: format!("cannot push `{}`: ", to.familiar()),
        source: Box::new(error),
        hint,
    }
}

/// Fails with the true reason if a registry did not take a blob because it is not what it was when it
/// was stored. Such a blob is removed.
async fn discard_damaged(store: &Store, digest: &Digest) -> Result<()> {
    let (store, digest) = (store.clone(), digest.clone());
    blocking(move || {
        if store.is_intact(&digest)? {
            return Ok(());
        }
        store.remove_blob(&digest)?;
        Err(Error::Missing {
            text: format!("layer {} was damaged in the store", digest.short()),
            hint: Hint::PushAgain,
        })
    })
    .await
}

impl Exporter {
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
        self.layers.materialise(&image.layers).await?;
        self.layers.fetch_blobs(&image.layers).await?;
        let (exporter, what) = (self.clone(), image.clone());
        let written = blocking(move || {
            let written = exporter.written(&what, ArchiveForm::Oci, Some(form))?;
            let layers = what.layers.iter().zip(written.layers);
            let layers = layers.map(|(layer, blob)| {
                let (diff_id, _) = exporter.layer_facts(layer)?;
                Ok((diff_id, blob.into_stored(exporter.layers.store())?))
            });
            let layers = layers.collect::<Result<Vec<_>>>()?;
            Ok((layers, written.config, written.manifest, written.media_type))
        });
        let (layers, config, manifest, kind) = written.await?;
        let config_blob = Descriptor::of(media_type::OCI_CONFIG, &config);
        let config = Bytes::from(config);
        let (client, store) = (self.layers.registry(), self.store());
        // An image may have a layer twice.
        let layers: BTreeMap<_, _> = layers
            .into_iter()
            .map(|(diff_id, blob)| (blob.digest.to_string(), (diff_id, blob)))
            .collect();
        for name in &image.names {
            let send = |(diff_id, blob): (_, Descriptor)| async move {
                let elsewhere = store.repositories_with(&diff_id, &blob.digest)?;
                let file = FileSource(store.blob_path(&blob.digest));
                let sent = client.push_blob(name, &blob, &file, &elsewhere, &|_| {});
                let sent = match sent.await {
                    Ok(sent) => sent,
                    Err(e) => {
                        // It may be that what was sent is not what it is called.
                        if matches!(e, RegistryError::Status { status: 400, .. }) {
                            discard_damaged(store, &blob.digest).await?;
                        }
                        return Err(failed(name, e));
                    }
                };
                told(&blob, sent);
                // Only saves the bytes of another push.
                if let Err(error) = store.note_sent(&diff_id, &blob.digest, name) {
                    tracing::debug!(%error, "where a layer was sent is not remembered");
                }
                Ok::<_, Error>(())
            };
            futures_util::stream::iter(layers.values().cloned().map(send))
                .buffer_unordered(AT_ONCE)
                .try_collect::<Vec<()>>()
                .await?;
            let sent = client.push_blob(name, &config_blob, &config, &[], &|_| {});
            sent.await.map_err(|e| failed(name, e))?;
            let put = client.push_manifest(name, &manifest, &kind);
            put.await.map_err(|e| failed(name, e))?;
        }
        Ok(Descriptor::of(kind.as_str(), &manifest).with_platform(image.platform.clone()))
    }
}
