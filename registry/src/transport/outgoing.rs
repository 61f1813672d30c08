//! Bodies on their way out, and how long a server may be still meanwhile.
//!
//! How long a body takes is up to its size and the line. What is watched instead is that the server takes
//! something of it now and then, and answers soon after it has all.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use crate::io::BlobReader;

/// A body that tells how much was taken of it.
pub(super) struct Outgoing {
    body: BlobReader,
    taken: Taken,
}

/// How much was taken of a body.
#[derive(Clone, Default)]
pub(super) struct Taken(Arc<AtomicU64>);

impl Outgoing {
    pub(super) fn new(body: BlobReader) -> (Self, Taken) {
        let taken = Taken::default();
        let body = Self {
            body,
            taken: taken.clone(),
        };
        (body, taken)
    }
}

impl AsyncRead for Outgoing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = self.body.as_mut().poll_read(cx, into);
        // At its end it is read, too: that is a sign of life.
        if read.is_ready() {
            let more = into.filled().len() - before;
            self.taken.0.fetch_add(1 + more as u64, Ordering::Relaxed);
        }
        read
    }
}

impl Taken {
    /// Does some work as long as something is taken from time to time; none if nothing was for this
    /// long.
    pub(super) async fn keep<T>(
        &self,
        silence: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let done = tokio::time::timeout_at(since + silence, &mut work).await;
            if let Ok(done) = done {
                return Some(done);
            }
            let taken = self.0.load(Ordering::Relaxed);
            if taken == seen {
                return None;
            }
            (seen, since) = (taken, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_may_take_as_long_as_it_is_taken() {
        let second = Duration::from_secs(1);
        for (pause, kept) in [(1, true), (9, true), (25, false)] {
            let bytes: &[u8] = &[0; 100];
            let (mut body, taken) = Outgoing::new(Box::pin(bytes));
            let work = async {
                let mut byte = [0];
                while body.read(&mut byte).await.unwrap() > 0 {
                    tokio::time::sleep(pause * second).await;
                }
            };
            let done = taken.keep(10 * second, work).await;
            assert_eq!(done.is_some(), kept, "{pause}");
        }
        // There is no answer.
        let bytes: &[u8] = &[];
        let (_, taken) = Outgoing::new(Box::pin(bytes));
        let silence = taken.keep(second, std::future::pending::<()>());
        assert!(silence.await.is_none());
    }
}
