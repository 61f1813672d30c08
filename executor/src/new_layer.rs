//! What a step made, before it is in the cache.

use kiln_cache::{LayerId, SpaceGuard, Unmeasured};
use kiln_solver::ports::Made;

use crate::output::{LayerRef, Output};

/// A layer that a step has made.
#[derive(Debug)]
pub struct NewLayer {
    pub(crate) id: LayerId,
    pub(crate) below: Vec<LayerRef>,
    pub(crate) epoch: Option<u64>,
    pub(crate) unmeasured: Unmeasured,
}

impl NewLayer {
    /// The result of a step: `id` on top of `below`.
    pub(crate) fn made(
        space: &SpaceGuard,
        below: Vec<LayerRef>,
        id: LayerId,
        epoch: Option<u64>,
    ) -> Made<Output, Self> {
        let mut layers = below.clone();
        layers.push(LayerRef::stored(id.clone(), None));
        Made {
            output: Output::Layers(layers),
            layer: Self {
                id,
                below,
                epoch,
                unmeasured: space.unmeasured(),
            },
        }
    }
}
