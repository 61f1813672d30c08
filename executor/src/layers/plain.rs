//! The tar of a layer's blob: one thread decompresses it and another hashes it while it is unpacked.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use kiln_image::compression::decoder;
use kiln_image::{Digest, Hasher, read_full};

/// Bytes that are passed on at once.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait for a thread.
const WAITING: usize = 16;

/// Chunks that nobody uses any more.
type Spare = Arc<Mutex<Vec<Vec<u8>>>>;

/// Some bytes of the tar.
#[derive(Clone)]
struct Chunk {
    bytes: Arc<Vec<u8>>,
    filled: usize,
}

impl Chunk {
    /// The last who uses a chunk gives it back.
    fn give_back(self, spare: &Spare) {
        if let Some(bytes) = Arc::into_inner(self.bytes) {
            spare
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(bytes);
        }
    }
}

/// Reads the tar.
pub(super) struct PlainTar {
    chunks: mpsc::Receiver<std::io::Result<Chunk>>,
    current: Option<Chunk>,
    at: usize,
    spare: Spare,
    hashing: JoinHandle<(Digest, u64)>,
}

impl PlainTar {
    /// Reads at most `most` bytes of what `input` holds in whatever compression.
    ///
    /// # Errors
    /// The input cannot be read, or there are no threads.
    pub(super) fn start(input: Box<dyn Read + Send>, most: u64) -> std::io::Result<Self> {
        let (_, plain) = decoder(input)?;
        let spare = Spare::default();
        let (to_reader, chunks) = mpsc::sync_channel(WAITING);
        let (to_hasher, to_hash) = mpsc::sync_channel::<Chunk>(WAITING);
        let own = Arc::clone(&spare);
        let hashing = std::thread::Builder::new()
            .name("hash".into())
            .spawn(move || {
                let (mut hasher, mut size) = (Hasher::sha256(), 0);
                for chunk in to_hash {
                    hasher.update(chunk.bytes.get(..chunk.filled).unwrap_or_default());
                    size += chunk.filled as u64;
                    chunk.give_back(&own);
                }
                (hasher.finish(), size)
            })?;
        let own = Arc::clone(&spare);
        std::thread::Builder::new()
            .name("decode".into())
            .spawn(move || {
                let mut plain = plain.take(most);
                loop {
                    let next = own.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let mut bytes = next.unwrap_or_else(|| vec![0; CHUNK]);
                    let filled = match read_full(&mut plain, &mut bytes) {
                        Ok(0) => break,
                        Ok(filled) => filled,
                        Err(error) => {
                            // Nobody may be left to hear of it.
                            let _ = to_reader.send(Err(error));
                            break;
                        }
                    };
                    let chunk = Chunk {
                        bytes: Arc::new(bytes),
                        filled,
                    };
                    // The reader has given up, or the hasher is gone.
                    if to_hasher.send(chunk.clone()).is_err() || to_reader.send(Ok(chunk)).is_err()
                    {
                        break;
                    }
                }
            })?;
        Ok(Self {
            chunks,
            current: None,
            at: 0,
            spare,
            hashing,
        })
    }

    /// The digest and length of the tar, which has been read to its end.
    ///
    /// # Errors
    /// The thread that hashes has ended.
    pub(super) fn finish(self) -> std::io::Result<(Digest, u64)> {
        drop(self.chunks);
        self.hashing
            .join()
            .map_err(|_| std::io::Error::other("the thread that hashes ended"))
    }
}

impl Read for PlainTar {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if let Some(chunk) = &self.current {
                let rest = chunk.bytes.get(self.at..chunk.filled).unwrap_or_default();
                if !rest.is_empty() {
                    let n = rest.len().min(out.len());
                    out[..n].copy_from_slice(&rest[..n]);
                    self.at += n;
                    return Ok(n);
                }
            }
            if let Some(used) = self.current.take() {
                used.give_back(&self.spare);
            }
            match self.chunks.recv() {
                Ok(chunk) => (self.current, self.at) = (Some(chunk?), 0),
                // The end.
                Err(mpsc::RecvError) => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives some bytes and then an error.
    struct Broken(usize);

    impl Read for Broken {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::Error::other("broken"));
            }
            let n = self.0.min(out.len());
            self.0 -= n;
            out[..n].fill(7);
            Ok(n)
        }
    }

    #[test]
    fn all_bytes_come_and_are_hashed_whatever_their_number() {
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 40 * CHUNK + 17] {
            let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let mut tar =
                PlainTar::start(Box::new(std::io::Cursor::new(bytes.clone())), u64::MAX).unwrap();
            let mut got = Vec::new();
            tar.read_to_end(&mut got).unwrap();
            assert!(got == bytes, "{size}");
            assert_eq!(tar.finish().unwrap(), (Digest::of(&bytes), size as u64));
        }
    }

    #[test]
    fn what_is_too_long_is_cut_off_and_an_error_is_passed_on() {
        let mut tar = PlainTar::start(Box::new(Broken(3 * CHUNK)), CHUNK as u64 + 5).unwrap();
        let mut got = Vec::new();
        assert_eq!(tar.read_to_end(&mut got).unwrap(), CHUNK + 5);
        let mut tar = PlainTar::start(Box::new(Broken(3 * CHUNK)), u64::MAX).unwrap();
        assert_eq!(tar.read_to_end(&mut got).unwrap_err().to_string(), "broken");
    }

    #[test]
    fn a_reader_that_gives_up_leaves_no_thread_behind() {
        let mut tar = PlainTar::start(Box::new(std::io::repeat(1)), u64::MAX).unwrap();
        tar.read_exact(&mut [0; 10]).unwrap();
        // It returns although the input never ends.
        tar.finish().unwrap();
    }
}
