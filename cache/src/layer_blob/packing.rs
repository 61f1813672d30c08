//! The tar of a layer's directory, made by a thread while it is read.

use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc;
use std::thread::JoinHandle;

use kiln_image::DiffId;

use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::pack::pack_tar;
use crate::store::Store;

/// Pieces of the tar that may wait to be read, each of at most a megabyte.
const WAITING: usize = 4;

/// Reads the tar. Its end is an error if it is not what it was when it got its diff id.
pub(super) struct Packing {
    pieces: mpsc::Receiver<Vec<u8>>,
    spare: mpsc::Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    thread: Option<JoinHandle<Result<DiffId>>>,
    wanted: DiffId,
}

/// The thread's end.
struct Pieces {
    full: mpsc::SyncSender<Vec<u8>>,
    spare: mpsc::Receiver<Vec<u8>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut piece = self.spare.try_recv().unwrap_or_default();
        piece.clear();
        piece.extend_from_slice(bytes);
        // Nobody reads any more.
        let gone = |_| std::io::Error::from(ErrorKind::BrokenPipe);
        self.full.send(piece).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Packing {
    /// Starts to make the tar.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(super) fn start(store: &Store, layer: &Layer) -> Result<Self> {
        let (full, pieces) = mpsc::sync_channel(WAITING);
        let (spare, back) = mpsc::channel();
        let mut out = Pieces { full, spare: back };
        let (dir, epoch) = (store.layer_dir(&layer.id), layer.epoch);
        let thread = std::thread::Builder::new()
            .name("pack".into())
            .spawn(move || pack_tar(&dir, epoch, &mut out))
            .map_err(|e| Error::io("start thread", e))?;
        Ok(Self {
            pieces,
            spare,
            current: Vec::new(),
            at: 0,
            thread: Some(thread),
            wanted: layer.diff_id.clone(),
        })
    }

    /// What became of the tar.
    fn end(&mut self) -> std::io::Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        match thread.join() {
            Ok(Ok(made)) if made == self.wanted => Ok(()),
            Ok(Ok(made)) => {
                let why = format!("the tar has the diff id {made}");
                Err(std::io::Error::new(ErrorKind::InvalidData, why))
            }
            Ok(Err(e)) => Err(std::io::Error::other(e)),
            Err(_) => Err(std::io::Error::other("the thread that packs ended")),
        }
    }
}

impl Read for Packing {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let rest = self.current.get(self.at..).unwrap_or_default();
            if !rest.is_empty() || out.is_empty() {
                let n = rest.len().min(out.len());
                out[..n].copy_from_slice(&rest[..n]);
                self.at += n;
                return Ok(n);
            }
            match self.pieces.recv() {
                Ok(next) => {
                    let used = std::mem::replace(&mut self.current, next);
                    self.at = 0;
                    // The thread may be done.
                    let _ = self.spare.send(used);
                }
                Err(mpsc::RecvError) => return self.end().map(|()| 0),
            }
        }
    }
}
