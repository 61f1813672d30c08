//! Blobs by digest. Every blob on disk equals its name: it is checked when it enters.

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use kiln_image::{Algorithm, Digest, Hasher};
use kiln_solver::event::{Warning, WarningCode};
use rusqlite::OptionalExtension as _;

use crate::db::nanos;
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

    /// Whether a blob is there: it has its row, and a file of its size. It stays there until this
    /// store is closed.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        // No lease and no row are both "not there": what is missing is fetched or made again.
        self.lease(digest.as_str()).is_ok() && self.find_blob(digest).is_ok_and(|found| found)
    }

    fn find_blob(&self, digest: &Digest) -> Result<bool> {
        let size: Option<i64> = self
            .db()
            .prepare_cached("SELECT size FROM contents WHERE digest = ?1")?
            .query_row([digest.as_str()], |row| row.get(0))
            .optional()?;
        let Some(size) = size else { return Ok(false) };
        let meta = std::fs::metadata(self.blob_path(digest));
        Ok(meta.is_ok_and(|m| m.is_file() && m.len() == size.cast_unsigned()))
    }

    /// Puts a file in the place of a blob by `place`, and then writes its row: a file without one
    /// is nothing but rubbish, whoever left it. The lease keeps it from being taken for that.
    fn enter_blob(
        &self,
        digest: &Digest,
        size: u64,
        place: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<()> {
        self.lease(digest.as_str())?;
        self.make_algorithm(digest)?;
        place(&self.blob_path(digest)).map_err(|e| Error::io(format!("store blob {digest}"), e))?;
        self.write(|tx| {
            tx.prepare_cached(
                "INSERT INTO contents (digest, size, created, boot) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (digest) DO UPDATE SET
                     size = excluded.size, created = excluded.created, boot = excluded.boot",
            )?
            .execute((
                digest.as_str(),
                size.cast_signed(),
                nanos(std::time::SystemTime::now()),
                self.boot(),
            ))?;
            Ok(())
        })
    }

    /// Reads a small blob and checks it. A damaged one is removed.
    ///
    /// # Errors
    /// It is not there or does not have its digest.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.lease(digest.as_str())?;
        if !self.find_blob(digest)? {
            return Err(Error::BlobMissing(digest.clone()));
        }
        let file = File::open(self.blob_path(digest));
        let file = file.map_err(|_| Error::BlobMissing(digest.clone()))?;
        let mut bytes = Vec::new();
        file.take(MAX_SMALL)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io(format!("read blob {digest}"), e))?;
        if digest.matches(&bytes) {
            return Ok(bytes);
        }
        let text = format!("a damaged blob is removed (blob: {digest})");
        (self.events()).warn(Warning::new(WarningCode::DamagedBlob, text));
        self.remove_blob(digest)?;
        Err(Error::BlobMissing(digest.clone()))
    }

    /// Stores bytes under their SHA-256 digest.
    ///
    /// # Errors
    /// Writing failed.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        // What is there may be damaged, and these bytes are not.
        if self.read_blob(&digest).is_ok() {
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

    /// Opens the unfinished download of a blob, which is made if there is none.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open_partial(&self, digest: &Digest) -> Result<File> {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.partial_path(digest))
            .map_err(|e| Error::io("open download", e))
    }

    /// Takes in a finished download whose digest has been checked while it was written.
    ///
    /// # Errors
    /// The file cannot be moved.
    pub fn adopt_partial(&self, digest: &Digest) -> Result<()> {
        let from = self.partial_path(digest);
        let size = match std::fs::metadata(&from) {
            Ok(meta) => meta.len(),
            // Another process was faster with the same bytes.
            Err(_) if self.has_blob(digest) => return Ok(()),
            Err(e) => return Err(Error::io(format!("store blob {digest}"), e)),
        };
        self.enter_blob(digest, size, |to| match std::fs::rename(&from, to) {
            Err(_) if to.is_file() => Ok(()),
            other => other,
        })
    }

    /// Makes a checked file a blob too; it keeps its own name.
    pub(crate) fn adopt_link(&self, file: &Path, digest: &Digest) -> Result<()> {
        let meta = std::fs::metadata(file).map_err(|e| Error::io("store download", e))?;
        self.enter_blob(digest, meta.len(), |to| {
            // What is there may be damaged; it is replaced at once, for it may have its row.
            let scratch = self.scratch().map_err(std::io::Error::other)?;
            let link = scratch.path().join("blob");
            std::fs::hard_link(file, &link)?;
            std::fs::rename(&link, to)
        })
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
        self.leases().behind_gate(|_| {
            self.write(|tx| forget_blob(tx, digest))?;
            self.unlink_blob(digest)
        })
    }

    /// Removes the file of a blob whose row is gone. Behind the gate, where nobody can store it
    /// anew in between.
    pub(crate) fn unlink_blob(&self, digest: &Digest) -> Result<()> {
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

/// Deletes the row of a blob.
pub(crate) fn forget_blob(tx: &rusqlite::Transaction<'_>, digest: &Digest) -> Result<()> {
    tx.execute("DELETE FROM contents WHERE digest = ?1", [digest.as_str()])?;
    Ok(())
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
        let from = self.scratch.path().join("blob");
        let place = |to: &Path| std::fs::rename(from, to);
        self.store.enter_blob(&found, self.size, place)?;
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
