//! A file that keeps the beginning and the end of what is written, and says how much is left out between.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// Half of the limit from the beginning, and a ring of the same size for the end.
#[derive(Debug)]
pub(super) struct CappedFile {
    file: File,
    half: u64,
    /// Bytes that were written.
    written: u64,
}

impl CappedFile {
    /// Makes a file of at most `limit` bytes, and a line more.
    pub(super) fn create(path: &Path, limit: u64) -> io::Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true);
        Ok(Self {
            file: file.open(path)?,
            half: (limit / 2).max(1),
            written: 0,
        })
    }

    /// Takes more in.
    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let at = self.place(self.written);
            // As far as the end of the ring.
            let room = (2 * self.half).saturating_sub(at);
            let count = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
            let (now, rest) = bytes.split_at(count);
            self.file.seek(SeekFrom::Start(at))?;
            self.file.write_all(now)?;
            self.written += now.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Where the byte of this number is kept.
    fn place(&self, number: u64) -> u64 {
        match number.checked_sub(self.half) {
            None => number,
            Some(beyond) => self.half + beyond % self.half,
        }
    }

    /// Brings the end into its order.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let left_out = self.written.saturating_sub(2 * self.half);
        if left_out == 0 {
            return Ok(());
        }
        let start = self.place(self.written);
        let mut ring = Vec::new();
        self.file.seek(SeekFrom::Start(self.half))?;
        (&self.file).take(self.half).read_to_end(&mut ring)?;
        let (newer, older) = ring.split_at(
            usize::try_from(start - self.half)
                .unwrap_or(0)
                .min(ring.len()),
        );
        self.file.seek(SeekFrom::Start(self.half))?;
        let told = format!("\n[{left_out} bytes of output are left out here]\n");
        for part in [told.as_bytes(), older, newer] {
            self.file.write_all(part)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::CappedFile;

    /// What is kept of `length` bytes that come in pieces.
    fn kept(length: usize, piece: usize, limit: u64) -> (Vec<u8>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let all: Vec<u8> = (0..length)
            .map(|n| b'a' + u8::try_from(n % 23).unwrap())
            .collect();
        let mut file = CappedFile::create(&path, limit).unwrap();
        for bytes in all.chunks(piece) {
            file.write_all(bytes).unwrap();
        }
        // Also before it is finished there is no more of it.
        assert!(std::fs::metadata(&path).unwrap().len() <= limit);
        file.finish().unwrap();
        (std::fs::read(&path).unwrap(), all)
    }

    #[test]
    fn the_middle_is_left_out() {
        for piece in [1, 7, 50, 1000] {
            for length in [0, 1, 99, 100] {
                let (kept, all) = kept(length, piece, 100);
                assert_eq!(kept, all, "{length} {piece}");
            }
            for length in [101, 149, 150, 151, 1234] {
                let (kept, all) = kept(length, piece, 100);
                let told = format!("\n[{} bytes of output are left out here]\n", length - 100);
                let want = [&all[..50], told.as_bytes(), &all[length - 50..]].concat();
                assert_eq!(kept, want, "{length} {piece}");
            }
        }
    }
}
