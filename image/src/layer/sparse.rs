//! Files with holes: the forms in which GNU tar and libarchive write them with extended headers
//! (GNU tar manual, "Storing Sparse Files").
//!
//! In versions 0.0 and 0.1 the map of what is no hole is in the extended header, in version 1.0 it
//! stands before the data. The file's true name and size are in the header in all of them.

use super::pax::decimal;

/// Parts of a file that a map may name. Each takes memory.
const MAX_PARTS: usize = 1 << 17;
/// The largest map before the data.
pub(super) const MAX_MAP: u64 = 4 << 20;

/// What extended headers say of a sparse file.
#[derive(Default)]
pub(super) struct SparseFields {
    version: [Option<u64>; 2],
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// Offsets and lengths in turn.
    numbers: Vec<u64>,
    is_map: bool,
}

/// A damaged record, or more of them than a file can have.
pub(super) struct Damaged;

impl SparseFields {
    /// Takes a record whose key begins with `GNU.sparse.`, without that.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"major" => self.version[0] = Some(decimal(value)?),
            b"minor" => self.version[1] = Some(decimal(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            // A pair for each part, in this order.
            b"offset" if self.numbers.len().is_multiple_of(2) => self.number(value)?,
            b"numbytes" if !self.numbers.len().is_multiple_of(2) => self.number(value)?,
            b"map" => {
                self.numbers.clear();
                self.is_map = true;
                for number in value.split(|b| *b == b',').filter(|text| !text.is_empty()) {
                    self.number(number)?;
                }
            }
            // The number of parts says nothing that the parts do not.
            b"numblocks" => self.is_map = true,
            _ => return None,
        }
        Some(())
    }

    fn number(&mut self, text: &[u8]) -> Option<()> {
        self.is_map = true;
        self.numbers.push(decimal(text)?);
        (self.numbers.len() <= 2 * MAX_PARTS).then_some(())
    }

    /// The file's own name, where the entry has another for programs that know nothing of holes.
    pub(super) fn take_name(&mut self) -> Option<Vec<u8>> {
        self.name.take().filter(|name| !name.is_empty())
    }

    /// Where the map is; an error for a version that is not known.
    pub(super) fn place(&self) -> Result<MapPlace, u64> {
        match self.version {
            [Some(1), Some(0)] => Ok(MapPlace::Data),
            [None, None] | [Some(0), Some(0 | 1)] if self.is_map => Ok(MapPlace::Header),
            [major, _] => Err(major.unwrap_or(0)),
        }
    }

    /// The map of the header, for a file of which the archive has `stored` bytes.
    pub(super) fn map(&self, stored: u64) -> Result<SparseMap, Damaged> {
        let size = self.size.ok_or(Damaged)?;
        SparseMap::new(&self.numbers, size, stored)
    }

    /// The map that stands before the data.
    pub(super) fn map_of(&self, numbers: &[u64], stored: u64) -> Result<SparseMap, Damaged> {
        let size = self.size.ok_or(Damaged)?;
        SparseMap::new(numbers, size, stored)
    }
}

/// Where a map is.
pub(super) enum MapPlace {
    /// In the extended header.
    Header,
    /// Before the data.
    Data,
}

/// Reads the numbers of a map before the data, each on a line: how many parts there are, and offset
/// and length of each.
#[derive(Default)]
pub(super) struct MapReader {
    numbers: Vec<u64>,
    parts: Option<usize>,
    line: Vec<u8>,
}

impl MapReader {
    /// Takes some bytes; says whether the map is whole. What follows it is no more part of it.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<bool, Damaged> {
        for byte in bytes {
            if self.is_whole() {
                break;
            }
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > 20 {
                    return Err(Damaged);
                }
                continue;
            }
            let number = decimal(&self.line).ok_or(Damaged)?;
            self.line.clear();
            if self.parts.is_some() {
                self.numbers.push(number);
            } else {
                let parts = usize::try_from(number).ok();
                self.parts = Some(parts.filter(|n| *n <= MAX_PARTS).ok_or(Damaged)?);
            }
        }
        Ok(self.is_whole())
    }

    fn is_whole(&self) -> bool {
        self.parts
            .is_some_and(|parts| self.numbers.len() == 2 * parts)
    }

    pub(super) fn numbers(&self) -> &[u64] {
        &self.numbers
    }
}

/// Which parts of a file are in the archive; the rest are holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseMap {
    /// Offset and length, one after the other, none empty.
    parts: Vec<(u64, u64)>,
    size: u64,
}

impl SparseMap {
    fn new(numbers: &[u64], size: u64, stored: u64) -> Result<Self, Damaged> {
        let (mut parts, mut end, mut sum) = (Vec::new(), 0_u64, 0_u64);
        for pair in numbers.chunks(2) {
            let [offset, length] = pair else {
                return Err(Damaged);
            };
            let next = offset.checked_add(*length).filter(|end| *end <= size);
            let next = next.filter(|_| *offset >= end).ok_or(Damaged)?;
            sum += length;
            end = next;
            if *length > 0 {
                parts.push((*offset, *length));
            }
        }
        // One of a map and data is not the other's.
        if sum != stored {
            return Err(Damaged);
        }
        Ok(Self { parts, size })
    }

    /// Bytes of the file, holes included.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The offset and length of each part that is no hole, in order.
    #[must_use]
    pub fn parts(&self) -> &[(u64, u64)] {
        &self.parts
    }
}

/// How far a sparse file has been read.
#[derive(Debug, Default)]
pub struct SparseCursor {
    /// The position in the file.
    at: u64,
    /// The part that the position is in or before.
    part: usize,
}

/// What comes next in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// So many bytes of a hole.
    Hole(u64),
    /// So many bytes that are in the archive.
    Data(u64),
}

impl SparseCursor {
    /// The position in the file.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// What comes next; nothing at the end.
    #[must_use]
    pub fn run(&self, map: &SparseMap) -> Option<Run> {
        let left = map.size.saturating_sub(self.at);
        Some(match map.parts.get(self.part) {
            Some((offset, _)) if self.at < *offset => Run::Hole(offset - self.at),
            Some((offset, length)) => Run::Data((offset + length).saturating_sub(self.at)),
            None if left == 0 => return None,
            None => Run::Hole(left),
        })
    }

    /// Goes on by at most what [`SparseCursor::run`] said.
    pub fn advance(&mut self, map: &SparseMap, by: u64) {
        self.at = self.at.saturating_add(by);
        if let Some((offset, length)) = map.parts.get(self.part)
            && self.at >= offset + length
        {
            self.part += 1;
        }
    }
}
