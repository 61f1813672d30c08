//! Which image a manifest stands for: the one of an index that fits a platform, also where indexes
//! are in indexes and artifacts lie between the images.
//!
//! The search reads nothing itself: it says what it wants to read next, so that registries and
//! archives are searched alike.

use std::collections::BTreeSet;

use crate::descriptor::{Descriptor, media_type};
use crate::manifest::{ImageIndex, ImageManifest, Manifest, Parsed, shown_kind};
use crate::platform::Platform;

/// Indexes that may be inside each other. The deepest that are published have three.
pub const MAX_DEPTH: usize = 8;
/// Manifests and indexes that are read for one image.
pub const MAX_READ: usize = 64;
/// Bytes of indexes that are kept for one image.
const MAX_INDEXES: usize = 32 << 20;
/// Platforms that an error names.
const MAX_NAMED: usize = 12;

/// Why there is no image. The text goes on after the name of what was searched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// There are images, but none for this platform.
    #[error("has no image for {wanted}{}", others(.found))]
    NoPlatform {
        /// What was looked for.
        wanted: Box<Platform>,
        /// The platforms that there are images for.
        found: Vec<String>,
    },
    /// There is nothing but an artifact.
    #[error("is an artifact of type `{0}`, not an image")]
    Artifact(String),
    /// There is nothing at all.
    #[error("is an index without images")]
    Empty,
    /// More than [`MAX_DEPTH`].
    #[error("has more than {MAX_DEPTH} indexes inside each other")]
    TooDeep,
    /// More than [`MAX_READ`].
    #[error("has more indexes and manifests than kiln reads for one image")]
    TooMany,
}

fn others(found: &[String]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let more = if found.len() > MAX_NAMED { ", …" } else { "" };
    let named: Vec<&str> = found.iter().take(MAX_NAMED).map(String::as_str).collect();
    format!("; it has images for {}{more}", named.join(", "))
}

/// The image that was searched for.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its manifest.
    pub manifest: Parsed<ImageManifest>,
    /// The indexes that it was found through, the outermost first.
    pub through: Vec<Parsed<ImageIndex>>,
}

/// What a search does next.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "short-lived")]
pub enum Next {
    /// It wants this manifest or index, by [`Search::give`].
    Read(Descriptor),
    /// It is at its end.
    Found(Found),
}

/// An entry of an index that is not read yet.
#[derive(Debug, Clone)]
struct Candidate {
    /// How well its platform fits; `None` where it names none.
    rank: Option<u32>,
    /// Its position in each index above it.
    place: Vec<usize>,
    /// The indexes above it, by their position in [`Search::indexes`].
    through: Vec<usize>,
    descriptor: Descriptor,
}

/// A search for the image of one platform.
#[derive(Debug)]
pub struct Search {
    wanted: Platform,
    /// Indexes inside of indexes, to be read before anything is chosen.
    nested: Vec<Candidate>,
    images: Vec<Candidate>,
    indexes: Vec<Parsed<ImageIndex>>,
    index_bytes: usize,
    /// What was asked for last.
    asked: Option<Candidate>,
    found: Option<Found>,
    read: usize,
    platforms: BTreeSet<String>,
    artifact: Option<String>,
}

impl Search {
    /// Starts at what a name or an archive has.
    ///
    /// # Errors
    /// When that is an index that is too large.
    pub fn new(first: Manifest, wanted: &Platform) -> Result<Self, SearchError> {
        let mut search = Self {
            wanted: wanted.clone(),
            nested: Vec::new(),
            images: Vec::new(),
            indexes: Vec::new(),
            index_bytes: 0,
            asked: None,
            found: None,
            read: 0,
            platforms: BTreeSet::new(),
            artifact: None,
        };
        let start = Candidate {
            rank: None,
            place: Vec::new(),
            through: Vec::new(),
            descriptor: first.descriptor(),
        };
        search.take(first, start)?;
        Ok(search)
    }

    /// What is to be done.
    ///
    /// # Errors
    /// When there is no image for the platform, or too much to read.
    pub fn step(&mut self) -> Result<Next, SearchError> {
        if let Some(found) = self.found.take() {
            return Ok(Next::Found(found));
        }
        let Some(candidate) = self.best() else {
            return Err(self.nothing());
        };
        self.read += 1;
        if self.read > MAX_READ {
            return Err(SearchError::TooMany);
        }
        let descriptor = candidate.descriptor.clone();
        self.asked = Some(candidate);
        Ok(Next::Read(descriptor))
    }

    /// Takes what [`Next::Read`] asked for.
    ///
    /// # Errors
    /// When indexes are too deep inside each other, or too large.
    pub fn give(&mut self, manifest: Manifest) -> Result<(), SearchError> {
        match self.asked.take() {
            Some(asked) => self.take(manifest, asked),
            None => Ok(()),
        }
    }

    /// Goes on without what [`Next::Read`] asked for, where that may be done: an index inside of an
    /// index need not be there. Says whether it may.
    pub fn pass_over(&mut self) -> bool {
        let asked = self.asked.take();
        asked.is_some_and(|asked| media_type::is_index(&asked.descriptor.media_type))
    }

    /// The next entry to be read: all indexes, then the manifest that fits best. One that names no
    /// platform is only taken where it is the only one.
    fn best(&mut self) -> Option<Candidate> {
        if let Some(index) = self.nested.pop() {
            return Some(index);
        }
        let ranked = self.images.iter().enumerate();
        let best = ranked
            .filter_map(|(at, one)| Some((one.rank?, &one.place, at)))
            .min()
            .map(|(.., at)| at);
        match best {
            Some(at) => Some(self.images.swap_remove(at)),
            None if self.images.len() == 1 && self.platforms.is_empty() => self.images.pop(),
            None => None,
        }
    }

    fn take(&mut self, manifest: Manifest, asked: Candidate) -> Result<(), SearchError> {
        let through = &asked.through;
        match manifest {
            Manifest::Image(manifest) => {
                if let Some(kind) = manifest.value.artifact_kind() {
                    self.artifact.get_or_insert(kind);
                    return Ok(());
                }
                let indexes = through.iter().filter_map(|at| self.indexes.get(*at));
                self.found = Some(Found {
                    manifest,
                    through: indexes.cloned().collect(),
                });
            }
            Manifest::Index(index) => {
                if through.len() >= MAX_DEPTH {
                    return Err(SearchError::TooDeep);
                }
                self.index_bytes += index.raw.len();
                if self.index_bytes > MAX_INDEXES {
                    return Err(SearchError::TooMany);
                }
                let mut around = asked;
                around.through.push(self.indexes.len());
                self.entries(&index.value.manifests, &around);
                self.indexes.push(index);
            }
        }
        Ok(())
    }

    /// Takes in the entries of an index. They are for the index's platform if they name none.
    fn entries(&mut self, entries: &[Descriptor], around: &Candidate) {
        let mut nested = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            if entry.is_attestation() {
                continue;
            }
            let rank = match &entry.platform {
                None => around.rank,
                Some(platform) => match self.wanted.rank(platform) {
                    Some(rank) => Some(rank),
                    None => {
                        self.passed_over(entry, platform);
                        continue;
                    }
                },
            };
            let mut candidate = Candidate {
                rank,
                descriptor: entry.clone(),
                ..around.clone()
            };
            candidate.place.push(at);
            if media_type::is_manifest(&entry.media_type) {
                self.images.push(candidate);
            } else if media_type::is_index(&entry.media_type) {
                nested.push(candidate);
            } else {
                let kind = entry.artifact_type.as_ref().unwrap_or(&entry.media_type);
                self.artifact.get_or_insert_with(|| shown_kind(kind));
            }
        }
        // The last is read first.
        self.nested.extend(nested.into_iter().rev());
    }

    fn passed_over(&mut self, entry: &Descriptor, platform: &Platform) {
        let is_image = match &entry.artifact_type {
            Some(kind) => media_type::is_config(kind),
            None => true,
        };
        // Attestations without their annotation have this platform.
        if is_image && platform.os != "unknown" && self.platforms.len() <= MAX_NAMED {
            let mut text = platform.to_string();
            if !platform.os_features.is_empty() {
                text = format!("{text} with {}", platform.os_features.join(" and "));
            }
            self.platforms.insert(text.chars().take(100).collect());
        }
    }

    fn nothing(&mut self) -> SearchError {
        let found: Vec<String> = std::mem::take(&mut self.platforms).into_iter().collect();
        match self.artifact.take() {
            _ if !found.is_empty() || !self.images.is_empty() => SearchError::NoPlatform {
                wanted: Box::new(self.wanted.clone()),
                found,
            },
            Some(kind) => SearchError::Artifact(kind),
            None => SearchError::Empty,
        }
    }
}

#[cfg(test)]
mod tests;
