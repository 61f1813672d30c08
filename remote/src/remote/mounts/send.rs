//! Pieces of cache mounts on their way to a remote.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::super::Remote;
use super::{SEND, descriptor};
use crate::backend::Backend;
use crate::error::RemoteError;
use crate::limits::transfer_time;
use crate::pace::Pace;
use crate::sending::Sending;
use kiln_cache::MountChunk;

/// Pieces that are sent at once.
const SENDING: usize = 8;

impl Remote {
    /// Sends pieces that the remote does not have, of the files that `file` names. `sent` is told the
    /// bytes of each that was sent.
    ///
    /// # Errors
    /// The remote failed or was too slow.
    pub async fn put_chunks(
        &self,
        chunks: Vec<MountChunk>,
        file: impl Fn(&MountChunk) -> PathBuf,
        sent: impl Fn(u64),
    ) -> Result<(), RemoteError> {
        // One pace for all of them: each is so small that it could take its time.
        let pace = Arc::new(Pace::of_sending());
        let put = |chunk: MountChunk| {
            let file = Sending::piece(file(&chunk), pace.clone());
            let pace = pace.clone();
            async move {
                let sent = self.put_chunk(&chunk, &file).await?;
                if !sent {
                    pace.moved(chunk.size);
                }
                Ok::<_, RemoteError>(if sent { chunk.size } else { 0 })
            }
        };
        let mut sending = stream::iter(chunks).map(put).buffer_unordered(SENDING);
        loop {
            let next = match pace.keep(SEND, sending.next()).await {
                Ok(_) if !pace.is_fast() => Err(RemoteError::TakesLittle { action: SEND }),
                other => other,
            };
            match next {
                Ok(None) => return Ok(()),
                Ok(Some(bytes)) => sent(bytes?),
                Err(slow) => {
                    self.inner.breaker.failed();
                    return Err(slow);
                }
            }
        }
    }

    /// Sends a piece, unless the remote has it. Returns whether bytes were sent.
    async fn put_chunk(&self, chunk: &MountChunk, file: &Sending) -> Result<bool, RemoteError> {
        let (blob, damaged) = (descriptor(chunk), self.is_damaged(&chunk.digest));
        // It shares the line with the others.
        let most = transfer_time(blob.size * SENDING as u64);
        self.guarded(SEND, most, async {
            match &self.inner.backend {
                Backend::Registry(registry) => registry.put_blob(SEND, &blob, file, &[]).await,
                Backend::Objects(objects) => objects.put_blob(SEND, &blob, file, damaged).await,
            }
        })
        .await
    }
}
