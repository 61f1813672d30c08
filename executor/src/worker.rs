//! The engine as the solver's worker: sources, fingerprints, lookups, steps, commits.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_cache::{Flight, LayerId, NewRecord, Packed, Store, Unmeasured, pack};
use kiln_image::Compression;
use kiln_remote::{ClaimOutcome, HeldClaim, RemoteCaches, SharedLayer};
use kiln_solver::Watch;
use kiln_solver::explain::{Earlier, Found, LabelledInput, Listing};
use kiln_solver::key::{Fingerprint, Identity, Key, TreeDigest};
use kiln_solver::plan::{Copy, Exec, File, Origin, Source};
use kiln_solver::ports::{
    Committed, Fingerprints, Hit, Lookup, Made, Pending, PortError, Reading, Record, Results,
    Solved, Sourced, Sources, Step, Steps, Unused, WorkerTypes,
};
use tokio::sync::OwnedSemaphorePermit;

use crate::engine::Engine;
use crate::error::{Error, Result, blocking};
use crate::file;
use crate::output::{LayerRef, LazyLayer, Output};

/// A layer that a step has made.
#[derive(Debug)]
pub struct NewLayer {
    pub(crate) id: LayerId,
    pub(crate) below: Vec<LayerRef>,
    pub(crate) epoch: Option<u64>,
    pub(crate) unmeasured: Unmeasured,
}

/// Held while a step runs; what other hosts see of it is held until they can have the result.
#[derive(Debug)]
pub struct StepFlight {
    _local: Flight,
    claim: Option<HeldClaim>,
}

impl Engine {
    /// Has a result exported to remote caches, if there are any.
    fn export(&self, key: Key, layer: &LayerId, ran: bool, claim: Option<&HeldClaim>) {
        if let Some(caches) = &self.s.share {
            caches.export(&self.s.store, key, layer, ran, claim);
        }
    }

    /// The result of a step: `id` on top of `below`.
    pub(crate) fn made(
        &self,
        below: Vec<LayerRef>,
        id: LayerId,
        epoch: Option<u64>,
    ) -> Made<Output, NewLayer> {
        let mut layers = below.clone();
        layers.push(LayerRef::stored(id.clone(), None));
        Made {
            output: Output::Layers(layers),
            layer: NewLayer {
                id,
                below,
                epoch,
                unmeasured: self.space.unmeasured(),
            },
        }
    }
}

/// The layers of an output that a step starts from.
pub(crate) fn layers_of(output: &Output) -> Result<&[LayerRef]> {
    match output {
        Output::Layers(layers) => Ok(layers),
        Output::Dir(_) => Err(Error::Other(
            "a directory cannot be the base of a step".into(),
        )),
    }
}

fn base_layers(base: Option<&Solved<Output>>) -> Result<Vec<LayerRef>> {
    base.map_or(Ok(Vec::new()), |b| Ok(layers_of(&b.output)?.to_vec()))
}

impl WorkerTypes for Engine {
    type Output = Output;
    type Layer = NewLayer;
    type Flight = StepFlight;
}

impl Sources for Engine {
    async fn source(&self, op: &Source, step: &Step) -> Result<Sourced<Output>, PortError> {
        Ok(self.bring_in(op, step).await?)
    }
}

impl Fingerprints for Engine {
    async fn fingerprint_copy(
        &self,
        copy: &Copy,
        input: &Solved<Output>,
        listed: bool,
    ) -> Result<Reading, PortError> {
        let memo = memo_of(input, file::selection_id(copy));
        Ok(self
            .fingerprint(input, memo, &file::Wanted::of_copy(copy), listed)
            .await?)
    }

    async fn fingerprint_path(
        &self,
        input: &Solved<Output>,
        (path, place): (&str, &str),
        bound: bool,
        listed: bool,
    ) -> Result<Reading, PortError> {
        let mut wanted = file::Wanted::of_path(path, place);
        if let (true, Output::Dir(dir)) = (bound, &input.output) {
            wanted.swapped = self.shown_as_root(&dir.path).await?;
        }
        Ok(self.path_fingerprint(input, &wanted, listed).await?)
    }

    async fn listing(&self, fingerprint: Fingerprint) -> Result<Option<Listing>, PortError> {
        let store = self.s.store.clone();
        Ok(blocking(move || Ok(store.listing(fingerprint)?)).await?)
    }
}

impl Results for Engine {
    fn earlier(&self, origin: &Origin) -> Result<Vec<Earlier>, PortError> {
        Ok(self.s.store.earlier(origin).map_err(Error::from)?)
    }

    async fn lookup(
        &self,
        key: Key,
        base: Option<&Solved<Output>>,
        not_before: Option<SystemTime>,
    ) -> Result<Lookup<Output>, PortError> {
        let found = self.s.store.record(key).map_err(Error::from)?;
        let Some(record) = found else {
            return Ok(Lookup::Miss);
        };
        let ran_at = record.ran_at;
        if not_before.is_some_and(|t| ran_at < t) {
            return Ok(Lookup::Expired { ran_at });
        }
        let layer = LayerRef::of_step(record.layer.id, record.made, key);
        let ran = (ran_at, record.took);
        let hit = on_top(base, layer, record.layer.tree, ran, Found::Local).await?;
        Ok(Lookup::Hit(hit))
    }

    fn used(&self, key: Key, output: &Output) {
        if let Output::Layers(layers) = output
            && let Some(id) = layers.last().and_then(LayerRef::id)
        {
            self.export(key, id, false, None);
        }
    }

    async fn lookup_shared(
        &self,
        key: Key,
        base: Option<&Solved<Output>>,
        step: &Step,
        origin: &Origin,
    ) -> Result<Option<Hit<Output>>, PortError> {
        let Some(share) = &self.s.share else {
            return Ok(None);
        };
        let found = tokio::select! {
            found = share.find(key) => found,
            () = step.cancel.cancelled() => return Err(PortError::cancelled()),
        };
        match found {
            Some(found) => Ok(Some(shared_hit(base, found, step, origin).await?)),
            None => Ok(None),
        }
    }

    async fn flight(&self, definition: Key, step: &Step) -> Result<StepFlight, PortError> {
        Ok(StepFlight {
            _local: self.take_flight(definition, step).await?,
            claim: None,
        })
    }

    async fn claim(
        &self,
        key: Key,
        flight: &mut StepFlight,
        base: Option<&Solved<Output>>,
        step: &Step,
        origin: &Origin,
    ) -> Result<Option<Hit<Output>>, PortError> {
        let Some(share) = &self.s.share else {
            return Ok(None);
        };
        match share.claim_or_wait(key, &step.cancel).await {
            None => Err(PortError::cancelled()),
            Some(ClaimOutcome::Ours(claim)) => {
                flight.claim = claim;
                Ok(None)
            }
            Some(ClaimOutcome::Done(found)) => {
                Ok(Some(shared_hit(base, found, step, origin).await?))
            }
        }
    }

    fn commit(
        &self,
        made: Made<Output, NewLayer>,
        record: Record<Output>,
        flight: StepFlight,
    ) -> impl Future<Output = Result<Committed<Output>, PortError>> + Send + 'static {
        let engine = self.clone();
        async move { Ok(commit(&engine, made, record, flight).await?) }
    }
}

impl Steps for Engine {
    async fn exec(
        &self,
        op: &Exec,
        inputs: &[Solved<Output>],
        step: &Step,
    ) -> Result<Made<Output, NewLayer>, PortError> {
        Ok(self.run_step(op, inputs, step).await?)
    }

    async fn file(
        &self,
        op: &File,
        inputs: &[Solved<Output>],
        step: &Step,
    ) -> Result<Made<Output, NewLayer>, PortError> {
        Ok(self.change_files(op, inputs, step).await?)
    }

    fn discard(&self, made: Made<Output, NewLayer>) -> Result<(), PortError> {
        Ok(self
            .s
            .store
            .drop_layer(&made.layer.id)
            .map_err(Error::from)?)
    }

    async fn merge(
        &self,
        lower: &Solved<Output>,
        upper: &Solved<Output>,
    ) -> Result<Option<Output>, PortError> {
        Ok(self.stack(&lower.output, &upper.output).await?)
    }

    async fn bring(&self, output: &Output) -> Result<(), PortError> {
        if let Output::Layers(layers) = output {
            self.ready(layers).await?;
        }
        Ok(())
    }
}

/// A result that was found: `layer` on top of `base`.
async fn on_top(
    base: Option<&Solved<Output>>,
    layer: LayerRef,
    tree: TreeDigest,
    (ran_at, took): (SystemTime, Duration),
    found: Found,
) -> Result<Hit<Output>, PortError> {
    let below = match base {
        Some(base) => base.identity.wait().await?,
        None => Identity::empty(),
    };
    let mut layers = base_layers(base)?;
    layers.push(layer);
    let solved = Solved {
        output: Output::Layers(layers),
        identity: Pending::ready(below.with_layer(tree)),
    };
    Ok(Hit {
        solved,
        ran_at,
        took,
        found,
    })
}

/// A result that a remote cache promised.
async fn shared_hit(
    base: Option<&Solved<Output>>,
    found: SharedLayer,
    step: &Step,
    origin: &Origin,
) -> Result<Hit<Output>, PortError> {
    let record = found.record().clone();
    let remote = Found::Remote(found.label().into());
    let layer = LayerRef::lazy(LazyLayer {
        diff_id: record.diff_id.clone(),
        blob: None,
        from: None,
        watch: Some(Watch {
            events: step.events.clone(),
            vertex: step.vertex,
            over: step.over.clone(),
        }),
        arriving: None,
        shared: Some(found.of_step(origin)),
    });
    let ran = (record.ran_at, record.took);
    on_top(base, layer, record.tree, ran, remote).await
}

/// Under what a fingerprint is remembered; directories of the user's are not.
fn memo_of(input: &Solved<Output>, selection: String) -> Option<(String, String)> {
    match &input.output {
        Output::Layers(_) => Some((input.identity.now()?.to_hex(), selection)),
        Output::Dir(_) => None,
    }
}

impl Engine {
    /// The identity of one path of a tree.
    pub(crate) async fn path_fingerprint(
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
            && let Some(known) = self.s.store.known_fingerprint(identity, selection)?
            && let Some(fingerprint) = Fingerprint::from_hex(&known)
        {
            return Ok(Reading::unchanging(fingerprint));
        }
        // What another host says is believed while the files are not here, and never written down:
        // once a step has used them, they are looked at.
        if let (Some((identity, selection)), Some(share)) = (&memo, &self.s.share)
            && layers_of(&input.output)?.iter().any(|l| l.id().is_none())
            && let Some(fingerprint) = share.find_fingerprint(identity, selection).await
        {
            return Ok(Reading::unchanging(fingerprint));
        }
        let tree = self.open(&input.output).await?;
        let (store, wanted) = (self.s.store.clone(), wanted.clone());
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
        if let (Some((identity, selection)), Some(share)) = (&memo, &self.s.share) {
            share.export_fingerprint(identity, selection, reading.fingerprint);
        }
        Ok(match &input.output {
            Output::Dir(dir) if dir.scratch.is_none() => reading,
            // Nobody writes to layers, whether or not it is known what they are, and to kiln's own files.
            Output::Dir(_) | Output::Layers(_) => Reading::unchanging(reading.fingerprint),
        })
    }

    pub(crate) async fn take_flight(&self, definition: Key, step: &Step) -> Result<Flight> {
        let mut tries = 0;
        loop {
            if let Some(flight) = self.s.store.try_flight(definition)? {
                return Ok(flight);
            }
            if step.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            tokio::time::sleep(Store::flight_pause(tries)).await;
            tries += 1;
        }
    }
}

async fn commit(
    engine: &Engine,
    made: Made<Output, NewLayer>,
    record: Record<Output>,
    flight: StepFlight,
) -> Result<Committed<Output>> {
    let store = engine.s.store.clone();
    let NewLayer {
        id,
        below,
        epoch,
        // Until it is recorded, or dropped.
        unmeasured: _unmeasured,
    } = made.layer;
    // It takes longer than to pack alone.
    let may_take_longer = !record.unrecorded && !record.awaited;
    let share = engine.s.share.as_ref().filter(|_| may_take_longer);
    let packed = packed(
        &store,
        &id,
        epoch,
        share.and_then(RemoteCaches::compresses_new),
    )
    .await?;
    tracing::debug!(
        step = record.name.as_ref(),
        diff_id = %packed.diff_id,
        files = packed.bytes,
        "packed a layer"
    );
    let base = match &record.base {
        Some(base) => base
            .identity
            .wait()
            .await
            .map_err(|e| Error::Other(e.message))?,
        None => Identity::empty(),
    };
    // Without a key (an input failed meanwhile) the layer stays unknown and is thrown away.
    let Ok((key, inputs)) = record.key.await else {
        store.drop_layer(&id)?;
        return Err(Error::Cancelled);
    };
    if record.unrecorded {
        let mut layers = below;
        layers.push(LayerRef::stored(id, None));
        return Ok(Committed {
            output: Output::Layers(layers),
            identity: base.with_layer(packed.tree),
        });
    }
    let facts = Facts {
        name: record.name,
        origin: record.origin,
        started: record.started,
        took: record.took,
        inputs,
        unused: record.unused,
    };
    let tree = packed.tree;
    let (id, made) = blocking(move || settle(&store, key, id, &packed, &facts)).await?;
    engine.export(key, &id, true, flight.claim.as_ref());
    let mut layers = below;
    layers.push(LayerRef::of_step(id, made, key));
    Ok(Committed {
        output: Output::Layers(layers),
        identity: base.with_layer(tree),
    })
}

/// Packs a new layer, also into a blob if it will be sent in that form.
async fn packed(
    store: &Store,
    id: &LayerId,
    epoch: Option<u64>,
    sent: Option<(Compression, OwnedSemaphorePermit)>,
) -> Result<Packed> {
    let (store, dir) = (store.clone(), store.layer_dir(id));
    blocking(move || {
        if let Some((compression, _turn)) = sent {
            match store.pack_with_blob(&dir, epoch, compression) {
                Ok(packed) => return Ok(packed),
                // The blob is for others: without it the step is as good.
                Err(error) => tracing::debug!(%error, "a new layer is not compressed"),
            }
        }
        Ok(pack(&dir, epoch, &mut std::io::sink())?)
    })
    .await
}

struct Facts {
    name: Arc<str>,
    origin: Origin,
    started: SystemTime,
    took: std::time::Duration,
    inputs: Vec<LabelledInput>,
    unused: Unused,
}

/// Keeps the older layer of the key if its content is the same and nobody uses the new one yet.
fn settle(
    store: &Store,
    key: Key,
    id: LayerId,
    packed: &Packed,
    facts: &Facts,
) -> Result<(LayerId, Option<SystemTime>)> {
    if let Some(older) = store.record(key)?
        && older.layer.tree == packed.tree
        && facts.unused.replaced()
    {
        store.refresh_record(key, facts.started)?;
        store.drop_layer(&id)?;
        return Ok((older.layer.id, older.made));
    }
    store.record_layer(&id, packed, SystemTime::now())?;
    store.put_record(&NewRecord {
        key,
        layer: &id,
        made: None,
        ran_at: facts.started,
        took: facts.took,
        name: &facts.name,
        inputs: &facts.inputs,
        origin: &facts.origin,
    })?;
    Ok((id, None))
}
