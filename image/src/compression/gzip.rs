//! Gzip over fixed blocks, compressed side by side.
//!
//! The stream is one gzip member. Every block is compressed on its own and ends on a byte boundary
//! (a sync flush), so blocks can simply follow each other; one empty final block ends the member.
//! Block bounds depend on the input alone, and so do the bytes.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::{Compress, Crc, FlushCompress, Status};

/// Bytes of input in a block.
const BLOCK: usize = 1 << 20;
/// No name, no time, unknown operating system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A final deflate block of no bytes.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Compresses to gzip with several threads. At most two blocks per thread are in memory.
pub struct ParallelGzip<W: Write> {
    output: W,
    level: u32,
    threads: usize,
    block: Vec<u8>,
    crc: Crc,
    started: bool,
    workers: Option<Workers>,
}

struct Workers {
    jobs: SyncSender<Job>,
    pending: VecDeque<Receiver<io::Result<Block>>>,
    threads: Vec<JoinHandle<()>>,
}

struct Job {
    input: Vec<u8>,
    reply: SyncSender<io::Result<Block>>,
}

struct Block {
    compressed: Vec<u8>,
    crc: Crc,
}

impl<W: Write> ParallelGzip<W> {
    /// Starts a stream at a level from 0 to 9. Threads start with the second block.
    pub fn new(output: W, level: u32, threads: usize) -> Self {
        Self {
            output,
            level: level.min(9),
            threads: threads.clamp(1, 256),
            block: Vec::new(),
            crc: Crc::new(),
            started: false,
            workers: None,
        }
    }

    /// Ends the stream and returns the output, flushed.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.submit()?;
        }
        while self.receive()? {}
        self.start()?;
        self.output.write_all(&LAST_BLOCK)?;
        self.output.write_all(&self.crc.sum().to_le_bytes())?;
        self.output.write_all(&self.crc.amount().to_le_bytes())?;
        self.output.flush()?;
        if let Some(Workers { jobs, threads, .. }) = self.workers.take() {
            drop(jobs);
            for thread in threads {
                // A panic would have shown as a lost reply before.
                let _ = thread.join();
            }
        }
        Ok(self.output)
    }

    fn start(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.started, true) {
            self.output.write_all(&HEADER)?;
        }
        Ok(())
    }

    /// Hands the current block on.
    fn submit(&mut self) -> io::Result<()> {
        let whole = self.block.len() == BLOCK;
        let space = if whole {
            Vec::with_capacity(BLOCK)
        } else {
            Vec::new()
        };
        let input = std::mem::replace(&mut self.block, space);
        if self.threads == 1 || (self.workers.is_none() && !whole) {
            let block = compress(&input, self.level)?;
            return self.emit(&block);
        }
        if self.workers.is_none() {
            self.workers = Some(Workers::start(self.threads, self.level)?);
        }
        while self
            .workers
            .as_ref()
            .is_some_and(|w| w.pending.len() >= 2 * self.threads)
        {
            self.receive()?;
        }
        match &mut self.workers {
            Some(workers) => workers.send(input),
            None => Err(lost()),
        }
    }

    /// Writes the oldest block that is on its way; `false` when there is none.
    fn receive(&mut self) -> io::Result<bool> {
        let Some(next) = self
            .workers
            .as_mut()
            .and_then(|workers| workers.pending.pop_front())
        else {
            return Ok(false);
        };
        let block = next.recv().map_err(|_| lost())??;
        self.emit(&block)?;
        Ok(true)
    }

    fn emit(&mut self, block: &Block) -> io::Result<()> {
        self.start()?;
        self.crc.combine(&block.crc);
        self.output.write_all(&block.compressed)
    }
}

impl<W: Write> Write for ParallelGzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = bytes.len().min(BLOCK - self.block.len());
        self.block
            .extend_from_slice(bytes.get(..take).unwrap_or_default());
        if self.block.len() == BLOCK {
            self.submit()?;
        }
        Ok(take)
    }

    /// Does nothing: where blocks end depends on the input only.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> fmt::Debug for ParallelGzip<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParallelGzip")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

impl Workers {
    fn start(count: usize, level: u32) -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(2 * count);
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..count)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::Builder::new()
                    .name("gzip".into())
                    .spawn(move || {
                        loop {
                            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                            let Ok(Job { input, reply }) = job else {
                                return;
                            };
                            // The reader may have given up after an error.
                            let _ = reply.send(compress(&input, level));
                        }
                    })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            jobs,
            pending: VecDeque::new(),
            threads,
        })
    }

    fn send(&mut self, input: Vec<u8>) -> io::Result<()> {
        let (reply, answer) = sync_channel(1);
        self.jobs.send(Job { input, reply }).map_err(|_| lost())?;
        self.pending.push_back(answer);
        Ok(())
    }
}

fn lost() -> io::Error {
    io::Error::other("a compression thread has ended")
}

fn compress(input: &[u8], level: u32) -> io::Result<Block> {
    let mut crc = Crc::new();
    crc.update(input);
    let mut state = Compress::new(flate2::Compression::new(level), false);
    let mut compressed = Vec::with_capacity(input.len() / 2 + 1024);
    loop {
        let done = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        let rest = input.get(done..).unwrap_or_default();
        let status = state.compress_vec(rest, &mut compressed, FlushCompress::Sync)?;
        let consumed = state.total_in() == input.len() as u64;
        // Room that is left over means that the flush is complete.
        if consumed && compressed.len() < compressed.capacity() {
            return Ok(Block { compressed, crc });
        }
        if status == Status::StreamEnd {
            return Err(io::Error::other("the compressor ended a block early"));
        }
        compressed.reserve(64 << 10);
    }
}
