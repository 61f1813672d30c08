//! Records that an image takes along of the steps that made its layers.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use kiln_image::ImageConfig;
use kiln_remote::{INLINE_CACHE, InlineRecord};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::output::LayerRef;

impl Engine {
    /// Writes into a config which steps made these layers, if that was asked for.
    pub(crate) fn add_inline_cache(
        &self,
        config: &mut ImageConfig,
        layers: &[LayerRef],
    ) -> Result<()> {
        let Some((share, inline)) = self
            .s
            .share
            .as_ref()
            .and_then(|s| Some((s, s.0.inline.as_ref()?)))
        else {
            return Ok(());
        };
        let mut records = BTreeMap::new();
        for layer in layers.iter().filter(|l| !l.is_of_image()) {
            let Some(id) = layer.id() else { continue };
            let keys = match layer.key() {
                Some(key) => vec![key],
                None => share.keys_of(id),
            };
            if keys.is_empty() {
                continue;
            }
            let known = self.s.store.layer(id.as_str())?;
            let known = known.ok_or_else(|| Error::Missing {
                text: format!("layer {} is gone from the store", id.as_str()),
                hint: "run the same build again".into(),
            })?;
            for key in keys {
                let record = InlineRecord {
                    key,
                    tree: known.tree,
                    diff_id: known.diff_id.clone(),
                    tar_size: known.tar_size,
                };
                records.insert(key.0, record);
            }
        }
        let records: Vec<InlineRecord> = records.into_values().collect();
        if let Some(field) = inline.field(&records).map_err(Error::Image)? {
            config.extra.insert(INLINE_CACHE.into(), field);
        }
        Ok(())
    }
}

impl super::Share {
    /// Keys of the steps that made a layer in this build. Others may have found the same layer.
    fn keys_of(&self, id: &kiln_cache::LayerId) -> Vec<kiln_solver::key::Key> {
        let seen = self.0.leaving.seen.lock();
        let seen = seen.unwrap_or_else(PoisonError::into_inner);
        let keys = seen.get(id).into_iter().flatten();
        keys.filter(|(_, ran)| *ran).map(|(key, _)| *key).collect()
    }
}
