//! Checking the store: everything that it says it has is there and is what it should be.
//!
//! Blobs are hashed. A layer that was made here is packed again, which must give its diff id and its
//! tree digest. A layer of an image is unpacked again from its blob and compared; without the blob
//! there is nothing to compare with, unless it packs to its diff id.

mod images;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_image::compression::decoder;
use kiln_image::{Digest, ImageConfig};
use kiln_sys::RootDir;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use rusqlite::OptionalExtension as _;

use crate::backup;
use crate::error::{Error, Result};
use crate::layers::{Layer, tree_of_image_layer};
use crate::mounts::name_of;
use crate::pack::pack;
use crate::store::Maintenance;
use crate::unpack::{UnpackOptions, unpack};

pub use images::{Fate, HurtImage};

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The database itself.
    Database,
    /// A blob.
    Blob,
    /// A layer.
    Layer,
    /// A record of a step.
    Record,
    /// An image.
    Image,
    /// A cache mount.
    Mount,
}

impl Part {
    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Blob => "blob",
            Self::Layer => "layer",
            Self::Record => "record",
            Self::Image => "image",
            Self::Mount => "mount",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What it is about.
    pub part: Part,
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, by part and name.
    pub findings: Vec<Finding>,
    /// Things that were checked.
    pub checked: usize,
    /// Layers of images of which nothing is left to compare them with.
    pub unknown: Vec<String>,
    /// Images that have lost something, or do so by the repair.
    pub images: Vec<HurtImage>,
}

/// One thing to check.
enum Check {
    Blob(String, i64),
    Layer(Box<Layer>),
}

/// What became of it.
enum Outcome {
    Fine,
    Unknown,
    Wrong(String),
}

impl Maintenance<'_> {
    /// Checks everything, on all cores. `progress` is told how many things of how many are done.
    /// With `repair`, what is wrong is taken out of the store, so that it is missing: it is then
    /// fetched or made again.
    ///
    /// # Errors
    /// The database refused, or a folder cannot be listed. What is wrong with things is no error.
    pub fn check(&self, repair: bool, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Report> {
        let mut report = Report::default();
        let problem = backup::problem_of(&self.db())?;
        if let Some(problem) = problem {
            report.findings.push(Finding {
                part: Part::Database,
                name: "meta-v1.db".into(),
                problem,
            });
            if repair {
                self.replace_database()?;
            } else {
                // Nothing that it says can be relied on.
                return Ok(report);
            }
        }
        let checks = self.checks(&mut report)?;
        let (done, all) = (AtomicUsize::new(0), checks.len());
        let found = Mutex::new(&mut report);
        checks.par_iter().try_for_each(|check| -> Result<()> {
            let (part, name, outcome) = match check {
                Check::Blob(digest, size) => {
                    (Part::Blob, digest.clone(), self.check_blob(digest, *size)?)
                }
                Check::Layer(layer) => (
                    Part::Layer,
                    layer.id.as_str().to_owned(),
                    self.check_layer(layer)?,
                ),
            };
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, all);
            let Ok(mut report) = found.lock() else {
                return Ok(());
            };
            report.checked += 1;
            match outcome {
                Outcome::Fine => {}
                Outcome::Unknown => report.unknown.push(name),
                Outcome::Wrong(problem) => report.findings.push(Finding {
                    part,
                    name,
                    problem,
                }),
            }
            Ok(())
        })?;
        let hurt = images::Hurt::by(self, &report.findings)?;
        // Before anything is taken out, so that a repair finds no more than a check does.
        let mut rest = self.check_records()?;
        rest.extend(hurt.lost(self.check_images()?));
        report.images = hurt.finish(&rest);
        rest.extend(self.check_mounts()?);
        if repair {
            self.repair(&report.findings)?;
            self.repair(&rest)?;
            // What hung on it.
            self.repair(&self.check_records()?)?;
            self.repair(&self.check_images()?)?;
            self.discard_unknown_blobs()?;
            self.discard_unrecorded()?;
            self.cache_mounts().reconcile_mounts()?;
        }
        report.findings.extend(rest);
        report.findings.sort();
        report.unknown.sort();
        Ok(report)
    }

    /// What there is to read; rows that are damaged themselves are found here.
    fn checks(&self, report: &mut Report) -> Result<Vec<Check>> {
        let mut checks = Vec::new();
        let ids: Vec<String> = {
            let db = self.db();
            let mut query = db.prepare("SELECT digest, size FROM contents")?;
            let rows = query.query_map([], |row| Ok(Check::Blob(row.get(0)?, row.get(1)?)))?;
            for row in rows {
                checks.push(row?);
            }
            let mut query = db.prepare("SELECT id FROM layers")?;
            let rows = query.query_map([], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        for id in ids {
            if let Some(layer) = self.layer(&id)? {
                checks.push(Check::Layer(Box::new(layer)));
                continue;
            }
            report.checked += 1;
            // Its directory before its row: what was removed since the list was made is not wrong.
            let gone = !self.path("layers-v1").join(&id).join("diff").is_dir();
            if self.has_row("layers", "id", &id)? {
                report.findings.push(Finding {
                    part: Part::Layer,
                    name: id,
                    problem: if gone {
                        "its directory is gone".into()
                    } else {
                        "its row is damaged".into()
                    },
                });
            }
        }
        Ok(checks)
    }

    fn has_row(&self, table: &str, column: &str, name: &str) -> Result<bool> {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE {column} = ?1)");
        Ok(self.db().query_row(&sql, [name], |row| row.get(0))?)
    }

    fn check_blob(&self, digest: &str, size: i64) -> Result<Outcome> {
        let Ok(parsed) = digest.parse::<Digest>() else {
            return Ok(Outcome::Wrong("its name is not a digest".into()));
        };
        self.lease(digest)?;
        // From here on nobody removes it, but it may be stored anew.
        let (mut size, mut seen) = (size, false);
        loop {
            let problem = self.problem_of_blob(&parsed, size);
            let Some(problem) = problem else {
                return Ok(Outcome::Fine);
            };
            // Its row goes before its file, and one that is stored anew may have another size.
            let sql = "SELECT size FROM contents WHERE digest = ?1";
            let now: Option<i64> = {
                let db = self.db();
                db.query_row(sql, [digest], |row| row.get(0)).optional()?
            };
            match now {
                None => return Ok(Outcome::Fine),
                // The row was there before the file was looked at, and not only after.
                Some(now) if seen && now == size => return Ok(Outcome::Wrong(problem)),
                Some(now) => (size, seen) = (now, true),
            }
        }
    }

    fn problem_of_blob(&self, digest: &Digest, size: i64) -> Option<String> {
        let Ok(meta) = std::fs::metadata(self.blob_path(digest)) else {
            return Some("its file is gone".into());
        };
        if meta.len() != size.cast_unsigned() {
            return Some(format!("has {} bytes, and {size} were written", meta.len()));
        }
        match self.is_intact(digest) {
            Ok(true) => None,
            Ok(false) => Some("its content has another digest".into()),
            Err(e) => Some(e.to_string()),
        }
    }

    fn check_layer(&self, layer: &Layer) -> Result<Outcome> {
        let dir = self.layer_dir(&layer.id);
        let packed = match pack(&dir, layer.epoch, &mut std::io::sink()) {
            Ok(packed) => packed,
            Err(e) => return Ok(Outcome::Wrong(e.to_string())),
        };
        if layer.tree != tree_of_image_layer(&layer.diff_id) {
            let text = match (packed.diff_id == layer.diff_id, packed.tree == layer.tree) {
                (true, true) => return Ok(Outcome::Fine),
                (_, false) => "its files are not what was written",
                (false, true) => "the times of its files are not what was written",
            };
            return Ok(Outcome::Wrong(text.into()));
        }
        if packed.diff_id == layer.diff_id {
            return Ok(Outcome::Fine);
        }
        for blob in self.blobs_of(&layer.diff_id)? {
            match self.unpacked_tree(&blob.digest) {
                Ok(tree) if tree == packed.tree => return Ok(Outcome::Fine),
                Ok(_) => {
                    let text = "its files are not what its blob holds";
                    return Ok(Outcome::Wrong(text.into()));
                }
                Err(e) if e.is_no_space() => return Err(e),
                // A damaged blob has a finding of its own; one with links into layers below cannot
                // be unpacked alone.
                Err(_) => {}
            }
        }
        Ok(Outcome::Unknown)
    }

    /// The tree digest of what a blob unpacks to.
    fn unpacked_tree(&self, digest: &Digest) -> Result<kiln_solver::key::TreeDigest> {
        let scratch = self.scratch()?;
        let root = RootDir::open_trusted(scratch.path())?;
        root.mkdir(Path::new("diff"), 0o755)?;
        let root = root.sub_dir(Path::new("diff"))?;
        let file = std::fs::File::open(self.blob_path(digest));
        let file = file.map_err(|e| Error::io("open blob", e))?;
        let (_, plain) = decoder(Box::new(file)).map_err(|e| Error::io("read blob", e))?;
        let options = UnpackOptions {
            whiteouts: true,
            ..UnpackOptions::default()
        };
        unpack(plain, &root, &options)?;
        Ok(pack(&scratch.path().join("diff"), None, &mut std::io::sink())?.tree)
    }

    fn check_records(&self) -> Result<Vec<Finding>> {
        let db = self.db();
        let mut query = db.prepare(
            "SELECT r.key, u.inputs, l.id IS NULL FROM records r
             LEFT JOIN layers l ON l.id = r.layer LEFT JOIN runs u ON u.key = r.key",
        )?;
        let mut rows = query.query([])?;
        let mut findings = Vec::new();
        while let Some(row) = rows.next()? {
            let (key, inputs, alone): (String, Option<String>, bool) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let hex = key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit());
            // Records of older versions have no inputs.
            let readable =
                inputs.is_none_or(|text| serde_json::from_str::<serde_json::Value>(&text).is_ok());
            let problem = match (alone, hex, readable) {
                (false, true, true) => continue,
                (true, ..) => "its layer is gone",
                (_, false, _) => "its key is not a key",
                (.., false) => "its inputs cannot be read",
            };
            findings.push(Finding {
                part: Part::Record,
                name: key,
                problem: problem.into(),
            });
        }
        Ok(findings)
    }

    fn check_images(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let ids: BTreeSet<Digest> = self.images()?.into_iter().map(|row| row.config).collect();
        for id in ids {
            if let Some(problem) = self.problem_of_image(&id)? {
                findings.push(Finding {
                    part: Part::Image,
                    name: id.to_string(),
                    problem,
                });
            }
        }
        Ok(findings)
    }

    /// What is wrong with an image that is in the store. One that is removed meanwhile loses its rows
    /// before its parts, and one that is made anew gets them afterwards.
    fn problem_of_image(&self, id: &Digest) -> Result<Option<String>> {
        // What it consists of stays from here on.
        self.lease(id.as_str())?;
        loop {
            let rows = self.rows_of_image(id)?;
            if rows.is_empty() {
                return Ok(None);
            }
            let problem = self.part_lost_of(id)?;
            if problem.is_none() || self.rows_of_image(id)? == rows {
                return Ok(problem);
            }
        }
    }

    /// The rows of an image, by number and time.
    fn rows_of_image(&self, id: &Digest) -> Result<Vec<(i64, i64)>> {
        let db = self.db();
        let mut query =
            db.prepare_cached("SELECT rowid, created FROM images WHERE config = ?1 ORDER BY 1")?;
        let rows = query.query_map([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn part_lost_of(&self, digest: &Digest) -> Result<Option<String>> {
        let raw = match std::fs::read(self.blob_path(digest)) {
            Ok(raw) if self.has_row("contents", "digest", digest.as_str())? => raw,
            _ => return Ok(Some("its config is gone".into())),
        };
        if !digest.matches(&raw) {
            return Ok(Some("its config is damaged".into()));
        }
        let config = match ImageConfig::parse(&raw) {
            Ok(config) => config,
            Err(e) => return Ok(Some(format!("its config: {e}"))),
        };
        for diff_id in &config.rootfs.diff_ids {
            let there = self.layer_by_diff(diff_id)?.is_some()
                || !self.blobs_of(diff_id)?.is_empty()
                || !self.origins_of(diff_id)?.is_empty();
            if !there {
                return Ok(Some(format!("its layer {diff_id} is gone")));
            }
        }
        Ok(None)
    }

    fn check_mounts(&self) -> Result<Vec<Finding>> {
        let rows: Vec<(String, String, u32)> = {
            let db = self.db();
            let mut query = db.prepare("SELECT home, id, number FROM mounts")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        let mut findings = Vec::new();
        for (home, id, number) in rows {
            let dir = self.path("mounts-v1").join(&home);
            let is_wrong = || name_of(&dir, &home).is_none_or(|name| name != (id.clone(), number));
            if !is_wrong() {
                continue;
            }
            // While a step makes it, it is not there yet; and it may have been removed since.
            if let Some(_lock) = self.cache_mounts().lock_mount(&home, false)?
                && is_wrong()
                && self.has_row("mounts", "home", &home)?
            {
                findings.push(Finding {
                    part: Part::Mount,
                    name: home,
                    problem: format!("the directory of `{id}` is gone or is not its own"),
                });
            }
        }
        Ok(findings)
    }

    /// Takes what is wrong out of the store.
    fn repair(&self, findings: &[Finding]) -> Result<()> {
        for finding in findings {
            match finding.part {
                Part::Database => {}
                Part::Blob => match finding.name.parse::<Digest>() {
                    // Another process may have stored it anew.
                    Ok(digest) if self.has_intact_blob(&digest) => {}
                    Ok(digest) => self.remove_blob(&digest)?,
                    Err(_) => self.delete("contents", "digest", &finding.name)?,
                },
                Part::Layer => {
                    self.delete("records", "layer", &finding.name)?;
                    self.delete("layers", "id", &finding.name)?;
                    // A step that runs on it goes on; then nobody finds it any more.
                    let path = self.path("layers-v1").join(&finding.name);
                    self.leases()
                        .behind_gate_of_others(|leased| match leased(&finding.name)? {
                            true => Ok(()),
                            false => self.discard(&path),
                        })?;
                }
                Part::Record => self.delete("records", "key", &finding.name)?,
                Part::Image => self.remove_lost_image(&finding.name)?,
                Part::Mount => {
                    self.delete("mounts", "home", &finding.name)?;
                    self.discard(&self.path("mounts-v1").join(&finding.name))?;
                }
            }
        }
        Ok(())
    }

    fn has_intact_blob(&self, digest: &Digest) -> bool {
        self.has_blob(digest) && self.is_intact(digest).is_ok_and(|fine| fine)
    }

    /// Deletes the rows of an image that has lost something, but not those that somebody wrote who has
    /// brought it back.
    fn remove_lost_image(&self, id: &str) -> Result<()> {
        let Ok(digest) = id.parse::<Digest>() else {
            return self.delete("images", "config", id);
        };
        let rows = self.rows_of_image(&digest)?;
        if self.problem_of_image(&digest)?.is_none() {
            return Ok(());
        }
        self.write(|tx| {
            for (number, created) in &rows {
                tx.execute(
                    "DELETE FROM images WHERE rowid = ?1 AND created = ?2 AND config = ?3",
                    (number, created, id),
                )?;
            }
            Ok(())
        })
    }

    fn delete(&self, table: &str, column: &str, name: &str) -> Result<()> {
        self.write(|tx| {
            tx.execute(&format!("DELETE FROM {table} WHERE {column} = ?1"), [name])?;
            Ok(())
        })
    }
}
