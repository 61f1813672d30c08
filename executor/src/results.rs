//! Results of steps: looked up here and on remote caches, and stored.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_cache::{Flight, LayerId, NewRecord, Packed, SpaceGuard, Store, pack};
use kiln_image::Compression;
use kiln_remote::{ClaimOutcome, HeldClaim, RemoteCaches, SharedLayer};
use kiln_solver::Watch;
use kiln_solver::explain::{Earlier, Found, LabelledInput};
use kiln_solver::key::{Identity, Key, TreeDigest};
use kiln_solver::plan::Origin;
use kiln_solver::ports::{
    Committed, Hit, Lookup, Made, Pending, PortError, Record, Solved, Step, Unused,
};
use tokio::sync::OwnedSemaphorePermit;

use crate::error::{Error, Result, blocking};
use crate::new_layer::NewLayer;
use crate::output::{LayerRef, LazyLayer, Output};

/// Held while a step runs; what other hosts see of it is held until they can have the result.
#[derive(Debug)]
pub struct StepFlight {
    _local: Flight,
    claim: Option<HeldClaim>,
}

/// Finds results and keeps new ones.
#[derive(Clone, Debug)]
pub(crate) struct ResultStore {
    space: SpaceGuard,
    caches: Option<RemoteCaches>,
}

fn base_layers(base: Option<&Solved<Output>>) -> Result<Vec<LayerRef>> {
    base.map_or(Ok(Vec::new()), |b| Ok(b.output.layers()?.to_vec()))
}

impl ResultStore {
    pub(crate) fn new(space: SpaceGuard, caches: Option<RemoteCaches>) -> Self {
        Self { space, caches }
    }

    fn store(&self) -> &Store {
        self.space.store()
    }

    /// Has a result exported to remote caches, if there are any.
    fn export(&self, key: Key, layer: &LayerId, ran: bool, claim: Option<&HeldClaim>) {
        if let Some(caches) = &self.caches {
            caches.export(self.store(), key, layer, ran, claim);
        }
    }

    pub(crate) fn earlier(&self, origin: &Origin) -> Result<Vec<Earlier>, PortError> {
        Ok(self
            .store()
            .records()
            .earlier(origin)
            .map_err(Error::from)?)
    }

    pub(crate) async fn lookup(
        &self,
        key: Key,
        base: Option<&Solved<Output>>,
        not_before: Option<SystemTime>,
    ) -> Result<Lookup<Output>, PortError> {
        let found = self.store().records().record(key).map_err(Error::from)?;
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

    pub(crate) fn used(&self, key: Key, result: &Solved<Output>, step: &Step) {
        if let Output::Layers(layers) = &result.output
            && let Some(id) = layers.last().and_then(LayerRef::id)
        {
            self.note(step.definition, key, result.identity.now());
            self.export(key, id, false, None);
        }
    }

    /// Notes what a step was found to be, for the next build that has it.
    fn note(&self, definition: Key, key: Key, identity: Option<Identity>) {
        if let (Some(caches), Some(identity)) = (&self.caches, identity) {
            caches.note_result(definition, key, identity);
        }
    }

    pub(crate) async fn lookup_shared(
        &self,
        key: Key,
        base: Option<&Solved<Output>>,
        step: &Step,
        origin: &Origin,
    ) -> Result<Option<Hit<Output>>, PortError> {
        let Some(caches) = &self.caches else {
            return Ok(None);
        };
        let found = tokio::select! {
            found = caches.find(key) => found,
            () = step.cancel.cancelled() => return Err(PortError::cancelled()),
        };
        match found {
            Some(found) => Ok(Some(self.shared_hit(base, found, step, origin).await?)),
            None => Ok(None),
        }
    }

    /// A result that a remote cache promised.
    async fn shared_hit(
        &self,
        base: Option<&Solved<Output>>,
        found: SharedLayer,
        step: &Step,
        origin: &Origin,
    ) -> Result<Hit<Output>, PortError> {
        let key = found.record().key;
        let hit = shared_hit(base, found, step, origin).await?;
        self.note(step.definition, key, hit.solved.identity.now());
        Ok(hit)
    }

    pub(crate) async fn flight(&self, step: &Step) -> Result<StepFlight, PortError> {
        Ok(StepFlight {
            _local: self.take_flight(step).await?,
            claim: None,
        })
    }

    pub(crate) async fn claim(
        &self,
        key: Key,
        flight: &mut StepFlight,
        base: Option<&Solved<Output>>,
        step: &Step,
        origin: &Origin,
    ) -> Result<Option<Hit<Output>>, PortError> {
        let Some(caches) = &self.caches else {
            return Ok(None);
        };
        match caches.claim_or_wait(key, &step.cancel).await {
            None => Err(PortError::cancelled()),
            Some(ClaimOutcome::Ours(claim)) => {
                flight.claim = claim;
                Ok(None)
            }
            Some(ClaimOutcome::Done(found)) => {
                Ok(Some(self.shared_hit(base, found, step, origin).await?))
            }
        }
    }

    pub(crate) fn commit(
        &self,
        made: Made<Output, NewLayer>,
        record: Record<Output>,
        flight: StepFlight,
    ) -> impl Future<Output = Result<Committed<Output>, PortError>> + Send + 'static {
        let results = self.clone();
        async move { Ok(commit(&results, made, record, flight).await?) }
    }

    async fn take_flight(&self, step: &Step) -> Result<Flight> {
        let mut tries = 0;
        loop {
            if let Some(flight) = self.store().try_flight(step.definition)? {
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

async fn commit(
    results: &ResultStore,
    made: Made<Output, NewLayer>,
    record: Record<Output>,
    flight: StepFlight,
) -> Result<Committed<Output>> {
    let store = results.store().clone();
    let NewLayer {
        id,
        below,
        epoch,
        // Until it is recorded, or dropped.
        unmeasured: _unmeasured,
    } = made.layer;
    // It takes longer than to pack alone.
    let may_take_longer = !record.unrecorded && !record.awaited;
    let caches = results.caches.as_ref().filter(|_| may_take_longer);
    let packed = packed(
        &store,
        &id,
        epoch,
        caches.and_then(RemoteCaches::compresses_new),
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
    let identity = base.with_layer(tree);
    results.note(record.definition, key, Some(identity));
    results.export(key, &id, true, flight.claim.as_ref());
    let mut layers = below;
    layers.push(LayerRef::of_step(id, made, key));
    Ok(Committed {
        output: Output::Layers(layers),
        identity,
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
    if let Some(older) = store.records().record(key)?
        && older.layer.tree == packed.tree
        && facts.unused.replaced()
    {
        store.records().refresh_record(key, facts.started)?;
        store.drop_layer(&id)?;
        return Ok((older.layer.id, older.made));
    }
    store.record_layer(&id, packed, SystemTime::now())?;
    store.records().put_record(&NewRecord {
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
