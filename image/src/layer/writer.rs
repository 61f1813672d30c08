//! Writes layer tars whose bytes depend on nothing but the entries.
//!
//! Headers are plain ustar; PAX records come only where a value does not fit. Owners are numeric,
//! times are whole seconds unless [`LayerWriter::set_fine_times`] says otherwise.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::path::{is_clean, split};
use super::pax::push_record;
use super::{BLOCK, ENCODED_XATTR, Entry, EntryKind, OPAQUE, WHITEOUT, XATTR, padding, xattr};

/// What is collected before it goes to the output.
const BUFFER: usize = 128 << 10;
/// The largest value of an eight-byte octal field that ends with a NUL.
const MAX_NUMBER: u32 = 0o777_7777;
/// The largest id that eight octal digits hold. All readers that were tried take them without a NUL behind,
/// and some of them know no PAX records.
const MAX_ID: u32 = 0o7777_7777;
/// The largest value of a twelve-byte octal field.
const MAX_OCTAL: u64 = 0o777_7777_7777;
/// The name of every extended header; it is never unpacked.
const PAX_NAME: &[u8] = b"PaxHeaders/entry";

/// Writes an id in the shortest form that holds it: octal digits with a NUL, octal digits alone, or the
/// binary form of GNU tar and star, for readers that pass over the PAX record beside it.
fn set_id(field: &mut [u8; 8], id: u32) {
    if id > MAX_ID {
        let [a, b, c, d] = id.to_be_bytes();
        *field = [0x80, 0, 0, 0, a, b, c, d];
        return;
    }
    let digits = if id > MAX_NUMBER { 8 } else { 7 };
    *field = [0; 8];
    for (place, digit) in field.iter_mut().take(digits).rev().zip(0_u32..) {
        *place = b'0' + u8::try_from((id >> (3 * digit)) & 7).unwrap_or(0);
    }
}

/// Where a tar goes, a buffer at a time.
pub trait Output {
    /// Takes the first `filled` bytes of `buffer`, and gives another back, whose content does not
    /// matter; it may be longer. All but the last buffer of a tar are full.
    ///
    /// # Errors
    /// The bytes cannot be written.
    fn take(&mut self, buffer: Vec<u8>, filled: usize) -> io::Result<Vec<u8>>;

    /// Writes what was taken.
    ///
    /// # Errors
    /// That is not possible.
    fn flush(&mut self) -> io::Result<()>;
}

impl<W: Write> Output for W {
    fn take(&mut self, buffer: Vec<u8>, filled: usize) -> io::Result<Vec<u8>> {
        self.write_all(buffer.get(..filled).unwrap_or_default())?;
        Ok(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Write::flush(self)
    }
}

/// Writes a layer tar.
///
/// Entries are written in the order given; the caller sorts. The output gets large writes only.
#[derive(Debug)]
pub struct LayerWriter<W: Output> {
    out: W,
    /// Its length stays, so that reading into it never clears it first; empty when the output has
    /// failed.
    buffer: Vec<u8>,
    filled: usize,
    pax: Vec<u8>,
    path: Vec<u8>,
    epoch: Option<i64>,
    whiteouts: bool,
    fine_times: bool,
}

impl<W: Output> LayerWriter<W> {
    /// Starts a tar.
    pub fn new(out: W) -> Self {
        Self {
            out,
            buffer: vec![0; BUFFER],
            filled: 0,
            pax: Vec::new(),
            path: Vec::new(),
            epoch: None,
            whiteouts: true,
            fine_times: false,
        }
    }

    /// Makes later modification times than this second (SOURCE_DATE_EPOCH) this second.
    pub const fn set_epoch_clamp(&mut self, epoch: Option<i64>) {
        self.epoch = epoch;
    }

    /// With `false`, writes a plain archive: names that start with `.wh.` are ordinary, and
    /// removals are an error. `true` at first.
    pub const fn set_whiteouts(&mut self, whiteouts: bool) {
        self.whiteouts = whiteouts;
    }

    /// With `true`, keeps the nanoseconds of times, in a PAX record. `false` at first.
    pub const fn set_fine_times(&mut self, fine_times: bool) {
        self.fine_times = fine_times;
    }

    /// Writes an entry; of a file exactly its size is read from `data`.
    ///
    /// Removals are written as empty files of root with mode 0.
    ///
    /// # Errors
    /// When the output fails, `data` fails or ends early, or the entry cannot be expressed: a
    /// path that is not clean, a name that would read as a whiteout.
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        self.header(entry)?;
        if let EntryKind::File { size } = entry.kind {
            self.data(entry, size, data)?;
        }
        Ok(())
    }

    /// Ends the tar and returns the output, flushed.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.end()?;
        Ok(self.out)
    }

    /// Ends the tar; [`LayerWriter::into_output`] then gives the output.
    ///
    /// # Errors
    /// When the output fails.
    pub fn end(&mut self) -> io::Result<()> {
        self.push(zeros(BLOCK))?;
        self.push(zeros(BLOCK))?;
        self.flush_buffer()?;
        self.out.flush()
    }

    /// The output of a tar that has ended or is given up.
    pub fn into_output(self) -> W {
        self.out
    }

    fn header(&mut self, entry: &Entry) -> io::Result<()> {
        if !is_clean(&entry.path) {
            return Err(invalid("path is not clean", &entry.path));
        }
        self.set_path(entry)?;
        let mut header = Header::new_ustar();
        let (kind, size, link) = self.kind(entry, &mut header)?;
        self.pax.clear();
        let removal = entry.is_removal();
        let (mode, uid, gid) = if removal {
            (0, 0, 0)
        } else {
            (entry.mode, entry.uid, entry.gid)
        };
        // The records are sorted by key, attributes first: upper case sorts before lower case.
        if !removal {
            // A key ends at the first equals sign.
            let is_plain = |name: &[u8]| !name.contains(&b'=');
            for (name, value) in entry.xattrs.iter().filter(|(name, _)| !is_plain(name)) {
                let (name, value) = xattr::encode(name, value);
                push_record(&mut self.pax, &[ENCODED_XATTR, &name], &value);
            }
            for (name, value) in &entry.xattrs {
                if name.is_empty() || name.contains(&0) {
                    return Err(invalid("an attribute name cannot be stored", &entry.path));
                }
                if is_plain(name) {
                    push_record(&mut self.pax, &[XATTR, name], value);
                }
            }
        }
        let mut octal = [0u8; 24];
        if gid > MAX_ID {
            push_record(
                &mut self.pax,
                &[b"gid"],
                decimal(&mut octal, gid.into(), false),
            );
        }
        set_id(&mut header.as_old_mut().gid, gid);
        if let Some(link) = link {
            let field = &mut header.as_old_mut().linkname;
            if link.is_ascii() && link.len() <= field.len() {
                copy(field, link);
            } else {
                push_record(&mut self.pax, &[b"linkpath"], link);
                copy_ascii(field, link);
            }
        }
        let secs = self
            .epoch
            .map_or(entry.mtime.secs, |epoch| entry.mtime.secs.min(epoch));
        let nanos = if self.fine_times && secs == entry.mtime.secs {
            entry.mtime.nanos
        } else {
            0
        };
        match u64::try_from(secs) {
            _ if nanos > 0 => {
                let text = fine_time(secs, nanos);
                push_record(&mut self.pax, &[b"mtime"], text.as_bytes());
                header.set_mtime(u64::try_from(secs).map_or(0, |s| s.min(MAX_OCTAL)));
            }
            Ok(secs) if secs <= MAX_OCTAL => header.set_mtime(secs),
            _ => {
                let text = decimal(&mut octal, secs.unsigned_abs(), secs < 0);
                push_record(&mut self.pax, &[b"mtime"], text);
                header.set_mtime(0);
            }
        }
        if !set_name(&mut header, &self.path) {
            push_record(&mut self.pax, &[b"path"], &self.path);
        }
        if size > MAX_OCTAL {
            push_record(&mut self.pax, &[b"size"], decimal(&mut octal, size, false));
        }
        header.set_size(if size > MAX_OCTAL { 0 } else { size });
        if uid > MAX_ID {
            push_record(
                &mut self.pax,
                &[b"uid"],
                decimal(&mut octal, uid.into(), false),
            );
        }
        set_id(&mut header.as_old_mut().uid, uid);
        header.set_mode(mode & 0o7777);
        header.set_entry_type(kind);
        header.set_cksum();
        if !self.pax.is_empty() {
            self.push_pax()?;
        }
        self.push(header.as_bytes())
    }

    /// Puts the name under which the entry is written into `self.path`.
    fn set_path(&mut self, entry: &Entry) -> io::Result<()> {
        let (directory, name) = split(&entry.path);
        let removal = entry.is_removal();
        if removal && !self.whiteouts {
            return Err(invalid("a plain archive cannot hold removals", &entry.path));
        }
        if self.whiteouts && name.starts_with(WHITEOUT) {
            return Err(invalid(
                "the name would mean a removal in a layer",
                &entry.path,
            ));
        }
        self.path.clear();
        match entry.kind {
            EntryKind::Whiteout => {
                if name.is_empty() {
                    return Err(invalid("the root cannot be removed", name));
                }
                self.path.extend_from_slice(directory);
                if !directory.is_empty() {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(WHITEOUT);
                self.path.extend_from_slice(name);
            }
            EntryKind::Opaque => {
                self.path.extend_from_slice(&entry.path);
                if !entry.path.is_empty() {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(OPAQUE);
            }
            EntryKind::Directory if entry.path.is_empty() => self.path.extend_from_slice(b"./"),
            EntryKind::Directory => {
                self.path.extend_from_slice(&entry.path);
                self.path.push(b'/');
            }
            _ if entry.path.is_empty() => return Err(invalid("the root is a directory", b"")),
            _ => self.path.extend_from_slice(&entry.path),
        }
        Ok(())
    }

    fn kind<'a>(
        &self,
        entry: &'a Entry,
        header: &mut Header,
    ) -> io::Result<(EntryType, u64, Option<&'a [u8]>)> {
        let mut device = |major: u32, minor: u32| {
            if major > MAX_NUMBER || minor > MAX_NUMBER {
                return Err(invalid("device number is too large", &entry.path));
            }
            header.set_device_major(major)?;
            header.set_device_minor(minor)
        };
        Ok(match &entry.kind {
            EntryKind::File { size } => (EntryType::Regular, *size, None),
            EntryKind::Whiteout | EntryKind::Opaque => (EntryType::Regular, 0, None),
            EntryKind::Directory => (EntryType::Directory, 0, None),
            EntryKind::Fifo => (EntryType::Fifo, 0, None),
            EntryKind::Symlink { target } => {
                if target.is_empty() || target.contains(&0) {
                    return Err(invalid(
                        "text of the link is empty or has a NUL",
                        &entry.path,
                    ));
                }
                (EntryType::Symlink, 0, Some(target))
            }
            EntryKind::Hardlink { target } => {
                if target.is_empty() || !is_clean(target) {
                    return Err(invalid("target of the link is not clean", &entry.path));
                }
                (EntryType::Link, 0, Some(target))
            }
            EntryKind::CharDevice { major, minor } => {
                device(*major, *minor)?;
                (EntryType::Char, 0, None)
            }
            EntryKind::BlockDevice { major, minor } => {
                device(*major, *minor)?;
                (EntryType::Block, 0, None)
            }
        })
    }

    fn push_pax(&mut self) -> io::Result<()> {
        let mut header = Header::new_ustar();
        copy(&mut header.as_old_mut().name, PAX_NAME);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(self.pax.len() as u64);
        header.set_entry_type(EntryType::XHeader);
        header.set_cksum();
        self.push(header.as_bytes())?;
        let body = std::mem::take(&mut self.pax);
        let pushed = self.push(&body);
        let padding = padding(body.len() as u64);
        self.pax = body;
        pushed?;
        self.push(zeros(padding))
    }

    fn data(&mut self, entry: &Entry, size: u64, data: &mut dyn Read) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let whole = self.room()?;
            let end = usize::try_from(left).map_or(whole, |left| whole.min(self.filled + left));
            let space = self.buffer.get_mut(self.filled..end).unwrap_or_default();
            match data.read(space) {
                Ok(0) => {
                    let path = String::from_utf8_lossy(&entry.path);
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("data of `{path}` ended {left} bytes early"),
                    ));
                }
                Ok(n) => {
                    self.filled = end.min(self.filled + n);
                    left = left.saturating_sub(n as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.push(zeros(padding(size)))
    }

    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let end = self.room()?.min(self.filled + bytes.len());
            let (now, later) = bytes.split_at(end - self.filled);
            copy(
                self.buffer.get_mut(self.filled..end).unwrap_or_default(),
                now,
            );
            self.filled = end;
            bytes = later;
        }
        Ok(())
    }

    /// Makes room in the buffer; returns its length.
    fn room(&mut self) -> io::Result<usize> {
        if self.filled == self.buffer.len() {
            self.flush_buffer()?;
        }
        Ok(self.buffer.len())
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let filled = std::mem::take(&mut self.filled);
        self.buffer = self.out.take(std::mem::take(&mut self.buffer), filled)?;
        Ok(())
    }
}

/// That many zero bytes, at most a block.
fn zeros(count: usize) -> &'static [u8] {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    ZEROS.get(..count).unwrap_or(&ZEROS)
}

/// Copies as many bytes as both sides have.
fn copy(field: &mut [u8], bytes: &[u8]) {
    let length = field.len().min(bytes.len());
    if let (Some(to), Some(from)) = (field.get_mut(..length), bytes.get(..length)) {
        to.copy_from_slice(from);
    }
}

/// Fills a field with what fits, for readers that do not know extended headers.
fn copy_ascii(field: &mut [u8], bytes: &[u8]) {
    let ascii = bytes.iter().filter(|b| b.is_ascii());
    field
        .iter_mut()
        .zip(ascii)
        .for_each(|(to, from)| *to = *from);
}

/// Stores a path in the name field or, split at a slash, in prefix and name. Otherwise stores what
/// fits and returns `false`.
fn set_name(header: &mut Header, path: &[u8]) -> bool {
    const NAME: usize = 100;
    const PREFIX: usize = 155;
    if path.is_ascii() && path.len() <= NAME {
        copy(&mut header.as_old_mut().name, path);
        return true;
    }
    if path.is_ascii() && path.len() <= PREFIX + 1 + NAME {
        // The first slash after which the rest fits, but not one at the very end.
        let from = path.len() - NAME - 1;
        let slash = path
            .iter()
            .enumerate()
            .skip(from)
            .find(|(at, b)| **b == b'/' && *at > 0 && *at <= PREFIX && at + 1 < path.len());
        if let (Some((at, _)), Some(fields)) = (slash, header.as_ustar_mut()) {
            let (prefix, name) = path.split_at(at);
            copy(&mut fields.prefix, prefix);
            copy(&mut fields.name, name.get(1..).unwrap_or_default());
            return true;
        }
    }
    copy_ascii(&mut header.as_old_mut().name, path);
    false
}

fn decimal(space: &mut [u8; 24], number: u64, negative: bool) -> &[u8] {
    let mut cursor = io::Cursor::new(&mut space[..]);
    // 24 bytes hold any 64-bit number with its sign.
    let _ = write!(cursor, "{}{number}", if negative { "-" } else { "" });
    let length = usize::try_from(cursor.position()).unwrap_or(0);
    space.get(..length).unwrap_or_default()
}

/// Seconds and nanoseconds (more than none) as PAX has them: a sign, and a fraction away from zero.
fn fine_time(secs: i64, nanos: u32) -> String {
    match u64::try_from(secs) {
        Ok(secs) => format!("{secs}.{nanos:09}"),
        Err(_) => {
            let whole = secs.unsigned_abs() - 1;
            format!("-{whole}.{:09}", 1_000_000_000_u32.saturating_sub(nanos))
        }
    }
}

fn invalid(problem: &str, path: &[u8]) -> io::Error {
    let path = String::from_utf8_lossy(path);
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("cannot write `{path}` to a tar: {problem}"),
    )
}
