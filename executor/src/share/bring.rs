//! Brings layers in that a remote promised.

use kiln_cache::{LayerId, NewRecord, Store, pack};
use kiln_remote::{RemoteError, RemoteRecord};
use kiln_solver::key::TreeDigest;
use kiln_solver::plan::Origin;

use super::SharedLayer;
use crate::engine::Engine;
use crate::error::{Error, Result, blocking};
use crate::output::LazyLayer;
use crate::room::Reserved;

/// Bytes of a layer for each of its blob beyond which little else than zeros can be in it.
pub(super) const MOST_COMPRESSED: u64 = 1000;

impl Engine {
    /// Fetches the blob of a shared layer into the store, with room for its files.
    ///
    /// # Errors
    /// [`Error::Lost`] where the remote does not have it, or there is no room.
    pub(crate) async fn fetch_shared(
        &self,
        lazy: &LazyLayer,
        shared: &SharedLayer,
    ) -> Result<Reserved> {
        let blob = &shared.record.blob;
        let files = shared.record.tar_size.max(shared.record.bytes);
        let needed = files.saturating_add(blob.size);
        // The record may lie, and its blob is seen when it is here.
        let believable = files / MOST_COMPRESSED <= blob.size;
        let room = lazy.unless_over(Box::pin(async {
            match believable {
                true => self.room_for(needed).await,
                false => self.room_left_for(needed).await,
            }
        }));
        let Some(room) = room.await?? else {
            let why = format!(
                "its layer takes {} MB, and the disk has less",
                needed / 1_000_000
            );
            return Err(self.lost(shared, &Error::Other(why)));
        };
        let label = blob.digest.short().to_owned();
        let progress = |done: u64| {
            if let Some(watch) = &lazy.watch {
                watch.progress(&label, done, blob.size);
            }
        };
        let fetching = shared.remote.fetch(&self.s.store, blob, &progress);
        match lazy.unless_over(Box::pin(fetching)).await? {
            Ok(()) => Ok(room),
            Err(RemoteError::Store(error)) => Err(error.into()),
            Err(error) => {
                let wrong = matches!(error, RemoteError::Wrong { .. });
                if let Some(share) = self.s.share.as_ref().filter(|_| wrong) {
                    share.distrust(shared, true);
                }
                Err(self.lost(shared, &Error::Remote(Box::new(error))))
            }
        }
    }

    /// Makes a fetched layer a result of this store, if it is what its record says. Its diff id is
    /// known to be right; `tree` is the digest of its tree, if it is known.
    ///
    /// # Errors
    /// [`Error::Lost`] where its content is another.
    pub(crate) async fn take_over(
        &self,
        id: LayerId,
        tree: Option<TreeDigest>,
        shared: &SharedLayer,
    ) -> Result<LayerId> {
        let (store, record) = (self.s.store.clone(), shared.record.clone());
        let origin = shared.origin.clone();
        let layer = id.clone();
        let same = blocking(move || {
            if tree != Some(record.tree) {
                // The same layer may be here already, made by another step under a clamp of its own.
                let here = store.layer(layer.as_str())?;
                let epoch = here.and_then(|l| l.epoch);
                let found = pack(&store.layer_dir(&layer), epoch, &mut std::io::sink())?;
                if found.tree != record.tree || found.diff_id != record.diff_id {
                    return Ok(false);
                }
            }
            remember(&store, &layer, &record, &origin)?;
            Ok(true)
        });
        if same.await? {
            // Other remotes may want it.
            self.leave(shared.record.key, &id, false, None);
            return Ok(id);
        }
        let why = "a layer's content is not what its record says".to_owned();
        Err(self.wrong(shared, &Error::Image(why)))
    }

    /// What a remote gave is not what its record says.
    pub(crate) fn wrong(&self, shared: &SharedLayer, error: &Error) -> Error {
        if let Some(share) = &self.s.share {
            share.distrust(shared, false);
        }
        self.lost(shared, error)
    }

    pub(crate) fn lost(&self, shared: &SharedLayer, error: &Error) -> Error {
        if let Some(share) = &self.s.share {
            share.lose(shared, error);
        }
        Error::Lost {
            remote: shared.remote.label().to_owned(),
            why: error.to_string(),
        }
    }
}

fn remember(store: &Store, layer: &LayerId, record: &RemoteRecord, origin: &Origin) -> Result<()> {
    // Without its inputs a run explains nothing: it is nobody's earlier one.
    let unknown = Origin::default();
    let origin = match record.inputs.is_empty() {
        true => &unknown,
        false => origin,
    };
    store.note_tree(layer, record.tree)?;
    store.put_record(&NewRecord {
        key: record.key,
        layer,
        made: Some(record.created),
        ran_at: record.ran_at,
        took: record.took,
        name: &record.name,
        inputs: &record.inputs,
        origin,
    })?;
    Ok(())
}
