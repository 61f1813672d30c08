//! What a build has found wrong on remotes: it is not asked for again, and written anew by whoever has
//! what should be there.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use kiln_image::Digest;
use kiln_solver::key::Key;

use crate::remote::{Remote, Rewrite};

/// Layers with wrong content after which no more are taken from a remote.
const MAX_WRONG_LAYERS: u32 = 3;

/// What is wrong, by the label of the remote.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<HashMap<String, Faults>>);

#[derive(Debug, Default)]
struct Faults {
    /// Results that were promised and could not be had.
    lost: HashSet<Key>,
    /// Results whose records are not believed.
    refused: HashSet<Key>,
    /// Fingerprints whose records are not believed.
    fingerprints: HashSet<(String, String)>,
    /// Blobs that hold other bytes than they should.
    blobs: HashSet<Digest>,
    /// Layers that were not what they should be.
    wrong: u32,
    /// Results that this build has written.
    written: HashSet<Key>,
}

impl Health {
    fn with<T>(&self, remote: &Remote, work: impl FnOnce(&mut Faults) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(all.entry(remote.label().to_owned()).or_default())
    }

    /// A result could not be had.
    pub(super) fn lose(&self, remote: &Remote, key: Key) {
        self.with(remote, |d| d.lost.insert(key));
    }

    /// A blob holds other bytes than it should.
    pub(super) fn note_wrong_blob(&self, remote: &Remote, blob: &Digest) {
        self.with(remote, |d| d.blobs.insert(blob.clone()));
    }

    /// A layer is not what it should be. Returns whether the remote is not read any more from now
    /// on.
    pub(super) fn note_wrong_layer(&self, remote: &Remote) -> bool {
        self.with(remote, |d| {
            d.wrong += 1;
            d.wrong == MAX_WRONG_LAYERS
        })
    }

    /// A record is not believed.
    pub(super) fn refuse(&self, remote: &Remote, key: Key) {
        self.with(remote, |d| d.refused.insert(key));
    }

    /// A fingerprint's record is not believed.
    pub(super) fn refuse_fingerprint(&self, remote: &Remote, identity: &str, selection: &str) {
        let what = (identity.to_owned(), selection.to_owned());
        self.with(remote, |d| d.fingerprints.insert(what));
    }

    pub(super) fn refuses_fingerprint(
        &self,
        remote: &Remote,
        identity: &str,
        selection: &str,
    ) -> bool {
        let what = (identity.to_owned(), selection.to_owned());
        self.with(remote, |d| d.fingerprints.contains(&what))
    }

    /// This build has written a result.
    pub(super) fn note_written(&self, remote: &Remote, key: Key) {
        self.with(remote, |d| d.written.insert(key));
    }

    /// Whether this build has written a result. Once is enough, whatever others make of it
    /// meanwhile.
    pub(super) fn has_written(&self, remote: &Remote, key: Key) -> bool {
        self.with(remote, |d| d.written.contains(&key))
    }

    /// Whether a result is worth asking for.
    pub(super) fn allows(&self, remote: &Remote, key: Key) -> bool {
        self.with(remote, |d| {
            d.wrong < MAX_WRONG_LAYERS && !d.lost.contains(&key)
        })
    }

    /// Whether a result could not be had though it was promised.
    pub(super) fn is_lost(&self, remote: &Remote, key: Key) -> bool {
        self.with(remote, |d| d.lost.contains(&key))
    }

    /// What of a result has to be written again, if it is there. Where much was wrong, nothing that
    /// is there is relied on.
    pub(super) fn rewrite(&self, remote: &Remote, key: Key, blob: &Digest) -> Rewrite {
        self.with(remote, |d| Rewrite {
            blob: d.wrong >= MAX_WRONG_LAYERS || d.blobs.contains(blob),
            record: d.wrong >= MAX_WRONG_LAYERS
                || d.refused.contains(&key)
                || d.lost.contains(&key),
        })
    }
}
