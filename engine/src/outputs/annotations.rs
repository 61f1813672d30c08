//! Annotations, as they are given with `--annotation` and `--output`.

use std::collections::BTreeMap;

/// Annotations of a manifest, and of its entry in the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// Of the manifest.
    pub manifest: BTreeMap<String, String>,
    /// Of its entry in the index of an archive.
    pub entry: BTreeMap<String, String>,
}

impl Annotations {
    /// Adds one. `place` is `manifest`, `manifest-descriptor` and so on, with an optional platform
    /// in brackets.
    ///
    /// # Errors
    /// It has no name, or there is no such place.
    pub fn add(&mut self, place: &str, key: &str, value: &str) -> Result<(), String> {
        let place = place.split('[').next().unwrap_or_default();
        if key.is_empty() {
            return Err("it has no name".into());
        }
        match place {
            "" | "manifest" => self.manifest.insert(key.to_owned(), value.to_owned()),
            "manifest-descriptor" => self.entry.insert(key.to_owned(), value.to_owned()),
            "index" | "index-descriptor" => {
                return Err("an image for one platform has no index to annotate".into());
            }
            other => return Err(format!("`{other}` cannot be annotated")),
        };
        Ok(())
    }

    /// Adds one that is written `[PLACE:]NAME=VALUE`.
    ///
    /// # Errors
    /// It is written otherwise, has no name, or there is no such place.
    pub fn option(&mut self, text: &str) -> Result<(), String> {
        let (key, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
        // As buildx tells a place from a part of a name (util/buildflags/annotations.go): by its letters.
        let place = key.split_once(':').filter(|(place, _)| {
            let place = place.split('[').next().unwrap_or_default();
            !place.is_empty() && place.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        });
        match place {
            Some((place, key)) => self.add(place, key, value),
            None => self.add("", key, value),
        }
    }

    /// These and `more`, which count more.
    pub(super) fn with(&self, more: &Self) -> Self {
        let mut out = self.clone();
        out.manifest.extend(more.manifest.clone());
        out.entry.extend(more.entry.clone());
        out
    }
}
