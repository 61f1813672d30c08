//! Reading a file that has holes without reading the holes.

use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{self, SeekFrom};

use crate::stat::Stat;

/// A file that is read from its start. Its holes are zeros that no disk and no page of memory is asked
/// for; gigabytes of them cost next to nothing.
#[derive(Debug)]
pub struct HoleReader {
    file: File,
    /// The file's length where it has holes, and what is known of the place that is read.
    sparse: Option<Sparse>,
}

#[derive(Debug)]
struct Sparse {
    size: u64,
    at: u64,
    /// Where the hole or the data around `at` ends.
    end: u64,
    in_hole: bool,
}

impl From<File> for HoleReader {
    fn from(file: File) -> Self {
        let st = fs::fstat(&file).map(Stat::from);
        // Who cannot be asked is read.
        let sparse = st.ok().filter(|st| st.is_file() && st.allocated < st.size);
        Self {
            file,
            sparse: sparse.map(|st| Sparse {
                size: st.size,
                at: 0,
                end: 0,
                in_hole: false,
            }),
        }
    }
}

impl Sparse {
    /// Finds out what comes next; `false` if the file system cannot tell.
    fn find(&mut self, file: &File) -> io::Result<bool> {
        use rustix::io::Errno;
        let data = match fs::seek(file, SeekFrom::Data(self.at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => self.size.max(self.at),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        self.in_hole = data > self.at;
        self.end = if self.in_hole {
            data
        } else {
            fs::seek(file, SeekFrom::Hole(self.at)).unwrap_or(self.size)
        };
        fs::seek(file, SeekFrom::Start(self.at))?;
        Ok(self.end > self.at)
    }
}

impl Read for HoleReader {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let Some(sparse) = &mut self.sparse else {
            return self.file.read(space);
        };
        if sparse.at >= sparse.end && !sparse.find(&self.file)? {
            // At the end, or where nobody knows of holes.
            let at = sparse.at;
            self.sparse = None;
            fs::seek(&self.file, SeekFrom::Start(at))?;
            return self.file.read(space);
        }
        let left = usize::try_from(sparse.end - sparse.at).unwrap_or(usize::MAX);
        let length = left.min(space.len());
        let space = space.get_mut(..length).unwrap_or_default();
        let n = if sparse.in_hole {
            space.fill(0);
            length
        } else {
            self.file.read(space)?
        };
        sparse.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn a_file_reads_the_same_with_its_holes() {
        const MEGABYTE: u64 = 1 << 20;
        for (data, size) in [
            (&[][..], 0),
            (&[], 3),
            (&[], 8 * MEGABYTE + 5),
            (&[0], 3),
            (&[0], 8 * MEGABYTE),
            (&[5 * MEGABYTE], 8 * MEGABYTE),
            (&[8 * MEGABYTE - 3], 8 * MEGABYTE),
            (&[0, 4096, MEGABYTE + 1, 8 * MEGABYTE - 3], 8 * MEGABYTE),
        ] {
            let file = tempfile::tempfile().unwrap();
            file.set_len(size).unwrap();
            for at in data {
                file.write_all_at(b"abc", *at).unwrap();
            }
            let mut expected = vec![0; usize::try_from(size).unwrap()];
            file.read_exact_at(&mut expected, 0).unwrap();
            let mut read = Vec::new();
            HoleReader::from(file).read_to_end(&mut read).unwrap();
            assert!(read == expected, "{data:?} in {size}");
        }
    }
}
