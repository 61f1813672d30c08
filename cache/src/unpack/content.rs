//! The content of files: a thread writes it while what comes next is read and made.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::sync::mpsc;
use std::thread::JoinHandle;

use kiln_image::read_full;
use kiln_sys::{Attributes, NewFile};

use crate::error::{Error, Result};

/// Bytes that are passed on at once.
const BUFFER: usize = 128 << 10;
/// Buffers that may wait for the thread.
const WAITING: usize = 16;
/// Zeros of this length become a hole.
const HOLE: usize = 16 << 10;

/// Some bytes of a file.
struct Part {
    /// They are its first ones.
    file: Option<NewFile>,
    bytes: Vec<u8>,
    filled: usize,
    /// They are its last ones.
    attributes: Option<Attributes>,
}

/// Writes files.
pub(super) struct Writer {
    parts: mpsc::SyncSender<Part>,
    /// Buffers come back.
    spare: mpsc::Receiver<Vec<u8>>,
    thread: JoinHandle<Result<()>>,
}

impl Writer {
    /// With `is_sparse` blocks of zeros become holes.
    ///
    /// # Errors
    /// There is no thread.
    pub(super) fn start(is_sparse: bool) -> Result<Self> {
        let (parts, waiting) = mpsc::sync_channel(WAITING);
        let (used, spare) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("write".into())
            .spawn(move || write_all(waiting, &used, is_sparse))
            .map_err(|e| Error::io("start a thread", e))?;
        Ok(Self {
            parts,
            spare,
            thread,
        })
    }

    /// Fills a new file with `data` and gives it its attributes. It may get them a little later: by
    /// [`finish`](Self::finish), which also tells what went wrong when this could not go on. Returns
    /// the hash of its content if that is wanted.
    ///
    /// # Errors
    /// The data cannot be read, or this file or an earlier one cannot be written.
    pub(super) fn write(
        &self,
        file: NewFile,
        attributes: Attributes,
        data: &mut dyn Read,
        hash: bool,
    ) -> Result<Option<blake3::Hash>> {
        let mut hasher = hash.then(blake3::Hasher::new);
        let (mut file, mut attributes) = (Some(file), Some(attributes));
        while attributes.is_some() {
            let spare = self.spare.try_recv();
            let mut bytes = spare.unwrap_or_else(|_| vec![0; BUFFER]);
            let filled = read_full(data, &mut bytes).map_err(|e| Error::io("read archive", e))?;
            if let Some(hasher) = &mut hasher {
                hasher.update(bytes.get(..filled).unwrap_or_default());
            }
            let part = Part {
                file: file.take(),
                attributes: attributes.take_if(|_| filled < bytes.len()),
                bytes,
                filled,
            };
            self.parts.send(part).map_err(|_| ended())?;
        }
        Ok(hasher.map(|h| h.finalize()))
    }

    /// Waits until all files are whole.
    ///
    /// # Errors
    /// One of them cannot be written.
    pub(super) fn finish(self) -> Result<()> {
        drop(self.parts);
        self.thread.join().unwrap_or_else(|_| Err(ended()))
    }
}

fn write_all(
    parts: mpsc::Receiver<Part>,
    used: &mpsc::Sender<Vec<u8>>,
    is_sparse: bool,
) -> Result<()> {
    let mut current = None;
    for part in parts {
        current = part.file.or(current);
        let Some(file) = &mut current else { continue };
        let bytes = part.bytes.get(..part.filled).unwrap_or_default();
        write(file.content(), bytes, is_sparse)?;
        if let Some(attributes) = part.attributes
            && let Some(file) = current.take()
        {
            end(file, &attributes, is_sparse)?;
        }
        // Nobody needs it after the last file.
        let _ = used.send(part.bytes);
    }
    Ok(())
}

fn ended() -> Error {
    let ended = std::io::Error::other("the thread that writes has ended");
    Error::io("write file", ended)
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
