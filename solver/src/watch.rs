//! Who hears of a transfer, and who stops it.

use std::pin::Pin;

use tokio_util::sync::CancellationToken;

use crate::event::{Event, Events};
use crate::plan::VertexId;

/// Who hears of a transfer.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Where events go.
    pub events: Events,
    /// The vertex that they are about.
    pub vertex: VertexId,
    /// Stops it.
    pub over: CancellationToken,
}

impl Watch {
    /// Tells how far a transfer is. It is over when `current` is `total`; of some nobody knows the size.
    pub fn progress(&self, label: &str, current: u64, total: impl Into<Option<u64>>) {
        self.events.send(Event::Progress {
            vertex: self.vertex,
            label: label.to_owned(),
            current,
            total: total.into(),
        });
    }

    /// Does a part of the transfer; none if nobody needs it any more. Transfers are large, and many lie
    /// in each other on the stack: `work` is on the heap.
    pub async fn unless_over<F: Future>(&self, work: Pin<Box<F>>) -> Option<F::Output> {
        tokio::select! {
            done = work => Some(done),
            () = self.over.cancelled() => None,
        }
    }
}
