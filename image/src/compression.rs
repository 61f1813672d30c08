//! Compression of layers and archives: detection, decoders, and encoders whose bytes depend only
//! on what goes in.

mod gzip;

use std::fmt;
use std::io::{self, Read, Write};

use crate::descriptor::media_type;

pub use gzip::ParallelGzip;

/// Memory that an xz stream may ask for: 512 MiB, four times what `xz -9` needs.
const XZ_MEMORY: u64 = 512 << 20;
/// The largest zstd window, as a power of two: 128 MiB, the default of the command line tool.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// How many bytes [`Compression::detect`] looks at.
    pub const MAGIC_LEN: usize = 6;

    /// Tells the compression from the first bytes of a stream.
    #[must_use]
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame first, as zstd:chunked and some indexers write it.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The compression that a layer's media type announces; `None` when it announces none that is
    /// known.
    #[must_use]
    pub fn of_media_type(kind: &str) -> Option<Self> {
        if !media_type::is_layer(kind) {
            return None;
        }
        match kind.rsplit(['.', '+']).next()? {
            "tar" => Some(Self::None),
            "gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The OCI media type of a layer; `None` for what OCI has no type for.
    #[must_use]
    pub const fn oci_layer_type(self) -> Option<&'static str> {
        match self {
            Self::None => Some(media_type::OCI_LAYER),
            Self::Gzip => Some(media_type::OCI_LAYER_GZIP),
            Self::Zstd => Some(media_type::OCI_LAYER_ZSTD),
            Self::Bzip2 | Self::Xz => None,
        }
    }

    /// Docker's media type of a layer; `None` for what Docker has no type for.
    #[must_use]
    pub const fn docker_layer_type(self) -> Option<&'static str> {
        match self {
            Self::None => Some(media_type::DOCKER_LAYER),
            Self::Gzip => Some(media_type::DOCKER_LAYER_GZIP),
            Self::Zstd => Some(media_type::DOCKER_LAYER_ZSTD),
            Self::Bzip2 | Self::Xz => None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

/// Detects the compression of a stream and undoes it. All members, frames and streams that follow
/// each other are read.
///
/// The output is as long as the input makes it: the caller limits it.
///
/// # Errors
/// When the first bytes cannot be read or the decoder cannot be set up.
pub fn decoder(mut input: Box<dyn Read + Send>) -> io::Result<(Compression, Box<dyn Read + Send>)> {
    let mut start = Vec::with_capacity(Compression::MAGIC_LEN);
    input
        .by_ref()
        .take(Compression::MAGIC_LEN as u64)
        .read_to_end(&mut start)?;
    let kind = Compression::detect(&start);
    let whole = io::BufReader::with_capacity(256 << 10, io::Cursor::new(start).chain(input));
    let output: Box<dyn Read + Send> = match kind {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(
                XZ_MEMORY,
                liblzma::stream::CONCATENATED,
            )?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(whole, stream))
        }
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    };
    Ok((kind, output))
}

/// Bytes that readers of the format pass over at the end of a stream: with them the same content has
/// another digest. None for formats that have no such thing.
#[must_use]
pub fn padding(kind: Compression, salt: [u8; 16]) -> Option<Vec<u8>> {
    match kind {
        // RFC 1952: a member of no bytes, with the salt as an extra field.
        Compression::Gzip => {
            let mut member = vec![
                0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 20, 0, b'k', b'i', 16, 0,
            ];
            member.extend(salt);
            member.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            Some(member)
        }
        // RFC 8878: a skippable frame.
        Compression::Zstd => {
            let mut frame = vec![0x50, 0x2a, 0x4d, 0x18, 16, 0, 0, 0];
            frame.extend(salt);
            Some(frame)
        }
        Compression::None | Compression::Bzip2 | Compression::Xz => None,
    }
}

/// Compresses a stream; the bytes do not depend on the number of threads.
pub enum Encoder<W: Write> {
    /// Passes everything on.
    None(W),
    /// Parallel gzip.
    Gzip(Box<ParallelGzip<W>>),
    /// Parallel zstd.
    Zstd(Box<zstd::Encoder<'static, W>>),
}

impl<W: Write> Encoder<W> {
    /// Starts a stream. `level` is that of the format (gzip 0 to 9, zstd -7 to 22); `None` takes
    /// the usual one (gzip 6, zstd 3).
    ///
    /// # Errors
    /// For compressions that are only read (bzip2, xz), and levels out of range.
    pub fn new(
        output: W,
        compression: Compression,
        level: Option<i32>,
        threads: usize,
    ) -> io::Result<Self> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        match compression {
            Compression::None => Ok(Self::None(output)),
            Compression::Gzip => {
                let level = level.unwrap_or(6);
                let level = u32::try_from(level)
                    .ok()
                    .filter(|level| *level <= 9)
                    .ok_or_else(|| invalid(format!("gzip level {level} is not within 0 to 9")))?;
                Ok(Self::Gzip(Box::new(ParallelGzip::new(
                    output, level, threads,
                ))))
            }
            Compression::Zstd => {
                let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                if !(-7..=22).contains(&level) {
                    return Err(invalid(format!(
                        "zstd level {level} is not within -7 to 22"
                    )));
                }
                let mut encoder = zstd::Encoder::new(output, level)?;
                // At least one worker: jobs are cut the same way for any number but zero.
                encoder.multithread(u32::try_from(threads.clamp(1, 64)).unwrap_or(1))?;
                encoder.include_checksum(true)?;
                Ok(Self::Zstd(Box::new(encoder)))
            }
            Compression::Bzip2 | Compression::Xz => {
                Err(invalid(format!("layers are not written as {compression}")))
            }
        }
    }

    /// Ends the stream and returns the output.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(mut output) => output.flush().map(|()| output),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None(_) => "Encoder::None",
            Self::Gzip(_) => "Encoder::Gzip",
            Self::Zstd(_) => "Encoder::Zstd",
        })
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(output) => output.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Flushing a compressor would change its bytes.
        match self {
            Self::None(output) => output.flush(),
            Self::Gzip(_) | Self::Zstd(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
