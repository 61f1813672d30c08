//! Puts an image's config together: the folded config, the layers' diff ids, the history.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_cache::{LayerBlob, LayerForm, StoredLayer};
use kiln_image::{DiffId, Digest, History, ImageConfig, Reference};
use kiln_remote::INLINE_CACHE;
use kiln_solver::Hint;
use kiln_solver::lower::HistoryLine;

use super::Exporter;
use crate::clamp::timestamp;
use crate::error::{Error, Result};
use crate::output::{LayerRef, Output};

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct Assembly {
    /// The config, with the history of the base only and without layers.
    pub config: ImageConfig,
    /// The history that the build adds.
    pub history: Vec<HistoryLine>,
    /// The result of the target; none is an empty file system.
    pub output: Option<Output>,
    /// Clamp of all times, in seconds since 1970.
    pub epoch: Option<u64>,
}

/// An image that is in the store.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// Its config.
    pub config: ImageConfig,
    /// Digest of the config: the image id.
    pub id: Digest,
    /// Its layers.
    pub layers: Vec<LayerRef>,
    /// Clamp of all times, in seconds since 1970.
    pub epoch: Option<u64>,
}

impl Exporter {
    /// Puts the image together and stores its config. `squash` makes one layer of those that the
    /// build added.
    ///
    /// # Errors
    /// A layer's record is gone, or the store failed.
    pub async fn assemble(&self, assembly: Assembly, squash: bool) -> Result<Assembled> {
        let layers = match assembly.output {
            None => Vec::new(),
            Some(Output::Layers(layers)) => layers,
            Some(Output::Dir(_)) => {
                return Err(Error::Other("a directory is not an image".into()));
            }
        };
        // An image of this store must not depend on a remote cache; base images are another matter,
        // since their own names say where their layers are.
        let shared: Vec<_> = layers.iter().filter(|l| l.is_shared()).cloned().collect();
        self.layers.materialise(&shared).await?;
        let mut known = Vec::new();
        for layer in &layers {
            known.push(self.layer_facts(layer)?);
        }
        let mut config = assembly.config;
        // What other tools wrote about how the base was made is not true of this image.
        config.extra.clear();
        // Layers of the base come first, and only they have not been made here.
        let of_base = layers.iter().take_while(|l| l.is_of_image()).count();
        let squash = squash && layers.len() > of_base + 1;
        let mut own = known.iter().skip(of_base);
        // What comes before the first layer has no other time than that of the epoch.
        let epoch = assembly.epoch.map(Duration::from_secs);
        let epoch = epoch.and_then(|since| timestamp(UNIX_EPOCH + since, assembly.epoch));
        let mut last = config.created.or(epoch);
        for line in assembly.history {
            if !line.empty
                && let Some((_, Some(made))) = own.next()
            {
                last = timestamp(*made, assembly.epoch).or(last);
            }
            config.history.push(History {
                created: last,
                created_by: Some(line.created_by),
                comment: Some("buildkit.dockerfile.v0".into()),
                empty_layer: line.empty || squash,
                ..History::default()
            });
        }
        let layers = if squash {
            let merged = self.squash(&layers, of_base, assembly.epoch).await?;
            config.history.push(History {
                created: last,
                comment: Some(format!("{} layers in one", layers.len() - of_base)),
                ..History::default()
            });
            known.truncate(of_base);
            for layer in merged.iter().skip(of_base) {
                known.push(self.layer_facts(layer)?);
            }
            merged
        } else {
            layers
        };
        config.created = last;
        config.rootfs.diff_ids = known.into_iter().map(|(diff_id, _)| diff_id).collect();
        self.add_inline_cache(&mut config, &layers)?;
        let raw = config.to_json().map_err(|e| Error::Image(e.to_string()))?;
        let id = self.store().put_blob(&raw)?;
        Ok(Assembled {
            config,
            id,
            layers,
            epoch: assembly.epoch,
        })
    }

    /// Writes into a config which steps made these layers, if that was asked for.
    fn add_inline_cache(&self, config: &mut ImageConfig, layers: &[LayerRef]) -> Result<()> {
        let Some(caches) = &self.caches else {
            return Ok(());
        };
        let own = layers.iter().filter(|l| !l.is_of_image());
        let own = own.filter_map(|l| Some((l.id()?, l.key())));
        let field = caches.inline_field(self.store(), own)?;
        if let Some(field) = field.map_err(Error::Image)? {
            config.extra.insert(INLINE_CACHE.into(), field);
        }
        Ok(())
    }

    /// A layer of the store in this form.
    pub(super) fn layer_blob(&self, layer: &LayerRef, form: LayerForm) -> Result<LayerBlob> {
        let (diff_id, _) = self.layer_facts(layer)?;
        let pulled = layer.lazy_layer().filter(|_| layer.is_of_image());
        let stored = StoredLayer {
            diff_id,
            id: layer.id(),
            pulled: pulled.and_then(|lazy| lazy.blob.as_ref()),
        };
        Ok(self.store().layer_blob(&stored, form)?)
    }

    /// A layer's diff id, and when it was made if this store made it.
    pub(crate) fn layer_facts(&self, layer: &LayerRef) -> Result<(DiffId, Option<SystemTime>)> {
        if let Some(lazy) = layer.lazy_layer() {
            return Ok((lazy.diff_id.clone(), layer.made()));
        }
        let id = layer
            .id()
            .ok_or_else(|| Error::Other("a layer has no name".into()))?;
        let known = self
            .store()
            .layer(id.as_str())?
            .ok_or_else(|| Error::Missing {
                text: format!("layer {} is gone from the store", id.as_str()),
                hint: Hint::BuildAgain,
            })?;
        Ok((known.diff_id, layer.made().or(Some(known.created))))
    }

    /// Gives an image its names; without any it is kept nameless. `manifest` is a manifest of
    /// it in the store, if there is one.
    ///
    /// # Errors
    /// The store failed.
    pub fn name_image(
        &self,
        id: &Digest,
        names: &[Reference],
        manifest: Option<&Digest>,
    ) -> Result<()> {
        if names.is_empty() {
            self.store().put_image(None, id, manifest)?;
        }
        for name in names {
            self.store().put_image(Some(name), id, manifest)?;
        }
        Ok(())
    }
}
