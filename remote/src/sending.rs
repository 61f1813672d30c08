//! Files on their way to a remote, which tell how much of them has gone.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kiln_registry::{BlobReader, BlobSource};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeekExt as _, ReadBuf};

use crate::pace::{Hold, Pace};

/// A file of this host that a remote gets.
pub(crate) struct Sending {
    file: PathBuf,
    pace: Arc<Pace>,
    /// Once all of it has gone, the remote may take its time: it has to store something large.
    then_rests: bool,
}

impl Sending {
    /// Something large, which goes alone. The remote gets time when it has all of it.
    pub(crate) fn alone(file: PathBuf, pace: Arc<Pace>) -> Self {
        Self {
            file,
            pace,
            then_rests: true,
        }
    }

    /// One of many pieces, which have one pace together.
    pub(crate) fn piece(file: PathBuf, pace: Arc<Pace>) -> Self {
        Self {
            file,
            pace,
            then_rests: false,
        }
    }

    /// Counts so many bytes as being on their way until the value is dropped.
    pub(crate) fn hold(&self, bytes: u64) -> Hold<'_> {
        self.pace.hold(bytes)
    }
}

impl BlobSource for Sending {
    async fn open(&self, offset: u64) -> std::io::Result<BlobReader> {
        let mut file = File::open(&self.file).await?;
        file.seek(SeekFrom::Start(offset)).await?;
        self.pace.rest(false);
        Ok(Box::pin(Going {
            file,
            pace: self.pace.clone(),
            then_rests: self.then_rests,
        }))
    }
}

/// Tells the pace what is taken.
struct Going {
    file: File,
    pace: Arc<Pace>,
    then_rests: bool,
}

impl AsyncRead for Going {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.file).poll_read(cx, into);
        if read.is_ready() {
            match into.filled().len() - before {
                0 if self.then_rests => self.pace.rest(true),
                more => self.pace.moved(more as u64),
            }
        }
        read
    }
}
