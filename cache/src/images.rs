//! Images: names, configs, manifests.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::SystemTime;

use kiln_image::reference::nearest;
use kiln_image::{Digest, ImageConfig, Reference};
use rusqlite::OptionalExtension as _;

use crate::content::forget_blob;
use crate::db::{self, nanos, time};
use crate::error::{Error, Result};
use crate::store::Store;

mod identity;

use identity::is_of_digest;

/// A row of the list of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRow {
    /// Canonical reference; none for an image that lost its name.
    pub name: Option<Reference>,
    /// Digest of the config: the image id.
    pub config: Digest,
    /// Digest of the manifest that it was pulled by, or that has its annotations.
    pub manifest: Option<Digest>,
    /// When it came into the store.
    pub added: SystemTime,
}

/// An image with its config.
#[derive(Clone, Debug)]
pub struct StoredImage {
    /// Its row.
    pub row: ImageRow,
    /// Its config.
    pub config: ImageConfig,
    /// The config's bytes.
    pub raw_config: Vec<u8>,
    /// The text that it was found by, if it can be read as a reference.
    pub asked: Option<Reference>,
}

/// Images that were removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemovedImages {
    /// Rows that are gone.
    pub rows: Vec<ImageRow>,
    /// Images of which nothing is left.
    pub ids: Vec<Digest>,
    /// Bytes that their configs took.
    pub bytes: u64,
}

fn to_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<ImageRow>> {
    let (name, config): (Option<String>, String) = (row.get(0)?, row.get(1)?);
    let manifest: Option<String> = row.get(2)?;
    let (Ok(name), Ok(config)) = (name.map(|n| n.parse()).transpose(), config.parse()) else {
        return Ok(None);
    };
    let manifest = manifest.and_then(|m| m.parse().ok());
    Ok(Some(ImageRow {
        name,
        config,
        manifest,
        added: time(row.get(3)?),
    }))
}

/// A name, in the only column of a row.
fn to_name(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Reference>> {
    Ok(row.get::<_, String>(0)?.parse().ok())
}

impl Store {
    /// Gives `name` to the image with this config, taking it from another one. Without a name the
    /// image is kept nameless, unless it has a name already. The manifest replaces the one that is
    /// known for that name, or for the nameless image.
    ///
    /// # Errors
    /// The database refused.
    pub fn put_image(
        &self,
        name: Option<&Reference>,
        config: &Digest,
        manifest: Option<&Digest>,
    ) -> Result<()> {
        let name = name.map(ToString::to_string);
        let (config, manifest) = (config.to_string(), manifest.map(ToString::to_string));
        let now = nanos(SystemTime::now());
        self.write(|tx| {
            let insert = "INSERT INTO images (name, config, manifest, created, boot)
                          VALUES (?1, ?2, ?3, ?4, ?5)";
            if let Some(name) = &name {
                let before: Option<(String, Option<String>)> = tx
                    .query_row(
                        "SELECT config, manifest FROM images WHERE name = ?1",
                        [name],
                        |r| Ok((r.get(0)?, r.get(1)?)),
                    )
                    .optional()?;
                if before.as_ref() == Some(&(config.clone(), manifest.clone())) {
                    return Ok(());
                }
                tx.execute("DELETE FROM images WHERE name = ?1", [name])?;
                tx.execute(
                    "DELETE FROM images WHERE name IS NULL AND config = ?1",
                    [&config],
                )?;
                tx.execute(insert, (Some(name), &config, &manifest, now, self.boot()))?;
                if let Some((old, old_manifest)) = before
                    && old != config
                {
                    keep_nameless(tx, &old, old_manifest.as_deref(), now, self.boot())?;
                }
                return Ok(());
            }
            tx.execute(
                "UPDATE images SET manifest = ?2
                 WHERE name IS NULL AND config = ?1 AND manifest IS NOT ?2",
                (&config, &manifest),
            )?;
            keep_nameless(tx, &config, manifest.as_deref(), now, self.boot())
        })
    }

    /// All images, the newest first.
    ///
    /// # Errors
    /// The database refused.
    pub fn images(&self) -> Result<Vec<ImageRow>> {
        let db = self.db();
        let mut query = db.prepare(
            "SELECT name, config, manifest, created FROM images ORDER BY created DESC, name",
        )?;
        let rows = query.query_map([], to_row)?;
        db::readable(rows)
    }

    /// The names of images in the store at `root`. Nothing is made there or waited for, and the store is
    /// not opened: this is for hints.
    ///
    /// # Errors
    /// There is no store, or its database cannot be read at once.
    pub fn image_names(root: &Path) -> Result<Vec<Reference>> {
        let db = db::open_to_look(&root.join(db::FILE))?;
        let sql = "SELECT name FROM images WHERE name IS NOT NULL";
        let mut query = db.prepare(sql)?;
        let rows = query.query_map([], to_name)?;
        db::readable(rows)
    }

    /// The ids of cache mounts in the store at `root`, likewise for hints.
    ///
    /// # Errors
    /// There is no store, or its database cannot be read at once.
    pub fn mount_ids(root: &Path) -> Result<Vec<String>> {
        let db = db::open_to_look(&root.join(db::FILE))?;
        let mut query = db.prepare("SELECT DISTINCT id FROM mounts")?;
        let rows = query.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The image that `text` means, which somebody has written: a name, or the start of an id.
    ///
    /// # Errors
    /// There is none, or an id is ambiguous.
    pub fn find_image(&self, text: &str) -> Result<StoredImage> {
        let meant = Reference::parse(text).ok();
        self.image_of(text, meant.as_ref())?
            .ok_or_else(|| Error::NoImage {
                name: text.to_owned(),
                near: meant.and_then(|name| Some(self.name_near(&name)?.familiar())),
            })
    }

    /// A name in the store that is nearly this one.
    pub fn name_near(&self, name: &Reference) -> Option<Reference> {
        // A store that cannot be read has no advice to give.
        let rows = self.images().unwrap_or_default();
        let names: Vec<Reference> = rows.into_iter().filter_map(|row| row.name).collect();
        nearest(name, &names).cloned()
    }

    /// The image with this id, if its config is in the store.
    ///
    /// # Errors
    /// The database refused.
    pub fn image(&self, id: &Digest) -> Result<Option<StoredImage>> {
        let row = self.row_of_id(id)?;
        self.with_config(row)
    }

    /// The image of this name, if its config is in the store. One of a name with a digest has that
    /// digest, whatever its row says.
    ///
    /// # Errors
    /// The database refused.
    pub fn image_named(&self, name: &Reference) -> Result<Option<StoredImage>> {
        let row = self.row_named(name)?;
        self.with_config(row)
    }

    /// The image that `text` means, which somebody has written, if there is one whose config is in the
    /// store.
    ///
    /// # Errors
    /// An id is ambiguous, or the database refused.
    pub fn try_image(&self, text: &str) -> Result<Option<StoredImage>> {
        self.image_of(text, Reference::parse(text).ok().as_ref())
    }

    fn image_of(&self, text: &str, meant: Option<&Reference>) -> Result<Option<StoredImage>> {
        // Nobody gives an image a name that poses as the id of another.
        let mut row = match is_id(text) {
            true => self.image_by_id(text)?,
            false => None,
        };
        if row.is_none()
            && let Some(reference) = meant
        {
            row = self.row_named(reference)?;
        }
        if row.is_none() {
            row = self.image_by_id(text)?;
        }
        let image = self.with_config(row)?;
        Ok(image.map(|image| StoredImage {
            asked: meant.cloned(),
            ..image
        }))
    }

    fn row_named(&self, name: &Reference) -> Result<Option<ImageRow>> {
        let row = self.image_row(&name.to_string())?;
        let Some(digest) = name.digest() else {
            return Ok(row);
        };
        // A name proves nothing: what is in the store under a digest must have it.
        match row {
            Some(found) if is_of_digest(self, &found, digest)? => Ok(Some(found)),
            _ => self.image_by_manifest(name, digest),
        }
    }

    fn with_config(&self, row: Option<ImageRow>) -> Result<Option<StoredImage>> {
        let Some(row) = row else { return Ok(None) };
        match self.read_blob(&row.config) {
            Ok(raw_config) => {
                let config = ImageConfig::parse(&raw_config)
                    .map_err(|_| Error::Damaged(format!("config of {}", row.config)))?;
                Ok(Some(StoredImage {
                    row,
                    config,
                    raw_config,
                    asked: None,
                }))
            }
            // Without its config an image is as good as gone.
            Err(Error::BlobMissing(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn image_row(&self, name: &str) -> Result<Option<ImageRow>> {
        let db = self.db();
        let mut query = db
            .prepare_cached("SELECT name, config, manifest, created FROM images WHERE name = ?1")?;
        Ok(query.query_row([name], to_row).optional()?.flatten())
    }

    /// The image that was pulled from this repository by, or with, this digest.
    fn image_by_manifest(&self, from: &Reference, digest: &Digest) -> Result<Option<ImageRow>> {
        let db = self.db();
        let mut query = db.prepare(
            "SELECT name, config, manifest, created FROM images WHERE manifest = ?1 ORDER BY name",
        )?;
        let rows = query.query_map([digest.to_string()], to_row)?;
        let is_from = |row: &ImageRow| {
            let name = row.name.as_ref();
            name.is_some_and(|n| n.name() == from.name())
        };
        let rows: Vec<ImageRow> = db::readable(rows)?;
        drop(query);
        drop(db);
        for row in rows.into_iter().filter(is_from) {
            if is_of_digest(self, &row, digest)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    fn image_by_id(&self, text: &str) -> Result<Option<ImageRow>> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = hex
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hex.len() < 4 || hex.len() > 64 || !is_hex {
            return Ok(None);
        }
        let db = self.db();
        let mut query = db.prepare_cached(
            "SELECT DISTINCT config FROM images WHERE config >= ?1 AND config < ?2 LIMIT 2",
        )?;
        // No digit comes after `f`.
        let range = [format!("sha256:{hex}"), format!("sha256:{hex}g")];
        let ids = query.query_map(range, |r| r.get(0))?;
        let ids: Vec<String> = ids.collect::<rusqlite::Result<_>>()?;
        drop(query);
        drop(db);
        match ids.as_slice() {
            [] => Ok(None),
            // A row of another form is as good as gone.
            [id] => id.parse().map_or(Ok(None), |id| self.row_of_id(&id)),
            _ => Err(Error::Ambiguous(text.to_owned())),
        }
    }

    fn row_of_id(&self, id: &Digest) -> Result<Option<ImageRow>> {
        let db = self.db();
        let mut query = db.prepare_cached(
            "SELECT name, config, manifest, created FROM images WHERE config = ?1
             ORDER BY name IS NULL, name LIMIT 1",
        )?;
        Ok(query.query_row([id.as_str()], to_row).optional()?.flatten())
    }

    /// The config of each of these images, once for all its names; that of an image whose config is gone is
    /// not among them.
    ///
    /// # Errors
    /// A config cannot be read.
    pub fn configs_of(&self, rows: &[ImageRow]) -> Result<HashMap<Digest, ImageConfig>> {
        let ids: BTreeSet<&Digest> = rows.iter().map(|row| &row.config).collect();
        let mut configs = HashMap::new();
        for id in ids {
            let raw = match self.read_blob(id) {
                Ok(raw) => raw,
                // Without its config an image is as good as gone.
                Err(Error::BlobMissing(_)) => continue,
                Err(e) => return Err(e),
            };
            let config =
                ImageConfig::parse(&raw).map_err(|_| Error::Damaged(format!("config of {id}")))?;
            configs.insert(id.clone(), config);
        }
        Ok(configs)
    }

    /// All names of an image.
    ///
    /// # Errors
    /// The database refused.
    pub fn names_of(&self, config: &Digest) -> Result<Vec<Reference>> {
        let db = self.db();
        let mut query = db.prepare(
            "SELECT name FROM images WHERE config = ?1 AND name IS NOT NULL ORDER BY name",
        )?;
        let rows = query.query_map([config.to_string()], to_name)?;
        db::readable(rows)
    }

    /// Removes a name, and the image with it if that was its last. Returns whether it was.
    ///
    /// # Errors
    /// The database refused.
    pub fn remove_name(&self, name: &Reference, config: &Digest) -> Result<bool> {
        // It may have gone to another image since it was looked up.
        self.remove_rows("name = ?1 AND config = ?2", &name.to_string(), config)
    }

    /// Deletes these rows, and the config of an image that is left without any; whoever is about to give
    /// it a name has a lease on the config, which then stays until it is collected.
    fn remove_rows(&self, which: &str, value: &str, config: &Digest) -> Result<bool> {
        self.leases().behind_gate_of_others(|leased| {
            let (last, has_config_gone) = self.write(|tx| {
                let sql = format!("DELETE FROM images WHERE {which}");
                tx.execute(&sql, [value, config.as_str()])?;
                let sql = "SELECT NOT EXISTS (SELECT 1 FROM images WHERE config = ?1)";
                let last: bool = tx.query_row(sql, [config.as_str()], |r| r.get(0))?;
                let goes = last && !leased(config.as_str())?;
                if goes {
                    forget_blob(tx, config)?;
                }
                Ok((last, goes))
            })?;
            if has_config_gone {
                self.unlink_blob(config)?;
            }
            Ok(last)
        })
    }

    /// Removes these rows, but those of images that a process uses, and images that are left without
    /// any.
    ///
    /// # Errors
    /// The database refused, or a config cannot be removed.
    pub fn remove_unused_images(&self, rows: &[ImageRow]) -> Result<RemovedImages> {
        self.leases().behind_gate(|leased| {
            let removed = self.write(|tx| {
                let mut removed = RemovedImages::default();
                for row in rows {
                    let id = row.config.to_string();
                    if leased(&id)? {
                        continue;
                    }
                    let sql = "DELETE FROM images WHERE name IS ?1 AND config = ?2";
                    // Another process may have been faster.
                    let name = row.name.as_ref().map(ToString::to_string);
                    if tx.execute(sql, (name, &id))? == 0 {
                        continue;
                    }
                    removed.rows.push(row.clone());
                    let sql = "SELECT EXISTS (SELECT 1 FROM images WHERE config = ?1)";
                    let is_left: bool = tx.query_row(sql, [&id], |r| r.get(0))?;
                    if !is_left {
                        let sql = "SELECT size FROM contents WHERE digest = ?1";
                        let size: Option<i64> =
                            tx.query_row(sql, [&id], |r| r.get(0)).optional()?;
                        removed.bytes += size.unwrap_or(0).max(0).cast_unsigned();
                        // Before another process can give the image a name again.
                        forget_blob(tx, &row.config)?;
                        removed.ids.push(row.config.clone());
                    }
                }
                Ok(removed)
            })?;
            for id in &removed.ids {
                self.unlink_blob(id)?;
            }
            Ok(removed)
        })
    }

    /// Removes an image with all its names.
    ///
    /// # Errors
    /// The database refused, or the config cannot be removed.
    pub fn remove_image(&self, config: &Digest) -> Result<()> {
        self.remove_rows("?1 = ?2 AND config = ?2", config.as_str(), config)?;
        Ok(())
    }
}

/// Characters of an id that are printed, and mean that image before one of that name.
const SHORT_ID: usize = 12;

/// Whether a text has the form of an id as it is printed.
fn is_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:");
    let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match hex {
        Some(hex) => is_hex(hex),
        None => text.len() >= SHORT_ID && is_hex(text),
    }
}

fn keep_nameless(
    tx: &rusqlite::Transaction<'_>,
    config: &str,
    manifest: Option<&str>,
    now: i64,
    boot: &str,
) -> Result<()> {
    let known: bool = tx.query_row(
        "SELECT EXISTS (SELECT 1 FROM images WHERE config = ?1)",
        [config],
        |r| r.get(0),
    )?;
    if !known {
        tx.execute(
            "INSERT INTO images (name, config, manifest, created, boot) VALUES (NULL, ?1, ?2, ?3, ?4)",
            (config, manifest, now, boot),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
