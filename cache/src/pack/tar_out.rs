//! Hashes a tar on its way to a sink, on a thread of its own where that is worth one.

use std::io::Write;
use std::sync::mpsc;
use std::thread::{Scope, ScopedJoinHandle};

use kiln_image::layer::Output;
use kiln_image::{Digest, Hasher};

/// Bytes that pass between the threads at once; the first are fewer.
const CHUNK: usize = 1 << 20;
/// Chunks that may be on their way.
const IN_FLIGHT: usize = 6;

/// The digest of a tar and its bytes.
pub(super) type Tar = (Digest, u64);

/// Hashes a tar and passes it on. What fits into one buffer is hashed here, the rest by a thread of
/// its own.
pub(super) struct ChunkWriter<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    sink: Option<&'env mut (dyn Write + Send)>,
    small: Option<Tar>,
    thread: Option<HashingThread<'scope>>,
}

struct HashingThread<'scope> {
    full: mpsc::SyncSender<(Vec<u8>, usize)>,
    empty: mpsc::Receiver<Vec<u8>>,
    handle: ScopedJoinHandle<'scope, std::io::Result<Tar>>,
}

fn broken() -> std::io::Error {
    std::io::ErrorKind::BrokenPipe.into()
}

impl<'scope, 'env> ChunkWriter<'scope, 'env> {
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        sink: &'env mut (dyn Write + Send),
    ) -> Self {
        Self {
            scope,
            sink: Some(sink),
            small: None,
            thread: None,
        }
    }

    /// The thread, which is started the first time.
    fn thread(&mut self) -> std::io::Result<&HashingThread<'scope>> {
        if let Some(sink) = self.sink.take() {
            let (full, from_walker) = mpsc::sync_channel::<(Vec<u8>, usize)>(IN_FLIGHT);
            let (give_back, empty) = mpsc::channel();
            let handle = self.scope.spawn(move || {
                let mut tar = TarHasher::new(sink);
                for (chunk, filled) in from_walker {
                    tar.write(chunk.get(..filled).unwrap_or_default())?;
                    // The walker may be done and not want it back.
                    let _ = give_back.send(chunk);
                }
                tar.finish()
            });
            self.thread = Some(HashingThread {
                full,
                empty,
                handle,
            });
        }
        self.thread.as_ref().ok_or_else(broken)
    }

    /// The digest, when all was taken.
    pub(super) fn finish(self) -> std::io::Result<Tar> {
        match self.small {
            Some(tar) => Ok(tar),
            None => self.join(),
        }
    }

    /// The thread's result. Its error says more than that of a closed channel.
    pub(super) fn join(self) -> std::io::Result<Tar> {
        let Some(HashingThread { full, handle, .. }) = self.thread else {
            return Err(broken());
        };
        drop(full);
        let joined = handle.join();
        joined.unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()))
    }
}

impl Output for ChunkWriter<'_, '_> {
    fn take(&mut self, chunk: Vec<u8>, filled: usize) -> std::io::Result<Vec<u8>> {
        let last = filled < chunk.len();
        if let Some(sink) = self.sink.take_if(|_| last) {
            let mut tar = TarHasher::new(sink);
            tar.write(chunk.get(..filled).unwrap_or_default())?;
            self.small = Some(tar.finish()?);
            return Ok(chunk);
        }
        let thread = self.thread()?;
        let next = thread.empty.try_recv();
        thread.full.send((chunk, filled)).map_err(|_| broken())?;
        Ok(next.unwrap_or_else(|_| vec![0; CHUNK]))
    }

    /// All that was taken is on its way.
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Hashes what is written to a sink.
struct TarHasher<'a> {
    sink: &'a mut (dyn Write + Send),
    hasher: Hasher,
    size: u64,
}

impl<'a> TarHasher<'a> {
    fn new(sink: &'a mut (dyn Write + Send)) -> Self {
        Self {
            sink,
            hasher: Hasher::sha256(),
            size: 0,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.sink.write_all(bytes)
    }

    fn finish(self) -> std::io::Result<Tar> {
        self.sink.flush()?;
        Ok((self.hasher.finish(), self.size))
    }
}
