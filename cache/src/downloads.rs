//! Files from the web that were downloaded before, and how to ask whether they have changed.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use kiln_image::Digest;
use rusqlite::OptionalExtension as _;

use crate::error::{Error, Result};
use crate::store::Store;

/// A download: its content is a blob of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// The server's `ETag`, as sent.
    pub etag: Option<String>,
    /// The server's `Last-Modified`, as sent.
    pub last_modified: Option<String>,
    /// Digest of the content.
    pub digest: Digest,
}

/// Addresses may hold logins, which never reach the disk. The word in front is another one when what
/// is kept of the same answer changes.
fn key(url: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"decoded ").update(url.as_bytes());
    hasher.finalize().to_hex().to_string()
}

impl Store {
    /// What an address gave when it was last asked; none if its content is gone.
    ///
    /// # Errors
    /// The database refused.
    pub fn download(&self, url: &str) -> Result<Option<Download>> {
        let row = self
            .db()
            .prepare_cached("SELECT etag, last_modified, digest FROM downloads WHERE url = ?1")?
            .query_row([key(url)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?))
            })
            .optional()?;
        let Some((etag, last_modified, digest)) = row else {
            return Ok(None);
        };
        let Ok(digest) = digest.parse::<Digest>() else {
            return Ok(None);
        };
        Ok(self.has_blob(&digest).then_some(Download {
            etag,
            last_modified,
            digest,
        }))
    }

    /// Takes in the downloaded `file`, whose digest has been checked while it was written. The
    /// file stays where it is too.
    ///
    /// # Errors
    /// The file cannot be linked, or the database refused.
    pub fn put_download(&self, url: &str, file: &Path, download: &Download) -> Result<()> {
        self.adopt_link(file, &download.digest)?;
        self.write(|tx| {
            tx.execute(
                "INSERT OR REPLACE INTO downloads (url, etag, last_modified, digest)
                 VALUES (?1, ?2, ?3, ?4)",
                (
                    key(url),
                    &download.etag,
                    &download.last_modified,
                    download.digest.as_str(),
                ),
            )?;
            Ok(())
        })
    }

    /// Gives the content of an earlier download the name `to`, with the mode and time of a fresh
    /// one. False if the content is damaged: it is removed then.
    ///
    /// # Errors
    /// The file cannot be read or linked.
    pub fn link_download(&self, digest: &Digest, to: &Path, modified: SystemTime) -> Result<bool> {
        if !self.is_intact(digest)? {
            self.remove_blob(digest)?;
            return Ok(false);
        }
        let io = |e| Error::io("link download", e);
        std::fs::hard_link(self.blob_path(digest), to).map_err(io)?;
        let meta = std::fs::metadata(to).map_err(io)?;
        let time = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(meta.mtime().try_into().unwrap_or(0)));
        if meta.permissions().mode() & 0o7777 != 0o600 || time != Some(modified) {
            let file = std::fs::File::options().write(true).open(to).map_err(io)?;
            file.set_permissions(std::fs::Permissions::from_mode(0o600))
                .and_then(|()| file.set_modified(modified))
                .map_err(io)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_remembered_until_its_content_is_gone_or_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let scratch = store.scratch().unwrap();
        let url = "http://user:secret@example.com/f";
        let file = scratch.path().join("f");
        std::fs::write(&file, "content").unwrap();
        let download = Download {
            etag: Some("\"1\"".into()),
            last_modified: None,
            digest: Digest::of(b"content"),
        };
        store.put_download(url, &file, &download).unwrap();
        assert_eq!(store.download(url).unwrap(), Some(download.clone()));
        assert_eq!(store.download("http://example.com/f").unwrap(), None);

        let again = scratch.path().join("again");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        assert!(store.link_download(&download.digest, &again, time).unwrap());
        assert_eq!(std::fs::read(&again).unwrap(), b"content");
        let meta = std::fs::metadata(&again).unwrap();
        assert_eq!((meta.mtime(), meta.mode() & 0o7777), (1000, 0o600));

        std::fs::write(&again, "damaged").unwrap();
        let other = scratch.path().join("other");
        assert!(!store.link_download(&download.digest, &other, time).unwrap());
        assert_eq!(store.download(url).unwrap(), None);
    }
}
