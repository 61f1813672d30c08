//! The data of an entry, with its holes.

use std::io::{self, Read};

use super::{LayerError, LayerReader, Run};

/// The rest of the current entry's data.
#[derive(Debug)]
pub struct EntryData<'a, R> {
    reader: &'a mut LayerReader<R>,
}

impl<'a, R> EntryData<'a, R> {
    pub(super) const fn of(reader: &'a mut LayerReader<R>) -> Self {
        Self { reader }
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> u64 {
        match &self.reader.sparse {
            None => self.reader.data_left,
            Some((map, cursor)) => map.size().saturating_sub(cursor.at()),
        }
    }
}

/// The content of a file, of which it may be known where it has holes.
pub trait FileData: Read {
    /// Passes over the hole that is known to be here, and gives its length in bytes: 0 where data or
    /// the end comes next.
    fn pass_hole(&mut self) -> u64 {
        0
    }
}

impl<R: Read> FileData for EntryData<'_, R> {
    fn pass_hole(&mut self) -> u64 {
        let Some((map, cursor)) = &mut self.reader.sparse else {
            return 0;
        };
        match cursor.run(map) {
            Some(Run::Hole(length)) => {
                cursor.advance(map, length);
                length
            }
            _ => 0,
        }
    }
}

impl<R: Read> Read for EntryData<'_, R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let run = match &self.reader.sparse {
            None => Some(Run::Data(self.reader.data_left)),
            Some((map, cursor)) => cursor.run(map),
        };
        let Some(Run::Data(left) | Run::Hole(left)) = run else {
            return Ok(0);
        };
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let length = left.min(space.len());
        let Some(space) = space.get_mut(..length).filter(|space| !space.is_empty()) else {
            return Ok(0);
        };
        if matches!(run, Some(Run::Hole(_))) {
            space.fill(0);
            self.advance(length as u64);
            return Ok(length);
        }
        let n = self.reader.input.read(space)?;
        if n == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                LayerError::Truncated,
            ));
        }
        self.reader.data_left -= n as u64;
        self.reader.position += n as u64;
        self.advance(n as u64);
        Ok(n)
    }
}

impl<R> EntryData<'_, R> {
    fn advance(&mut self, by: u64) {
        if let Some((map, cursor)) = &mut self.reader.sparse {
            cursor.advance(map, by);
        }
    }
}
