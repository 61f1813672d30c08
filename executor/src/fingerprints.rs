//! The content of what steps read.

use kiln_remote::RemoteCaches;
use kiln_solver::key::Fingerprint;
use kiln_solver::plan::Copy;
use kiln_solver::ports::{Reading, Solved};

use crate::error::{Result, blocking};
use crate::file;
use crate::layers::LayerFetcher;
use crate::output::Output;

/// Under what a fingerprint is remembered; directories of the user's are not.
fn memo_of(input: &Solved<Output>, selection: String) -> Option<(String, String)> {
    match &input.output {
        Output::Layers(_) => Some((input.identity.now()?.to_hex(), selection)),
        Output::Dir(_) => None,
    }
}

/// Takes fingerprints of what steps read, and remembers those of layers.
#[derive(Clone, Debug)]
pub(crate) struct Fingerprinter {
    layers: LayerFetcher,
    caches: Option<RemoteCaches>,
}

impl Fingerprinter {
    pub(crate) fn new(layers: LayerFetcher, caches: Option<RemoteCaches>) -> Self {
        Self { layers, caches }
    }

    /// What `copy` would take from a tree.
    pub(crate) async fn of_copy(
        &self,
        copy: &Copy,
        input: &Solved<Output>,
        listed: bool,
    ) -> Result<Reading> {
        let memo = memo_of(input, file::selection_id(copy));
        let wanted = file::Wanted::of_copy(copy);
        self.fingerprint(input, memo, &wanted, listed).await
    }

    /// The identity of one path of a tree.
    pub(crate) async fn of_path(
        &self,
        input: &Solved<Output>,
        wanted: &file::Wanted,
        listed: bool,
    ) -> Result<Reading> {
        let memo = memo_of(input, format!("path {}", wanted.sources.join(" ")));
        self.fingerprint(input, memo, wanted, listed).await
    }

    async fn fingerprint(
        &self,
        input: &Solved<Output>,
        memo: Option<(String, String)>,
        wanted: &file::Wanted,
        listed: bool,
    ) -> Result<Reading> {
        if let Some((identity, selection)) = &memo
            && let Some(known) = self.layers.store().known_fingerprint(identity, selection)?
            && let Some(fingerprint) = Fingerprint::from_hex(&known)
        {
            return Ok(Reading::unchanging(fingerprint));
        }
        // What another host says is believed while the files are not here, and never written down:
        // once a step has used them, they are looked at.
        if let (Some((identity, selection)), Some(caches)) = (&memo, &self.caches)
            && input.output.layers()?.iter().any(|l| l.id().is_none())
            && let Some(fingerprint) = caches.find_fingerprint(identity, selection).await
        {
            return Ok(Reading::unchanging(fingerprint));
        }
        let tree = self.layers.open(&input.output).await?;
        let (store, wanted) = (self.layers.store().clone(), wanted.clone());
        // What layers hold is read once, so that is the time to list it.
        let listed = listed || memo.is_some();
        let remembered = memo.clone();
        let reading = blocking(move || {
            let (reading, listing) = file::fingerprint(&store, &tree, &wanted, listed)?;
            let fingerprint = reading.fingerprint;
            if let Some((identity, selection)) = &remembered {
                store.put_fingerprint(identity, selection, &fingerprint.to_hex())?;
            }
            if let Some(listing) = listing {
                store.put_listing(fingerprint, &listing)?;
            }
            Ok(reading)
        })
        .await?;
        if let (Some((identity, selection)), Some(caches)) = (&memo, &self.caches) {
            caches.export_fingerprint(identity, selection, reading.fingerprint);
        }
        Ok(match &input.output {
            Output::Dir(dir) if dir.scratch.is_none() => reading,
            // Nobody writes to layers, whether or not it is known what they are, and to kiln's own files.
            Output::Dir(_) | Output::Layers(_) => Reading::unchanging(reading.fingerprint),
        })
    }
}
