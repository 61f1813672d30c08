//! The content of files: while one is written by a thread, the next is already made.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::sync::mpsc;
use std::thread::JoinHandle;

use kiln_sys::{Attributes, NewFile};

use crate::error::{Error, Result};

/// Bytes that are read at once; files up to this size are passed on.
const BUFFER: usize = 128 << 10;
/// Files that may wait for a thread.
const WAITING: usize = 16;
/// Zeros of this length become a hole.
const HOLE: usize = 16 << 10;

/// A file that has been made, with what comes into it.
struct Job {
    file: NewFile,
    content: Vec<u8>,
    attributes: Attributes,
}

/// Writes files.
pub(super) struct Writers {
    is_sparse: bool,
    buffer: Vec<u8>,
    thread: Option<(mpsc::SyncSender<Job>, JoinHandle<Result<()>>)>,
}

impl Writers {
    /// With `is_sparse` blocks of zeros become holes.
    ///
    /// # Errors
    /// There is no thread.
    pub(super) fn start(is_sparse: bool) -> Result<Self> {
        let (jobs, waiting) = mpsc::sync_channel::<Job>(WAITING);
        let thread = std::thread::Builder::new()
            .name("write".into())
            .spawn(move || {
                for mut job in waiting {
                    write(job.file.content(), &job.content, is_sparse)?;
                    end(job.file, &job.attributes, is_sparse)?;
                }
                Ok(())
            })
            .map_err(|e| Error::io("start a thread", e))?;
        Ok(Self {
            is_sparse,
            buffer: vec![0; BUFFER],
            thread: Some((jobs, thread)),
        })
    }

    /// Fills a new file with `data` and gives it its attributes. A small one gets them a little later:
    /// by [`finish`](Self::finish). Returns the hash of its content if that is wanted.
    ///
    /// # Errors
    /// The data cannot be read, or this file or an earlier one cannot be written.
    pub(super) fn write(
        &mut self,
        mut file: NewFile,
        attributes: Attributes,
        data: &mut dyn Read,
        hash: bool,
    ) -> Result<Option<blake3::Hash>> {
        let mut hasher = hash.then(blake3::Hasher::new);
        let mut is_first = true;
        loop {
            let filled = fill(data, &mut self.buffer)?;
            let bytes = self.buffer.get(..filled).unwrap_or_default();
            if let Some(hasher) = &mut hasher {
                hasher.update(bytes);
            }
            let is_last = filled < BUFFER;
            if is_first && is_last {
                let content = bytes.to_vec();
                self.pass_on(Job {
                    file,
                    content,
                    attributes,
                })?;
                break;
            }
            write(file.content(), bytes, self.is_sparse)?;
            if is_last {
                end(file, &attributes, self.is_sparse)?;
                break;
            }
            is_first = false;
        }
        Ok(hasher.map(|h| h.finalize()))
    }

    fn pass_on(&mut self, job: Job) -> Result<()> {
        match &self.thread {
            Some((jobs, _)) if jobs.send(job).is_ok() => Ok(()),
            // It has ended, which it does with an error.
            _ => self.finish().and(Err(ended())),
        }
    }

    /// Waits until all files are whole.
    ///
    /// # Errors
    /// One of them cannot be written.
    pub(super) fn finish(&mut self) -> Result<()> {
        let Some((jobs, thread)) = self.thread.take() else {
            return Ok(());
        };
        drop(jobs);
        thread.join().unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Writers {
    /// After an error: nothing may be written any more when the directory is removed.
    fn drop(&mut self) {
        // The first error is the one that counts.
        let _ = self.finish();
    }
}

fn ended() -> Error {
    let ended = std::io::Error::other("the thread that writes has ended");
    Error::io("write file", ended)
}

/// Reads until `buffer` is full or the data ends.
fn fill(data: &mut dyn Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match data.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("read archive", e)),
        }
    }
    Ok(filled)
}

/// Appends to a new file, in which what is skipped reads as zeros.
fn write(file: &mut File, bytes: &[u8], is_sparse: bool) -> Result<()> {
    let failed = |e| Error::io("write file", e);
    if !is_sparse {
        return file.write_all(bytes).map_err(failed);
    }
    for block in bytes.chunks(HOLE) {
        if block.len() == HOLE && block.iter().all(|b| *b == 0) {
            let skip = SeekFrom::Current(HOLE as i64);
            file.seek(skip).map_err(failed)?;
        } else {
            file.write_all(block).map_err(failed)?;
        }
    }
    Ok(())
}

/// The file has all its content.
fn end(mut file: NewFile, attributes: &Attributes, is_sparse: bool) -> Result<()> {
    if is_sparse {
        // It may end in a hole.
        let content = file.content();
        let size = content.stream_position();
        size.and_then(|size| content.set_len(size))
            .map_err(|e| Error::io("write file", e))?;
    }
    Ok(file.finish(attributes)?)
}
