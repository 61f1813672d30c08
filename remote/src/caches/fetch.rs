//! Fetches layers that a remote promised.

use kiln_cache::{LayerId, NewRecord, Reservation, SpaceGuard, Store, blocking, pack};
use kiln_solver::Watch;
use kiln_solver::key::TreeDigest;
use kiln_solver::plan::Origin;

use super::SharedLayer;
use crate::error::RemoteError;
use crate::record::RemoteRecord;

/// Bytes of a layer for each of its blob beyond which little else than zeros can be in it.
pub(super) const MAX_RATIO: u64 = 1000;

/// Why a layer or a cache mount could not be had of a remote.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody needs it any more.
    #[error("canceled")]
    Cancelled,
    /// The remote promised it and cannot give it. The same build works without it.
    #[error("cache {remote}: {why}")]
    Lost {
        /// The remote.
        remote: String,
        /// What happened.
        why: String,
    },
    /// The store of this host failed.
    #[error(transparent)]
    Store(#[from] kiln_cache::Error),
}

impl SharedLayer {
    /// Fetches the blob into the store, with room for its files.
    ///
    /// # Errors
    /// [`FetchError::Lost`] where the remote does not have it, or there is no room.
    pub async fn fetch(
        &self,
        space: &SpaceGuard,
        watch: Option<&Watch>,
    ) -> Result<Reservation, FetchError> {
        let blob = &self.record.blob;
        let files = self.record.tar_size.max(self.record.bytes);
        let needed = files.saturating_add(blob.size);
        // The record may lie, and its blob is seen when it is here.
        let believable = files / MAX_RATIO <= blob.size;
        let room = async {
            match believable {
                true => space.reserve(needed).await,
                false => space.reserve_free(needed).await,
            }
        };
        let Some(room) = unless_over(watch, room).await?? else {
            let megabytes = needed / 1_000_000;
            let why = format!("its layer takes {megabytes} MB, and the disk has less");
            return Err(self.lost(&why));
        };
        let label = blob.digest.short().to_owned();
        let progress = |done: u64| {
            if let Some(watch) = watch {
                watch.progress(&label, done, blob.size);
            }
        };
        let fetching = self.remote.fetch(space.store(), blob, &progress);
        match unless_over(watch, fetching).await? {
            Ok(()) => Ok(room),
            Err(RemoteError::Store(error)) => Err(error.into()),
            Err(error) => {
                if matches!(error, RemoteError::Wrong { .. }) {
                    self.caches.note_wrong(self, true);
                }
                Err(self.lost(&error.to_string()))
            }
        }
    }

    /// Makes a fetched layer a result of this store, if it is what its record says. Its diff id is
    /// known to be right; `tree` is the digest of its tree, if it is known.
    ///
    /// # Errors
    /// [`FetchError::Lost`] where its content is another.
    pub async fn take_over(
        &self,
        store: &Store,
        id: LayerId,
        tree: Option<TreeDigest>,
    ) -> Result<LayerId, FetchError> {
        let (own, record) = (store.clone(), self.record.clone());
        let origin = self.origin.clone();
        let layer = id.clone();
        let same = blocking(move || {
            if tree != Some(record.tree) {
                // The same layer may be here already, made by another step under a clamp of its own.
                let here = own.layer(layer.as_str())?;
                let epoch = here.and_then(|l| l.epoch);
                let found = pack(&own.layer_dir(&layer), epoch, &mut std::io::sink())?;
                if found.tree != record.tree || found.diff_id != record.diff_id {
                    return Ok(false);
                }
            }
            remember(&own, &layer, &record, &origin)?;
            Ok(true)
        });
        if same.await? {
            // Other remotes may want it.
            self.caches.export(store, self.record.key, &id, false, None);
            return Ok(id);
        }
        Err(self.wrong("a layer's content is not what its record says"))
    }

    /// What the remote gave is not what its record says.
    pub fn wrong(&self, why: &str) -> FetchError {
        self.caches.note_wrong(self, false);
        self.lost(why)
    }

    /// The remote could not give it.
    pub fn lost(&self, why: &str) -> FetchError {
        self.caches.lose(self, why);
        FetchError::Lost {
            remote: self.label().to_owned(),
            why: why.to_owned(),
        }
    }
}

/// Does a part of a transfer, unless nobody needs it any more.
async fn unless_over<F: Future>(watch: Option<&Watch>, work: F) -> Result<F::Output, FetchError> {
    match watch {
        None => Ok(work.await),
        Some(watch) => {
            let done = watch.unless_over(Box::pin(work)).await;
            done.ok_or(FetchError::Cancelled)
        }
    }
}

fn remember(
    store: &Store,
    layer: &LayerId,
    record: &RemoteRecord,
    origin: &Origin,
) -> kiln_cache::Result<()> {
    // Without its inputs a run explains nothing: it is nobody's earlier one.
    let unknown = Origin::default();
    let origin = match record.inputs.is_empty() {
        true => &unknown,
        false => origin,
    };
    store.note_tree(layer, record.tree)?;
    store.records().put_record(&NewRecord {
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
