//! A cache mount that comes from a remote, while it is unpacked.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use kiln_sys::RootDir;
use tokio_util::sync::CancellationToken;

use super::super::Remote;
use super::pieces::Pieces;
use super::{FETCH, RemoteMount, descriptor};
use crate::error::RemoteError;
use crate::pace::Pace;
use kiln_cache::MountChunk;
use kiln_cache::Scratch;
use kiln_cache::{UnpackOptions, unpack};

/// Pieces that are fetched at once.
const FETCHING: usize = 6;

impl Remote {
    /// Brings the content of a cache mount into the folder `data` of a directory, which is made. Where a
    /// piece is damaged, nothing comes of it; then `find_all` has the other pieces looked at all the
    /// same, so that all that are damaged are known. `progress` is told the bytes that have come.
    ///
    /// # Errors
    /// The remote failed or was too slow, a piece is damaged, or the archive is refused.
    pub async fn fetch_mount(
        &self,
        mount: &RemoteMount,
        to: Arc<Scratch>,
        find_all: bool,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RemoteError> {
        let (give, from) = tokio::sync::mpsc::channel(1);
        // Ends the unpacking also where this is dropped.
        let stop = CancellationToken::new();
        let unneeded = stop.clone().drop_guard();
        let pieces = Pieces {
            from,
            stop,
            left: mount.length(),
            plain: Vec::new(),
            at: 0,
            again: 0,
        };
        let unpacking = tokio::task::spawn_blocking(move || {
            let data = to.path().join("data");
            std::fs::create_dir(&data).map_err(|e| kiln_cache::Error::io("make cache mount", e))?;
            let options = UnpackOptions {
                no_devices: true,
                no_links: true,
                ..UnpackOptions::default()
            };
            unpack(pieces, &RootDir::open_trusted(&data)?, &options)
        });
        // Pieces come in turns of their own, so they have one pace together.
        let pace = Pace::default();
        let fetch = |(chunk, times): (MountChunk, u64)| {
            let pace = &pace;
            async move {
                let blob = descriptor(&chunk);
                let bytes = self.counted(self.fetch_small(FETCH, &blob, pace)).await?;
                Ok::<_, RemoteError>((bytes, chunk.length, times))
            }
        };
        let mut fetched = stream::iter(mount.runs()).map(fetch).buffered(FETCHING);
        let (mut give, mut unneeded) = (Some(give), Some(unneeded));
        let (mut done, mut outcome) = (0, Ok(()));
        loop {
            // What is damaged is known when its turn comes; the unpacking takes the time that it takes.
            let next = match pace.keep(FETCH, fetched.next()).await {
                Ok(None) => break,
                Ok(Some(_)) if !pace.is_fast() => Err(RemoteError::Trickles { action: FETCH }),
                Ok(Some(piece)) => piece,
                Err(error) => Err(error),
            };
            match next {
                Ok(piece) => {
                    done += piece.0.len() as u64;
                    progress(done);
                    // Whoever does not take it any more says why below.
                    if let Some(give) = &give
                        && give.send(piece).await.is_err()
                    {
                        break;
                    }
                }
                Err(error) => {
                    (give, unneeded) = (None, None);
                    let damaged = matches!(error, RemoteError::Wrong { .. });
                    if matches!(error, RemoteError::Trickles { .. }) {
                        self.inner.breaker.failed();
                    }
                    outcome = outcome.and(Err(error));
                    if !damaged || !find_all {
                        break;
                    }
                }
            }
        }
        drop(give);
        // Once everything was given, the repeated pieces at the end are still unpacked.
        let unpacked = unpacking.await;
        drop(unneeded);
        outcome?;
        match unpacked.map_err(std::io::Error::other) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error @ (kiln_cache::Error::Layer(_) | kiln_cache::Error::Entry { .. }))) => {
                Err(RemoteError::Refused(format!("a cache mount: {error}")))
            }
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(kiln_cache::Error::io("unpack a cache mount", error).into()),
        }
    }
}
