//! Records that an image takes along of the steps that made its layers.

use std::collections::BTreeMap;

use kiln_cache::{LayerId, Store};
use kiln_solver::key::Key;

use super::RemoteCaches;
use crate::remote::InlineRecord;

impl RemoteCaches {
    /// Whether images take records along.
    pub fn is_inline(&self) -> bool {
        self.0.inline.is_some()
    }

    /// The field of an image's config that says which steps made these layers, if that was asked for
    /// and is known of any. A layer comes with the key of its step where that is known.
    ///
    /// # Errors
    /// A layer is gone, or the field cannot be signed: `Ok(Err(why))`.
    pub fn inline_field<'a>(
        &self,
        store: &Store,
        layers: impl Iterator<Item = (&'a LayerId, Option<Key>)>,
    ) -> kiln_cache::Result<Result<Option<serde_json::Value>, String>> {
        let Some(inline) = &self.0.inline else {
            return Ok(Ok(None));
        };
        let mut records = BTreeMap::new();
        for (id, key) in layers {
            let keys = match key {
                Some(key) => vec![key],
                None => self.keys_of(id),
            };
            if keys.is_empty() {
                continue;
            }
            let known = store.layer(id.as_str())?;
            let known = known.ok_or_else(|| kiln_cache::Error::LayerLost(id.as_str().into()))?;
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
        Ok(inline.field(&records))
    }

    /// Keys of the steps that made a layer in this build. Others may have found the same layer.
    fn keys_of(&self, id: &LayerId) -> Vec<Key> {
        let seen = self.seen();
        let keys = seen.get(id).into_iter().flatten();
        keys.filter(|(_, ran)| *ran).map(|(key, _)| *key).collect()
    }
}
