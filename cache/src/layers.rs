//! Layers: directories in overlay form, with what is known of their content.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kiln_image::{Descriptor, DiffId, Digest, Reference};
use kiln_solver::key::TreeDigest;
use rusqlite::OptionalExtension as _;

use crate::db::{self, nanos, time};
use crate::error::{Error, Result};
use crate::pack::Packed;
use crate::store::Store;

/// The name of a layer in this store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(String);

impl LayerId {
    /// As a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A layer whose content is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub id: LayerId,
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// Digest of its content, without times.
    pub tree: TreeDigest,
    /// Bytes of its tar.
    pub tar_size: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was made.
    pub created: SystemTime,
    /// The clamp of times, in seconds since 1970, with which its directory gives its tar.
    pub epoch: Option<u64>,
}

impl Layer {
    /// Tells a row that is what was written from one that has been damaged: what it says goes into
    /// images.
    fn sum(&self) -> String {
        let text = format!(
            "{} {} {} {} {} {} {:?}",
            self.id.0,
            self.diff_id,
            self.tree.to_hex(),
            self.tar_size,
            self.bytes,
            nanos(self.created),
            self.epoch
        );
        blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
    }
}

/// The tree digest that stands for a layer of an image: its content is known by its diff id.
pub fn tree_of_image_layer(diff_id: &DiffId) -> TreeDigest {
    blake3::hash(format!("diff {diff_id}").as_bytes()).into()
}

fn row_to_layer(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Layer>> {
    let (diff_id, tree): (String, String) = (row.get(1)?, row.get(2)?);
    let (Ok(diff_id), Some(tree)) = (diff_id.parse(), TreeDigest::from_hex(&tree)) else {
        return Ok(None);
    };
    let number = |n: i64| n.max(0).cast_unsigned();
    let layer = Layer {
        id: LayerId(row.get(0)?),
        diff_id,
        tree,
        tar_size: number(row.get(3)?),
        bytes: number(row.get(4)?),
        created: time(row.get(5)?),
        epoch: row.get::<_, Option<i64>>(6)?.map(number),
    };
    let sum: Option<String> = row.get(7)?;
    // Rows of older versions have none.
    Ok(sum.is_none_or(|s| s == layer.sum()).then_some(layer))
}

/// A descriptor of digest, media type and size.
fn to_descriptor(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Descriptor>> {
    let (digest, media_type, size): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let size = size.max(0).cast_unsigned();
    Ok(digest
        .parse()
        .ok()
        .map(|d| Descriptor::new(media_type, d, size)))
}

/// Of so many repositories that a layer was sent to is one asked for it.
const PLACES: u32 = 3;

const COLUMNS: &str = "id, diff_id, tree, tar_size, bytes, created, epoch, sum";

impl Store {
    /// The directory of a layer's files.
    pub fn layer_dir(&self, id: &LayerId) -> PathBuf {
        self.path("layers-v1").join(&id.0).join("diff")
    }

    /// An empty directory, the bottom of stacks that have nothing else.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn empty_dir(&self) -> Result<PathBuf> {
        let dir = self.path("layers-v1/empty");
        if !dir.is_dir() {
            std::fs::create_dir_all(&dir).map_err(|e| Error::io("make folder", e))?;
        }
        Ok(dir)
    }

    /// Makes a step's finished directory a layer, by renaming it. Nothing is known of its content
    /// yet: see [`Store::record_layer`].
    ///
    /// # Errors
    /// The directory cannot be moved.
    pub fn adopt_layer(&self, dir: &Path) -> Result<LayerId> {
        let mut random = [0_u8; 12];
        kiln_sys::system::random(&mut random)?;
        let random: String = random.iter().map(|b| format!("{b:02x}")).collect();
        // The maker is part of the name, so that what it left unfinished can be told.
        let id = LayerId(format!("{random}-{}", self.owner()));
        self.lease(&id.0)?;
        let home = self.path("layers-v1").join(&id.0);
        std::fs::create_dir(&home).map_err(|e| Error::io("make layer", e))?;
        std::fs::rename(dir, home.join("diff")).map_err(|e| Error::io("name layer", e))?;
        Ok(id)
    }

    /// Writes down what a layer holds.
    ///
    /// # Errors
    /// The database refused.
    pub fn record_layer(
        &self,
        id: &LayerId,
        packed: &Packed,
        created: SystemTime,
    ) -> Result<Layer> {
        let layer = Layer {
            id: id.clone(),
            diff_id: packed.diff_id.clone(),
            tree: packed.tree,
            tar_size: packed.tar_size,
            bytes: packed.bytes,
            created,
            epoch: packed.epoch,
        };
        self.write(|tx| {
            tx.execute(
                "INSERT INTO layers (id, diff_id, tree, tar_size, bytes, created, boot, epoch, sum)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                (
                    &layer.id.0,
                    layer.diff_id.to_string(),
                    layer.tree.to_hex(),
                    layer.tar_size.cast_signed(),
                    layer.bytes.cast_signed(),
                    nanos(created),
                    self.boot(),
                    layer.epoch.map(u64::cast_signed),
                    layer.sum(),
                ),
            )?;
            Ok(())
        })?;
        Ok(layer)
    }

    /// Writes down the digest of a layer's content, where only its tar was known.
    ///
    /// # Errors
    /// The database refused.
    pub fn note_tree(&self, id: &LayerId, tree: TreeDigest) -> Result<()> {
        self.write(|tx| {
            let layer = tx
                .prepare_cached(&format!("SELECT {COLUMNS} FROM layers WHERE id = ?1"))?
                .query_row([&id.0], row_to_layer)
                .optional()?
                .flatten();
            // One that is gone meanwhile is a miss for whoever looks for it.
            let Some(layer) = layer else { return Ok(()) };
            let layer = Layer { tree, ..layer };
            tx.execute(
                "UPDATE layers SET tree = ?2, sum = ?3 WHERE id = ?1",
                (&id.0, tree.to_hex(), layer.sum()),
            )?;
            Ok(())
        })
    }

    /// A layer by its name, if its directory is there. It stays there until this store is closed.
    ///
    /// # Errors
    /// The database refused.
    pub fn layer(&self, id: &str) -> Result<Option<Layer>> {
        self.lease(id)?;
        let layer = self
            .db()
            .prepare_cached(&format!("SELECT {COLUMNS} FROM layers WHERE id = ?1"))?
            .query_row([id], row_to_layer)
            .optional()?
            .flatten();
        Ok(layer.filter(|l| self.layer_dir(&l.id).is_dir()))
    }

    /// A layer with this diff id, if one is unpacked. It stays there until this store is closed.
    ///
    /// # Errors
    /// The database refused.
    pub fn layer_by_diff(&self, diff_id: &DiffId) -> Result<Option<Layer>> {
        let found: Vec<Layer> = {
            let db = self.db();
            let mut query =
                db.prepare_cached(&format!("SELECT {COLUMNS} FROM layers WHERE diff_id = ?1"))?;
            let rows = query.query_map([diff_id.to_string()], row_to_layer)?;
            db::readable(rows)?
        };
        for layer in found {
            if let Some(layer) = self.layer(layer.id.as_str())? {
                return Ok(Some(layer));
            }
        }
        Ok(None)
    }

    /// Throws a layer away that nothing refers to.
    ///
    /// # Errors
    /// The directory cannot be moved, or the database refused.
    pub fn drop_layer(&self, id: &LayerId) -> Result<()> {
        self.write(|tx| {
            tx.execute("DELETE FROM layers WHERE id = ?1", [&id.0])?;
            Ok(())
        })?;
        self.discard(&self.path("layers-v1").join(&id.0))
    }

    /// Throws away layers that a process made and did not live to record.
    ///
    /// # Errors
    /// The folder cannot be listed, or the database refused.
    pub fn discard_unrecorded(&self) -> Result<()> {
        self.discard_unknown(|owner| Ok(!self.is_alive(owner)?))
    }

    /// Throws away layers that this process made and did not record. Nothing may be made meanwhile.
    ///
    /// # Errors
    /// As above.
    pub fn discard_own_unrecorded(&self) -> Result<()> {
        self.discard_unknown(|owner| Ok(owner == self.owner()))
    }

    fn discard_unknown(&self, is_done: impl Fn(&str) -> Result<bool>) -> Result<()> {
        let layers = kiln_sys::RootDir::open_trusted(&self.path("layers-v1"))?;
        for entry in layers.read_dir(Path::new(""))? {
            let name = entry.name.to_string_lossy();
            let Some((_, owner)) = name.split_once('-') else {
                continue;
            };
            // Alive first: a layer that is recorded in between has a living maker.
            if !is_done(owner)? {
                continue;
            }
            let path = self.path("layers-v1").join(&*name);
            // A step may run on one that a repair has forgotten.
            self.leases().behind_gate_of_others(|leased| {
                let sql = "SELECT EXISTS (SELECT 1 FROM layers WHERE id = ?1)";
                let known: bool = self.db().query_row(sql, [&*name], |row| row.get(0))?;
                if known || leased(&name)? {
                    return Ok(());
                }
                self.check_is_current()?;
                self.discard(&path)
            })?;
        }
        Ok(())
    }

    /// Remembers that a blob holds the layer with this diff id.
    ///
    /// # Errors
    /// The database refused.
    pub fn note_blob(&self, diff_id: &DiffId, blob: &Descriptor) -> Result<()> {
        self.write(|tx| {
            tx.execute(
                "INSERT OR IGNORE INTO blobs (diff_id, digest, media_type, size)
                 VALUES (?1, ?2, ?3, ?4)",
                (
                    diff_id.to_string(),
                    blob.digest.to_string(),
                    &blob.media_type,
                    blob.size.cast_signed(),
                ),
            )?;
            Ok(())
        })
    }

    /// Remembers what an image's manifest says on its layers: which blob of which repository holds
    /// the layer with this diff id. Only whoever has read the blob knows whether that is true.
    ///
    /// # Errors
    /// The database refused.
    pub fn note_origins(&self, from: &Reference, layers: &[(&DiffId, &Descriptor)]) -> Result<()> {
        let new = |(diff_id, blob): &&(&DiffId, &Descriptor)| -> Result<bool> {
            let known = self.origins_of(diff_id)?;
            Ok(!known
                .iter()
                .any(|(r, b)| r == from && b.digest == blob.digest))
        };
        let mut missing = Vec::new();
        for layer in layers {
            if new(&layer)? {
                missing.push(layer);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.write(|tx| {
            let mut insert = tx.prepare_cached(
                "INSERT OR IGNORE INTO origins (diff_id, reference, digest, media_type, size)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for (diff_id, blob) in missing {
                insert.execute((
                    diff_id.to_string(),
                    from.to_string(),
                    blob.digest.to_string(),
                    &blob.media_type,
                    blob.size.cast_signed(),
                ))?;
            }
            Ok(())
        })
    }

    /// Where the layer with this diff id may be fetched.
    ///
    /// # Errors
    /// The database refused.
    pub fn origins_of(&self, diff_id: &DiffId) -> Result<Vec<(Reference, Descriptor)>> {
        let db = self.db();
        let mut query = db.prepare_cached(
            "SELECT digest, media_type, size, reference FROM origins WHERE diff_id = ?1
             ORDER BY reference, digest",
        )?;
        let rows = query.query_map([diff_id.to_string()], |row| {
            let from: String = row.get(3)?;
            Ok(to_descriptor(row)?.and_then(|d| Some((from.parse().ok()?, d))))
        })?;
        db::readable(rows)
    }

    /// Remembers that a repository has been sent the blob of a layer.
    ///
    /// # Errors
    /// The database refused.
    pub fn note_sent(&self, diff_id: &DiffId, blob: &Digest, to: &Reference) -> Result<()> {
        self.write(|tx| {
            tx.execute(
                "INSERT OR REPLACE INTO sent (diff_id, digest, repository, at)
                 VALUES (?1, ?2, ?3, ?4)",
                (
                    diff_id.to_string(),
                    blob.to_string(),
                    to.to_string(),
                    nanos(SystemTime::now()),
                ),
            )?;
            Ok(())
        })
    }

    /// Repositories that may have the blob of a layer, because it came from there or was sent there:
    /// a few, the likeliest first. Another repository of the same registry may take it from them.
    ///
    /// # Errors
    /// The database refused.
    pub fn repositories_with(&self, diff_id: &DiffId, blob: &Digest) -> Result<Vec<Reference>> {
        let sent: Vec<String> = {
            let db = self.db();
            let mut query = db.prepare_cached(
                "SELECT repository FROM sent WHERE diff_id = ?1 AND digest = ?2
                 ORDER BY at DESC LIMIT ?3",
            )?;
            let rows = query.query_map((diff_id.to_string(), blob.to_string(), PLACES), |row| {
                row.get(0)
            })?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        let origins = self.origins_of(diff_id)?;
        let origins = origins.into_iter().filter(|(_, b)| b.digest == *blob);
        Ok(origins
            .map(|(from, _)| from)
            .chain(sent.iter().filter_map(|r| r.parse().ok()))
            .collect())
    }

    /// Blobs in the store that hold the layer with this diff id.
    ///
    /// # Errors
    /// The database refused.
    pub fn blobs_of(&self, diff_id: &DiffId) -> Result<Vec<Descriptor>> {
        let all: Vec<Descriptor> = {
            let db = self.db();
            let mut query = db.prepare_cached(
                "SELECT digest, media_type, size FROM blobs WHERE diff_id = ?1 ORDER BY digest",
            )?;
            let rows = query.query_map([diff_id.to_string()], to_descriptor)?;
            db::readable(rows)?
        };
        Ok(all
            .into_iter()
            .filter(|d| self.has_blob(&d.digest))
            .collect())
    }
}
