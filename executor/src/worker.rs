//! The engine as the solver's worker: sources, fingerprints, lookups, steps, commits.

use std::sync::Arc;
use std::time::SystemTime;

use kiln_cache::{Flight, LayerId, NewRecord, Packed, Store, pack};
use kiln_solver::key::{Fingerprint, Identity, Key, LabelledInput};
use kiln_solver::plan::{Copy, Exec, File, Source};
use kiln_solver::ports::{
    Committed, Hit, Made, Pending, PortError, Record, Selection, Solved, Sourced, Step, Worker,
};

use crate::engine::Engine;
use crate::error::{Error, Result, blocking};
use crate::file;
use crate::output::{LayerRef, Output};

/// A layer that a step has made.
#[derive(Debug)]
pub struct NewLayer {
    pub(crate) id: LayerId,
    pub(crate) below: Vec<LayerRef>,
    pub(crate) epoch: Option<u64>,
}

impl Engine {
    /// The result of a step: `id` on top of `below`.
    pub(crate) fn made(
        below: Vec<LayerRef>,
        id: LayerId,
        epoch: Option<u64>,
    ) -> Made<Output, NewLayer> {
        let mut layers = below.clone();
        layers.push(LayerRef::stored(id.clone()));
        Made {
            output: Output::Layers(layers),
            layer: NewLayer { id, below, epoch },
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

impl Worker for Engine {
    type Output = Output;
    type Layer = NewLayer;
    type Flight = Flight;

    async fn source(&self, op: &Source, step: &Step) -> Result<Sourced<Output>, PortError> {
        Ok(self.bring_in(op, step).await?)
    }

    async fn fingerprint_copy(
        &self,
        copy: &Copy,
        input: &Solved<Output>,
    ) -> Result<Selection, PortError> {
        let memo = memo_of(input, file::selection_id(copy));
        Ok(self
            .fingerprint(input, memo, &file::Wanted::of_copy(copy))
            .await?)
    }

    async fn fingerprint_path(
        &self,
        input: &Solved<Output>,
        path: &str,
    ) -> Result<Selection, PortError> {
        let memo = memo_of(input, format!("path {path}"));
        Ok(self
            .fingerprint(input, memo, &file::Wanted::of_path(path))
            .await?)
    }

    async fn lookup(
        &self,
        key: Key,
        base: Option<&Solved<Output>>,
        not_before: Option<SystemTime>,
    ) -> Result<Option<Hit<Output>>, PortError> {
        let found = self.s.store.record(key).map_err(Error::from)?;
        let Some(record) = found else { return Ok(None) };
        if not_before.is_some_and(|t| record.ran_at < t) {
            return Ok(None);
        }
        let below = match base {
            Some(base) => base.identity.wait().await?,
            None => Identity::empty(),
        };
        let mut layers = base_layers(base)?;
        let identity = below.with_layer(record.layer.tree);
        layers.push(LayerRef::stored(record.layer.id));
        let solved = Solved {
            output: Output::Layers(layers),
            identity: Pending::ready(identity),
        };
        Ok(Some(Hit {
            solved,
            ran_at: record.ran_at,
        }))
    }

    async fn flight(&self, definition: Key, step: &Step) -> Result<Flight, PortError> {
        Ok(self.take_flight(definition, step).await?)
    }

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

    fn commit(
        &self,
        made: Made<Output, NewLayer>,
        record: Record<Output>,
    ) -> impl Future<Output = Result<Committed<Output>, PortError>> + Send + 'static {
        let store = self.s.store.clone();
        async move { Ok(commit(store, made, record).await?) }
    }
}

/// Under what a fingerprint is remembered; directories of the user's are not.
fn memo_of(input: &Solved<Output>, selection: String) -> Option<(String, String)> {
    match &input.output {
        Output::Layers(_) => Some((input.identity.now()?.to_hex(), selection)),
        Output::Dir(_) => None,
    }
}

impl Engine {
    async fn fingerprint(
        &self,
        input: &Solved<Output>,
        memo: Option<(String, String)>,
        wanted: &file::Wanted,
    ) -> Result<Selection> {
        if let Some((identity, selection)) = &memo
            && let Some(known) = self.s.store.known_fingerprint(identity, selection)?
            && let Some(fingerprint) = Fingerprint::from_hex(&known)
        {
            return Ok(Selection {
                fingerprint,
                paths: Vec::new(),
            });
        }
        let tree = self.open(&input.output).await?;
        let (store, wanted) = (self.s.store.clone(), wanted.clone());
        let (fingerprint, paths) =
            blocking(move || file::fingerprint(&store, &tree, &wanted)).await?;
        if let Some((identity, selection)) = &memo {
            self.s
                .store
                .put_fingerprint(identity, selection, &fingerprint.to_hex())?;
        }
        Ok(Selection { fingerprint, paths })
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
    store: Store,
    made: Made<Output, NewLayer>,
    record: Record<Output>,
) -> Result<Committed<Output>> {
    let NewLayer { id, below, epoch } = made.layer;
    let dir = store.layer_dir(&id);
    let packed = blocking(move || Ok(pack(&dir, epoch, &mut std::io::sink())?)).await?;
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
    let facts = Facts {
        name: record.name,
        started: record.started,
        took: record.took,
        inputs,
        replaceable: record.replaceable,
    };
    blocking(move || {
        let id = settle(&store, key, id, &packed, &facts)?;
        let mut layers = below;
        layers.push(LayerRef::stored(id));
        let identity = base.with_layer(packed.tree);
        Ok(Committed {
            output: Output::Layers(layers),
            identity,
        })
    })
    .await
}

struct Facts {
    name: Arc<str>,
    started: SystemTime,
    took: std::time::Duration,
    inputs: Vec<LabelledInput>,
    replaceable: bool,
}

/// Keeps the older layer of the key if its content is the same and nobody uses the new one yet.
fn settle(store: &Store, key: Key, id: LayerId, packed: &Packed, facts: &Facts) -> Result<LayerId> {
    if facts.replaceable
        && let Some(older) = store.record(key)?
        && older.layer.tree == packed.tree
    {
        store.refresh_record(key, facts.started)?;
        store.drop_layer(&id)?;
        return Ok(older.layer.id);
    }
    store.record_layer(&id, packed, SystemTime::now())?;
    store.put_record(&NewRecord {
        key,
        layer: &id,
        ran_at: facts.started,
        took: facts.took,
        name: &facts.name,
        inputs: &facts.inputs,
    })?;
    Ok(id)
}
