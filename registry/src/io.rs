//! Where pulled blobs go and pushed blobs come from.

use std::future::Future;
use std::io::{self, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use kiln_image::digest::Hasher;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

/// Takes the bytes of a blob in order. What it holds after a failure can be resumed, by the same
/// process or a later one.
pub trait BlobSink: Send {
    /// Feeds the bytes that are there from an earlier attempt to the hasher and returns their
    /// number. Later writes follow them.
    fn resume(&mut self, hasher: &mut Hasher) -> impl Future<Output = io::Result<u64>> + Send;

    /// Appends bytes.
    fn write(&mut self, bytes: Bytes) -> impl Future<Output = io::Result<()>> + Send;

    /// Throws everything away.
    fn restart(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Is told that the blob is complete and verified.
    fn complete(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// A file that holds a blob or the beginning of one.
pub struct FileSink<'a> {
    file: File,
    resumed: &'a (dyn Fn(u64) + Send + Sync),
}

impl<'a> FileSink<'a> {
    /// Resumes a file that is open for reading and writing.
    #[must_use]
    pub const fn new(file: File) -> Self {
        Self {
            file,
            resumed: &|_| {},
        }
    }

    /// Tells how many bytes of an earlier attempt have been read again, which takes a while for a
    /// large file.
    #[must_use]
    pub fn telling(self, resumed: &'a (dyn Fn(u64) + Send + Sync)) -> Self {
        Self { resumed, ..self }
    }

    /// The file.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }
}

impl BlobSink for FileSink<'_> {
    async fn resume(&mut self, hasher: &mut Hasher) -> io::Result<u64> {
        self.file.seek(SeekFrom::Start(0)).await?;
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0u64;
        loop {
            let n = self.file.read(&mut buffer).await?;
            if n == 0 {
                break;
            }
            hasher.update(buffer.get(..n).unwrap_or_default());
            total += n as u64;
            (self.resumed)(total);
        }
        self.file.seek(SeekFrom::Start(total)).await?;
        Ok(total)
    }

    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.file.write_all(&bytes).await
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.file.flush().await?;
        self.file.set_len(0).await?;
        self.file.seek(SeekFrom::Start(0)).await.map(drop)
    }

    async fn complete(&mut self) -> io::Result<()> {
        self.file.flush().await
    }
}

/// Holds a small blob in memory.
#[derive(Debug, Default)]
pub struct MemorySink {
    bytes: Vec<u8>,
}

impl MemorySink {
    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl BlobSink for MemorySink {
    async fn resume(&mut self, hasher: &mut Hasher) -> io::Result<u64> {
        hasher.update(&self.bytes);
        Ok(self.bytes.len() as u64)
    }

    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.bytes.clear();
        Ok(())
    }

    async fn complete(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob's bytes on their way out.
pub type BlobReader = Pin<Box<dyn AsyncRead + Send>>;

/// Gives the bytes of a blob, from any offset and as often as need be.
pub trait BlobSource: Sync {
    /// Opens the blob at an offset.
    fn open(&self, offset: u64) -> impl Future<Output = io::Result<BlobReader>> + Send;
}

/// A blob in a file.
#[derive(Debug, Clone)]
pub struct FileSource(pub PathBuf);

impl BlobSource for FileSource {
    async fn open(&self, offset: u64) -> io::Result<BlobReader> {
        let mut file = File::open(&self.0).await?;
        file.seek(SeekFrom::Start(offset)).await?;
        Ok(Box::pin(file))
    }
}

impl BlobSource for Bytes {
    async fn open(&self, offset: u64) -> io::Result<BlobReader> {
        let offset = usize::try_from(offset)
            .ok()
            .filter(|offset| *offset <= self.len());
        let offset = offset.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Box::pin(io::Cursor::new(self.slice(offset..))))
    }
}
