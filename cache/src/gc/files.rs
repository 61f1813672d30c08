//! Files of the store that have no rows.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rusqlite::Transaction;

use super::{Class, Item, survey};
use crate::error::Result;
use crate::store::Maintenance;

impl Maintenance<'_> {
    /// Measures what takes room and has no rows.
    ///
    /// # Errors
    /// The database refused, or a folder cannot be listed.
    pub fn measure_files(&self) -> Result<()> {
        let files = survey::files(self, &|_| Ok(false))?;
        self.write(|tx| note_files(tx, files.iter()))
    }

    /// Throws away files among the blobs that have no row: a process died before it could give
    /// them one, or the row was dropped after a power cut.
    ///
    /// # Errors
    /// The database refused, or a file cannot be moved.
    pub fn discard_unknown_blobs(&self) -> Result<()> {
        let unknown = self.unknown_blobs()?;
        if unknown.is_empty() {
            return Ok(());
        }
        self.leases().behind_gate(|leased| {
            self.write(|tx| {
                for (digest, path) in &unknown {
                    // Its row may have been written meanwhile, or is about to be.
                    let sql = "SELECT EXISTS (SELECT 1 FROM contents WHERE digest = ?1)";
                    let known: bool = tx.query_row(sql, [digest], |row| row.get(0))?;
                    if !known && !leased(digest)? {
                        self.discard(path)?;
                    }
                }
                Ok(())
            })
        })
    }

    /// Files among the blobs that have no row, by what their digests would be.
    pub(crate) fn unknown_blobs(&self) -> Result<Vec<(String, PathBuf)>> {
        let known: HashSet<String> = {
            let db = self.db();
            let mut query = db.prepare("SELECT digest FROM contents")?;
            let rows = query.query_map([], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        let mut unknown = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let dir = self.path("content-v1").join(algorithm);
            // A store that never held a blob of this algorithm has no such folder.
            let Ok(folder) = kiln_sys::RootDir::open_trusted(&dir) else {
                continue;
            };
            for entry in folder.read_dir(Path::new(""))? {
                let digest = format!("{algorithm}:{}", entry.name.to_string_lossy());
                if !known.contains(&digest) {
                    unknown.push((digest, dir.join(&entry.name)));
                }
            }
        }
        Ok(unknown)
    }

    /// Removes what this process has put into the trash.
    pub(super) fn empty_own_trash(&self) -> Result<()> {
        let trash = kiln_sys::RootDir::open_trusted(&self.path("trash"))?;
        let own = format!("{}-", self.owner());
        for entry in trash.read_dir(Path::new(""))? {
            if entry.name.to_string_lossy().starts_with(&own) {
                // Upkeep may remove the same at the same time.
                let _ = self.remove_tree(&self.path("trash").join(&entry.name));
            }
        }
        Ok(())
    }
}

/// Writes down the sum of what has no rows.
pub(super) fn note_files<'a>(
    tx: &Transaction<'_>,
    items: impl Iterator<Item = &'a Item>,
) -> Result<()> {
    let files =
        items.filter(|i| matches!(i.class, Class::StatCaches | Class::Logs | Class::Partial));
    let bytes: u64 = files.map(|i| i.bytes).sum();
    tx.prepare_cached("INSERT OR REPLACE INTO totals (class, bytes) VALUES ('files', ?1)")?
        .execute([bytes.cast_signed()])?;
    Ok(())
}
