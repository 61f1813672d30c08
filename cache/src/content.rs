//! Blobs by digest. Every blob on disk equals its name: it is checked when it enters.

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use kiln_image::{Algorithm, Digest, Hasher};

use crate::error::{Error, Result};
use crate::scratch::Scratch;
use crate::store::Store;

/// The largest blob that is read into memory: manifests, configs.
const MAX_SMALL: u64 = 16 << 20;

impl Store {
    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("content-v1")
            .join(algorithm(digest))
            .join(digest.hex())
    }

    /// Where an unfinished download of a blob is kept, so that it can go on.
    pub fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.path("content-v1/partial").join(digest.hex())
    }

    /// Whether a blob is there.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Reads a small blob and checks it. A damaged one is removed.
    ///
    /// # Errors
    /// It is not there or does not have its digest.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let file = File::open(&path).map_err(|_| Error::BlobMissing(digest.clone()))?;
        let mut bytes = Vec::new();
        file.take(MAX_SMALL)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io(format!("read blob {digest}"), e))?;
        if digest.matches(&bytes) {
            return Ok(bytes);
        }
        let _ = std::fs::remove_file(&path);
        Err(Error::BlobMissing(digest.clone()))
    }

    /// Stores bytes under their SHA-256 digest.
    ///
    /// # Errors
    /// Writing failed.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if let Ok(meta) = std::fs::metadata(self.blob_path(&digest))
            && meta.len() == bytes.len() as u64
        {
            return Ok(digest);
        }
        let mut writer = self.blob_writer(Algorithm::Sha256)?;
        writer
            .write_all(bytes)
            .map_err(|e| Error::io("write blob", e))?;
        writer.finish(Some(&digest))
    }

    /// A writer for a blob whose digest is found while writing.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn blob_writer(&self, algorithm: Algorithm) -> Result<BlobWriter> {
        let scratch = self.scratch()?;
        let path = scratch.path().join("blob");
        let file = File::create_new(&path).map_err(|e| Error::io("make blob", e))?;
        let store = self.clone();
        Ok(BlobWriter {
            store,
            scratch,
            file,
            hasher: Hasher::new(algorithm),
            size: 0,
        })
    }

    /// Takes in a finished download whose digest has been checked while it was written.
    ///
    /// # Errors
    /// The file cannot be moved.
    pub fn adopt_partial(&self, digest: &Digest) -> Result<()> {
        self.make_algorithm(digest)?;
        let (from, to) = (self.partial_path(digest), self.blob_path(digest));
        match std::fs::rename(&from, &to) {
            Ok(()) => Ok(()),
            // Another process was faster with the same bytes.
            Err(_) if to.is_file() => Ok(()),
            Err(e) => Err(Error::io(format!("store blob {digest}"), e)),
        }
    }

    /// Makes a checked file a blob too; it keeps its own name.
    pub(crate) fn adopt_link(&self, file: &Path, digest: &Digest) -> Result<()> {
        self.make_algorithm(digest)?;
        match std::fs::hard_link(file, self.blob_path(digest)) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(Error::io(format!("store blob {digest}"), e))
            }
            _ => Ok(()),
        }
    }

    /// Reads a whole blob and tells whether it still has its digest.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_intact(&self, digest: &Digest) -> Result<bool> {
        let read = |e| Error::io(format!("read blob {digest}"), e);
        let mut file = File::open(self.blob_path(digest)).map_err(read)?;
        let (mut hasher, mut buffer) = (Hasher::new(digest.algorithm()), vec![0; 256 << 10]);
        loop {
            let n = file.read(&mut buffer).map_err(read)?;
            if n == 0 {
                return Ok(hasher.finish() == *digest);
            }
            hasher.update(&buffer[..n]);
        }
    }

    /// Removes a blob.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove_blob(&self, digest: &Digest) -> Result<()> {
        match std::fs::remove_file(self.blob_path(digest)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("remove blob {digest}"), e))
            }
            _ => Ok(()),
        }
    }

    fn make_algorithm(&self, digest: &Digest) -> Result<()> {
        let dir = self.path("content-v1").join(algorithm(digest));
        std::fs::create_dir_all(dir).map_err(|e| Error::io("make folder", e))
    }
}

fn algorithm(digest: &Digest) -> &'static str {
    match digest.algorithm() {
        Algorithm::Sha256 => "sha256",
        Algorithm::Sha512 => "sha512",
    }
}

/// Writes a blob to a temporary file and names it by its digest at the end.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    scratch: Scratch,
    file: File,
    hasher: Hasher,
    size: u64,
}

impl BlobWriter {
    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Names the blob. `wanted` is what the digest must be.
    ///
    /// # Errors
    /// The digest is another, or the file cannot be moved.
    pub fn finish(self, wanted: Option<&Digest>) -> Result<Digest> {
        let found = self.hasher.finish();
        if let Some(wanted) = wanted
            && *wanted != found
        {
            return Err(Error::WrongDigest {
                wanted: wanted.clone(),
                found,
            });
        }
        self.store.make_algorithm(&found)?;
        std::fs::rename(
            self.scratch.path().join("blob"),
            self.store.blob_path(&found),
        )
        .map_err(|e| Error::io(format!("store blob {found}"), e))?;
        Ok(found)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
