//! The content of files: a thread writes it while what comes next is read and made.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;

use kiln_image::layer::FileData;
use kiln_image::read_full;
use kiln_sys::{Attributes, NewFile};

use crate::error::{Error, Result};

/// Bytes that are passed on at once.
const BUFFER: usize = 128 << 10;
/// Buffers that may wait for the thread.
const WAITING: usize = 16;
/// Zeros of this length become a hole.
const HOLE: usize = 16 << 10;

/// What the thread does next.
enum Work {
    Part(FilePart),
    /// A file that is there gets other attributes.
    Attributes(PathBuf, OwnedFd, Attributes),
}

/// Some bytes of a file.
struct FilePart {
    /// They are its first ones.
    file: Option<NewFile>,
    /// Zeros before them that need not be written.
    hole: u64,
    bytes: Vec<u8>,
    filled: usize,
    /// They are its last ones.
    attributes: Option<Attributes>,
}

/// Writes files.
pub(super) struct Writer {
    parts: mpsc::SyncSender<Work>,
    /// Buffers come back.
    spare: mpsc::Receiver<Vec<u8>>,
    thread: JoinHandle<Result<()>>,
}

impl Writer {
    /// Starts the thread. Blocks of zeros become holes.
    ///
    /// # Errors
    /// There is no thread.
    pub(super) fn start() -> Result<Self> {
        let (parts, waiting) = mpsc::sync_channel(WAITING);
        let (used, spare) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("write".into())
            .spawn(move || write_all(waiting, &used))
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
        data: &mut dyn FileData,
        hash: bool,
    ) -> Result<Option<blake3::Hash>> {
        let mut hasher = hash.then(blake3::Hasher::new);
        let (mut file, mut attributes) = (Some(file), Some(attributes));
        while attributes.is_some() {
            let hole = data.pass_hole();
            if let Some(hasher) = &mut hasher {
                hash_zeros(hasher, hole);
            }
            let spare = self.spare.try_recv();
            let mut bytes = spare.unwrap_or_else(|_| vec![0; BUFFER]);
            let filled = read_full(data, &mut bytes).map_err(|e| Error::io("read archive", e))?;
            if let Some(hasher) = &mut hasher {
                hasher.update(bytes.get(..filled).unwrap_or_default());
            }
            let part = FilePart {
                file: file.take(),
                hole,
                attributes: attributes.take_if(|_| filled < bytes.len()),
                bytes,
                filled,
            };
            self.parts.send(Work::Part(part)).map_err(|_| ended())?;
        }
        Ok(hasher.map(|h| h.finalize()))
    }

    /// Gives the file at `path`, in whatever way it is open, other attributes when all that was written before is
    /// whole.
    ///
    /// # Errors
    /// An earlier file cannot be written.
    pub(super) fn set_later(
        &self,
        path: PathBuf,
        file: OwnedFd,
        attributes: Attributes,
    ) -> Result<()> {
        let work = Work::Attributes(path, file, attributes);
        self.parts.send(work).map_err(|_| ended())
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

fn hash_zeros(hasher: &mut blake3::Hasher, mut length: u64) {
    static ZEROS: [u8; HOLE] = [0; HOLE];
    while length > 0 {
        let now = usize::try_from(length).map_or(HOLE, |left| left.min(HOLE));
        hasher.update(ZEROS.get(..now).unwrap_or_default());
        length -= now as u64;
    }
}

fn write_all(parts: mpsc::Receiver<Work>, used: &mpsc::Sender<Vec<u8>>) -> Result<()> {
    // The file that is written, and whether it ends in a hole so far.
    let mut current = None;
    for work in parts {
        let part = match work {
            Work::Part(part) => part,
            Work::Attributes(path, file, attributes) => {
                attributes.set_on(&path, &file)?;
                continue;
            }
        };
        current = part.file.map(|file| (file, false)).or(current);
        let Some((file, in_hole)) = &mut current else {
            continue;
        };
        let bytes = part.bytes.get(..part.filled).unwrap_or_default();
        write(file.content(), part.hole, bytes, in_hole)?;
        if let Some(attributes) = part.attributes
            && let Some((file, in_hole)) = current.take()
        {
            end(file, in_hole, &attributes)?;
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

/// Appends a hole and bytes to a new file, in which what is skipped reads as zeros. `in_hole` is
/// whether it ends in one, which gives it no length yet.
fn write(file: &mut File, hole: u64, bytes: &[u8], in_hole: &mut bool) -> Result<()> {
    let failed = |e| Error::io("write file", e);
    let skip = |file: &mut File, length: u64| {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        file.seek(SeekFrom::Current(length)).map(drop)
    };
    if hole > 0 {
        skip(file, hole).map_err(failed)?;
        *in_hole = true;
    }
    // What lies between two holes is written at once.
    let mut rest = bytes;
    while !rest.is_empty() {
        let is_hole = |block: &&[u8]| block.len() == HOLE && is_zero(block);
        let data = rest.chunks(HOLE).take_while(|block| !is_hole(block));
        let (data, after) = rest.split_at(data.map(<[u8]>::len).sum());
        if !data.is_empty() {
            file.write_all(data).map_err(failed)?;
            *in_hole = false;
        }
        let holes = after.chunks(HOLE).take_while(is_hole).count() * HOLE;
        if holes > 0 {
            skip(file, holes as u64).map_err(failed)?;
            *in_hole = true;
        }
        rest = after.get(holes..).unwrap_or_default();
    }
    Ok(())
}

/// Whether there are nothing but zeros; found out by words, since all of a file is looked at.
fn is_zero(block: &[u8]) -> bool {
    let (words, rest) = block.as_chunks::<16>();
    rest.iter().all(|b| *b == 0) && words.iter().all(|word| u128::from_ne_bytes(*word) == 0)
}

/// The file has all its content.
fn end(mut file: NewFile, in_hole: bool, attributes: &Attributes) -> Result<()> {
    if in_hole {
        let failed = |e| Error::io("write file", e);
        let content = file.content();
        let size = content.stream_position().map_err(failed)?;
        content.set_len(size).map_err(failed)?;
    }
    Ok(file.finish(attributes)?)
}
