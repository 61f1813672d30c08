//! The content of what steps read.

use kiln_remote::RemoteCaches;
use kiln_solver::key::Fingerprint;
use kiln_solver::plan::Copy;
use kiln_solver::ports::{Pending, Reading, Solved};
use tokio_util::task::TaskTracker;

use crate::error::{Result, blocking};
use crate::file;
use crate::layers::LayerFetcher;
use crate::output::Output;

/// Under what a fingerprint is remembered.
#[derive(Clone, Debug)]
struct Memo {
    /// The identity of the tree, which may still be on its way.
    identity: Pending,
    /// What of it is read.
    selection: String,
}

impl Memo {
    /// That of a tree; directories of the user's have none.
    fn of(input: &Solved<Output>, selection: String) -> Option<Self> {
        match &input.output {
            Output::Layers(_) => Some(Self {
                identity: input.identity.clone(),
                selection,
            }),
            Output::Dir(_) => None,
        }
    }

    /// What it is by now.
    fn now(&self) -> Option<(String, &str)> {
        Some((self.identity.now()?.to_hex(), &self.selection))
    }
}

/// Takes fingerprints of what steps read, and remembers those of layers.
#[derive(Clone, Debug)]
pub(crate) struct Fingerprinter {
    layers: LayerFetcher,
    caches: Option<RemoteCaches>,
    /// What waits for identities.
    late: TaskTracker,
}

impl Fingerprinter {
    pub(crate) fn new(layers: LayerFetcher, caches: Option<RemoteCaches>) -> Self {
        Self {
            layers,
            caches,
            late: TaskTracker::new(),
        }
    }

    /// Waits until all fingerprints are remembered that were taken of trees without an identity.
    pub(crate) async fn settle(&self) {
        self.late.close();
        self.late.wait().await;
        self.late.reopen();
    }

    /// What `copy` would take from a tree.
    pub(crate) async fn of_copy(
        &self,
        copy: &Copy,
        input: &Solved<Output>,
        listed: bool,
    ) -> Result<Reading> {
        let memo = Memo::of(input, file::selection_id(copy));
        let wanted = file::Selection::of_copy(copy);
        self.fingerprint(input, memo, &wanted, listed).await
    }

    /// The identity of one path of a tree.
    pub(crate) async fn of_path(
        &self,
        input: &Solved<Output>,
        wanted: &file::Selection,
        listed: bool,
    ) -> Result<Reading> {
        let memo = Memo::of(input, format!("path {}", wanted.sources.join(" ")));
        self.fingerprint(input, memo, wanted, listed).await
    }

    async fn fingerprint(
        &self,
        input: &Solved<Output>,
        memo: Option<Memo>,
        wanted: &file::Selection,
        listed: bool,
    ) -> Result<Reading> {
        let known = memo.as_ref().and_then(Memo::now);
        if let Some((identity, selection)) = &known
            && let Some(known) = self
                .layers
                .store()
                .records()
                .known_fingerprint(identity, selection)?
            && let Some(fingerprint) = Fingerprint::from_hex(&known)
        {
            return Ok(Reading::unchanging(fingerprint));
        }
        // What another host says is believed while the files are not here, and never written down:
        // once a step has used them, they are looked at.
        if let (Some((identity, selection)), Some(caches)) = (&known, &self.caches)
            && input.output.layers()?.iter().any(|l| l.id().is_none())
            && let Some(fingerprint) = caches.find_fingerprint(identity, selection).await
        {
            return Ok(Reading::unchanging(fingerprint));
        }
        let tree = self.layers.open(&input.output).await?;
        let (store, wanted) = (self.layers.store().clone(), wanted.clone());
        // What layers hold is read once, so that is the time to list it.
        let listed = listed || memo.is_some();
        let reading = blocking(move || {
            let (reading, listing) = file::fingerprint(&store, &tree, &wanted, listed)?;
            if let Some(listing) = listing {
                store.records().put_listing(reading.fingerprint, &listing)?;
            }
            Ok(reading)
        })
        .await?;
        if let Some(memo) = memo {
            match memo.now() {
                Some((identity, _)) => {
                    self.remember(identity, memo.selection, reading.fingerprint)
                        .await?;
                }
                // Hashing the tree takes longer than reading what is used of it: nobody waits for that here.
                None => self.remember_late(memo, reading.fingerprint),
            }
        }
        Ok(match &input.output {
            Output::Dir(dir) if dir.scratch.is_none() => reading,
            // Nobody writes to layers, whether or not it is known what they are, and to kiln's own files.
            Output::Dir(_) | Output::Layers(_) => Reading::unchanging(reading.fingerprint),
        })
    }

    /// Writes a fingerprint down, and exports it.
    async fn remember(
        &self,
        identity: String,
        selection: String,
        fingerprint: Fingerprint,
    ) -> Result<()> {
        if let Some(caches) = &self.caches {
            caches.export_fingerprint(&identity, &selection, fingerprint);
        }
        let store = self.layers.store().clone();
        blocking(move || {
            Ok(store
                .records()
                .put_fingerprint(&identity, &selection, &fingerprint.to_hex())?)
        })
        .await
    }

    /// The same once the identity of the tree is known; [`Fingerprinter::settle`] waits for that.
    fn remember_late(&self, memo: Memo, fingerprint: Fingerprint) {
        let own = self.clone();
        self.late.spawn(async move {
            // Without one the build has failed.
            let Ok(identity) = memo.identity.wait().await else {
                return;
            };
            let identity = identity.to_hex();
            if let Err(error) = own.remember(identity, memo.selection, fingerprint).await {
                tracing::debug!(%error, "a fingerprint is not remembered");
            }
        });
    }
}
