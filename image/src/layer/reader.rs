//! Reads layer tars of any origin: ustar, PAX and GNU.

use std::io::{self, BufReader, Read, Seek};

use tar::Header;

use super::data::EntryData;
use super::error::{LayerError, Limits};
use super::header::{DeviceFields as _, checksums, number, until_nul};
use super::overrides::Overrides;
use super::path::{MAX_PATH, clean_path, split};
use super::sparse::{MAX_MAP, MapPlace, MapReader, SparseFields};
use super::{
    BLOCK, Entry, EntryKind, OPAQUE, SparseCursor, SparseMap, Timestamp, WHITEOUT, WHITEOUT_META,
    padding,
};

/// For headers and small files; what is read in larger pieces goes past it.
const BUFFER: usize = 32 << 10;
/// The largest extended header: room for some attributes of the largest size Linux allows.
const MAX_EXTENSION: u64 = 1 << 20;

/// Reads a layer tar entry by entry.
#[derive(Debug)]
pub struct LayerReader<R> {
    pub(super) input: BufReader<R>,
    whiteouts: bool,
    limits: Limits,
    entries: u64,
    bytes: u64,
    pub(super) position: u64,
    /// Bytes of the entry's data that are still to be read from the input.
    pub(super) data_left: u64,
    padding: u64,
    /// The holes of the entry, if it has a map of them.
    pub(super) sparse: Option<(SparseMap, SparseCursor)>,
    ended: bool,
}

impl<R: Read> LayerReader<R> {
    /// Reads a layer, whiteouts decoded. The input is the plain tar.
    pub fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER, input),
            whiteouts: true,
            limits: Limits::default(),
            entries: 0,
            bytes: 0,
            position: 0,
            data_left: 0,
            padding: 0,
            sparse: None,
            ended: false,
        }
    }

    /// With `false`, reads a plain archive, in which names with `.wh.` are ordinary.
    #[must_use]
    pub const fn whiteouts(mut self, whiteouts: bool) -> Self {
        self.whiteouts = whiteouts;
        self
    }

    /// Replaces the limits.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The next entry; `None` at the end. Skips what was left of the previous entry's data.
    ///
    /// # Errors
    /// When the input fails or is not a safe tar. No further call makes sense then.
    #[expect(
        clippy::should_implement_trait,
        reason = "fallible, and data is read in between"
    )]
    pub fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        let skip = self.data_left + self.padding;
        (self.data_left, self.padding) = (0, 0);
        self.skip(skip)?;
        self.next_entry()
    }

    /// The data of the current entry, as far as it is not read yet.
    pub const fn data(&mut self) -> EntryData<'_, R> {
        EntryData::of(self)
    }

    /// Which parts of the current entry's file the tar has, if not all; they lie one after the other.
    pub fn sparse_map(&self) -> Option<&SparseMap> {
        self.sparse.as_ref().map(|(map, _)| map)
    }

    /// The offset in the tar of the next byte: after [`LayerReader::next`], that of the data.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Reads to the end of the input, so that a digest taken from it is complete.
    ///
    /// # Errors
    /// When the input fails.
    pub fn drain(&mut self) -> io::Result<()> {
        io::copy(&mut self.input, &mut io::sink())?;
        (self.data_left, self.padding, self.ended) = (0, 0, true);
        Ok(())
    }

    /// The input, with what was read ahead lost.
    pub fn into_inner(self) -> R {
        self.input.into_inner()
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        self.sparse = None;
        let mut overrides = Overrides::default();
        loop {
            let Some(header) = self.header()? else {
                return if overrides.pending {
                    Err(LayerError::Truncated)
                } else {
                    Ok(None)
                };
            };
            let at = self.position;
            let flag = header.as_old().linkflag[0];
            overrides.pending |= flag != b'g';
            match flag {
                b'x' => {
                    let body = self.extension(&header, &mut overrides)?;
                    overrides
                        .read_pax(&body)
                        .ok_or(LayerError::BadExtension(at))?;
                }
                // Global headers (`git archive` writes one) say nothing of a file that counts: Docker
                // and BuildKit pass over them too.
                b'g' => drop(self.extension(&header, &mut overrides)?),
                b'L' => {
                    let name = self.extension(&header, &mut overrides)?;
                    overrides.path = Some(until_nul(&name).to_vec());
                }
                b'K' => {
                    let name = self.extension(&header, &mut overrides)?;
                    overrides.link = Some(until_nul(&name).to_vec());
                }
                _ => {
                    self.entries += 1;
                    if self.entries > self.limits.entries {
                        return Err(LayerError::TooMuch("entries"));
                    }
                    if let Some(entry) = self.entry(&header, std::mem::take(&mut overrides))? {
                        return Ok(Some(entry));
                    }
                    let skip = std::mem::take(&mut self.data_left)
                        .saturating_add(std::mem::take(&mut self.padding));
                    // A map was that of what is passed over.
                    self.sparse = None;
                    self.skip(skip)?;
                }
            }
        }
    }

    /// The next header block; `None` at the end of the tar.
    fn header(&mut self) -> Result<Option<Header>, LayerError> {
        if self.ended {
            return Ok(None);
        }
        let mut header = Header::new_old();
        let at = self.position;
        let bad = || match at {
            0 => LayerError::NotTar,
            at => LayerError::BadHeader(at),
        };
        let block = header.as_mut_bytes();
        match self.fill(block)? {
            0 => {
                self.ended = true;
                return Ok(None);
            }
            BLOCK => {}
            _ if at == 0 => return Err(LayerError::NotTar),
            _ => return Err(LayerError::Truncated),
        }
        if block.iter().all(|b| *b == 0) {
            self.ended = true;
            return match self.fill(block)? {
                0 => Ok(None),
                BLOCK if block.iter().all(|b| *b == 0) => Ok(None),
                _ => Err(LayerError::BadHeader(at + BLOCK as u64)),
            };
        }
        let stored = number(&header.as_old().cksum).ok_or_else(bad)?;
        let (unsigned, signed) = checksums(header.as_bytes());
        if stored != unsigned && stored != signed {
            return Err(bad());
        }
        Ok(Some(header))
    }

    /// The body of an extended header.
    fn extension(
        &mut self,
        header: &Header,
        overrides: &mut Overrides,
    ) -> Result<Vec<u8>, LayerError> {
        let at = self.position;
        let size = number(&header.as_old().size)
            .and_then(|size| u64::try_from(size).ok())
            .ok_or(LayerError::BadExtension(at))?;
        overrides.total = overrides.total.saturating_add(size).saturating_add(1);
        if overrides.total > MAX_EXTENSION {
            return Err(LayerError::TooMuch("extended headers"));
        }
        // Bounded by the check above.
        let mut body = vec![0; usize::try_from(size).unwrap_or(0)];
        if self.fill(&mut body)? != body.len() {
            return Err(LayerError::Truncated);
        }
        self.skip(padding(size) as u64)?;
        Ok(body)
    }

    /// Turns a header into an entry; `None` for what means nothing.
    fn entry(
        &mut self,
        header: &Header,
        mut overrides: Overrides,
    ) -> Result<Option<Entry>, LayerError> {
        let own = overrides.sparse.as_mut().and_then(SparseFields::take_name);
        let raw_path = own
            .or_else(|| overrides.path.take())
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let show = || {
            String::from_utf8_lossy(&raw_path)
                .chars()
                .take(200)
                .collect::<String>()
        };
        let bad = |field| LayerError::BadNumber {
            path: show(),
            field,
        };
        let flag = header.as_old().linkflag[0];
        let size = match (flag, overrides.size) {
            (b'0' | 0 | b'7' | b'S' | b'D', Some(size)) => size,
            (b'0' | 0 | b'7' | b'S' | b'D', None) => number(&header.as_old().size)
                .and_then(|size| u64::try_from(size).ok())
                .ok_or_else(|| bad("size"))?,
            // Other kinds have no data, whatever their size field says.
            _ => 0,
        };
        let path = clean_path(&raw_path).ok_or_else(|| LayerError::UnsafePath(show()))?;
        let link = || {
            let raw = overrides.link.as_deref().map_or_else(
                || until_nul(&header.as_old().linkname).to_vec(),
                <[u8]>::to_vec,
            );
            if raw.is_empty() || raw.contains(&0) || raw.len() > MAX_PATH {
                return Err(LayerError::UnsafePath(show()));
            }
            Ok(raw)
        };
        let device = || {
            let fields = header.as_old_device();
            let part = |field| {
                number(field)
                    .and_then(|n| u32::try_from(n).ok())
                    .ok_or_else(|| bad("device"))
            };
            Ok::<_, LayerError>((part(fields.0)?, part(fields.1)?))
        };
        let unsupported = |kind: &str| LayerError::Unsupported {
            path: show(),
            kind: kind.into(),
        };
        let kind = match flag {
            b'0' | 0 if raw_path.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' => EntryKind::File { size },
            b'1' => {
                let target = link()?;
                let shown = || String::from_utf8_lossy(&target).chars().take(200).collect();
                let target = clean_path(&target)
                    .filter(|clean| !clean.is_empty())
                    .ok_or_else(|| LayerError::UnsafePath(shown()))?;
                EntryKind::Hardlink { target }
            }
            b'2' => EntryKind::Symlink { target: link()? },
            b'3' => {
                let (major, minor) = device()?;
                EntryKind::CharDevice { major, minor }
            }
            b'4' => {
                let (major, minor) = device()?;
                EntryKind::BlockDevice { major, minor }
            }
            // The data of the second is a list of names, for incremental archives of GNU tar.
            b'5' | b'D' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'S' => return Err(LayerError::OldSparse(show())),
            other => {
                return Err(unsupported(&format!(
                    "`{}`",
                    char::from(other).escape_default()
                )));
            }
        };
        // Whatever kind it is of: what nobody reads has to be passed over.
        if size > self.limits.bytes {
            return Err(LayerError::TooMuch("data"));
        }
        self.data_left = size;
        self.padding = padding(size) as u64;
        let kind = match (kind, &overrides.sparse) {
            (EntryKind::File { .. }, Some(fields)) => EntryKind::File {
                size: self.begin_sparse(fields, &show)?,
            },
            (kind, _) => kind,
        };
        let size = match kind {
            EntryKind::File { size } => size,
            _ => {
                // What nobody reads.
                let unread = std::mem::take(&mut self.data_left);
                self.padding = self.padding.saturating_add(unread);
                0
            }
        };
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.bytes {
            return Err(LayerError::TooMuch("data"));
        }
        let Some((path, kind)) = self.removal(path, kind)? else {
            return Ok(None);
        };
        if path.is_empty() && !matches!(kind, EntryKind::Directory | EntryKind::Opaque) {
            // It has no name, or that of the root, which is there. Others pass over it as well.
            return Ok(None);
        }
        let id = |over: Option<u64>, field: &[u8], name| {
            let id = over.or_else(|| number(field).and_then(|id| u64::try_from(id).ok()));
            id.and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| bad(name))
        };
        let fields = header.as_old();
        let (secs, nanos) = match overrides.mtime {
            Some(mtime) => mtime,
            None => (number(&fields.mtime).ok_or_else(|| bad("time"))?, 0),
        };
        let mode = number(&fields.mode).ok_or_else(|| bad("mode"))?;
        Ok(Some(Entry {
            uid: id(overrides.uid, &fields.uid, "owner")?,
            gid: id(overrides.gid, &fields.gid, "group")?,
            // Twelve bits always fit.
            mode: u32::try_from(mode & 0o7777).unwrap_or(0),
            mtime: Timestamp { secs, nanos },
            xattrs: overrides.sorted_xattrs(),
            path,
            kind,
        }))
    }

    /// Takes in the map of a sparse file, whose stored bytes come next; gives the file's size.
    fn begin_sparse(
        &mut self,
        fields: &SparseFields,
        show: &dyn Fn() -> String,
    ) -> Result<u64, LayerError> {
        let damaged = |_| LayerError::BadSparse(show());
        let place = fields.place().map_err(|version| LayerError::Unsupported {
            path: show(),
            kind: format!("sparse file of version {version}"),
        })?;
        let map = match place {
            MapPlace::Header => fields.map(self.data_left).map_err(damaged)?,
            MapPlace::Data => {
                let mut reader = MapReader::default();
                let mut read = 0;
                loop {
                    let mut block = [0; BLOCK];
                    if read >= MAX_MAP || self.data_left < BLOCK as u64 {
                        return Err(LayerError::BadSparse(show()));
                    }
                    if self.fill(&mut block)? != BLOCK {
                        return Err(LayerError::Truncated);
                    }
                    read += BLOCK as u64;
                    self.data_left -= BLOCK as u64;
                    if reader.take(&block).map_err(damaged)? {
                        break;
                    }
                }
                fields
                    .map_of(reader.numbers(), self.data_left)
                    .map_err(damaged)?
            }
        };
        let size = map.size();
        self.sparse = Some((map, SparseCursor::default()));
        Ok(size)
    }

    /// Decodes whiteouts; `None` for the leftovers of aufs.
    fn removal(
        &self,
        path: Vec<u8>,
        kind: EntryKind,
    ) -> Result<Option<(Vec<u8>, EntryKind)>, LayerError> {
        let (directory, name) = split(&path);
        if !self.whiteouts {
            return Ok(Some((path, kind)));
        }
        if name == OPAQUE {
            return Ok(Some((directory.to_vec(), EntryKind::Opaque)));
        }
        if path
            .split(|b| *b == b'/')
            .any(|part| part.starts_with(WHITEOUT_META))
        {
            return Ok(None);
        }
        match name.strip_prefix(WHITEOUT) {
            None => Ok(Some((path, kind))),
            Some(b"" | b"." | b"..") => Err(LayerError::UnsafePath(
                String::from_utf8_lossy(&path).into_owned(),
            )),
            Some(name) => {
                let mut removed = directory.to_vec();
                if !removed.is_empty() {
                    removed.push(b'/');
                }
                removed.extend_from_slice(name);
                Ok(Some((removed, EntryKind::Whiteout)))
            }
        }
    }

    /// Reads until the space is full or the input ends.
    fn fill(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = space.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += filled as u64;
        Ok(filled)
    }

    fn skip(&mut self, count: u64) -> Result<(), LayerError> {
        if count == 0 {
            return Ok(());
        }
        let skipped = io::copy(&mut self.input.by_ref().take(count), &mut io::sink())?;
        self.position += skipped;
        if skipped == count {
            Ok(())
        } else {
            Err(LayerError::Truncated)
        }
    }
}

impl<R: Read + Seek> LayerReader<R> {
    /// Like [`LayerReader::next`], but passes over data by seeking. A file that ends inside the
    /// data of an entry is noticed only by the reader of that data.
    ///
    /// # Errors
    /// As [`LayerReader::next`].
    pub fn next_seeking(&mut self) -> Result<Option<Entry>, LayerError> {
        let skip = std::mem::take(&mut self.data_left) + std::mem::take(&mut self.padding);
        let distance = i64::try_from(skip).map_err(|_| LayerError::Truncated)?;
        self.input.seek_relative(distance)?;
        self.position += skip;
        self.next_entry()
    }
}
