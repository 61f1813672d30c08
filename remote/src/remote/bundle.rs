//! Records of neighbouring steps in one object, so that a build asks once for what it will look up.
//!
//! A bundle holds copies of records under their names, each sealed as it is alone. Nothing is believed because
//! it is in a bundle: a copy counts where its name is asked for, and is checked as the record itself would be.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::trust::Sealed;

/// Version of the form. A bundle of another version is refused.
const VERSION: u32 = 1;
/// The most copies. What one build finds takes up to half of them; the rest is of builds before it, such as
/// those of another branch.
const MAX_COPIES: usize = 64;
/// The largest record that is copied, in bytes. A larger one is asked for alone.
pub(super) const MAX_COPY: usize = 64 << 10;
/// The most bytes of records, so that a manifest holds them.
const MAX_BYTES: usize = 512 << 10;
/// Hexadecimal digits of a name.
const NAME_LENGTH: usize = 64;

/// Copies of records by their names, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bundle(Vec<(String, Sealed)>);

#[derive(Serialize, Deserialize)]
struct BundleJson {
    version: u32,
    copies: Vec<(String, Sealed)>,
}

impl Bundle {
    /// The copy of a record.
    pub(super) fn get(&self, name: &str) -> Option<&Sealed> {
        let mut copies = self.0.iter();
        let found = copies.find(|(other, _)| other == name);
        found.map(|(_, copy)| copy)
    }

    /// This bundle with what a build has found, as far as there is room; none if all of that is in it.
    pub(super) fn renewed(&self, found: Vec<(String, Sealed)>) -> Option<Self> {
        let found = found
            .into_iter()
            .filter(|(_, copy)| copy.size() <= MAX_COPY);
        let found: Vec<(String, Sealed)> = found.collect();
        if found
            .iter()
            .all(|(name, copy)| self.get(name) == Some(copy))
        {
            return None;
        }
        let (mut names, mut bytes, mut copies) = (HashSet::new(), 0, Vec::new());
        for (name, copy) in found.iter().chain(&self.0) {
            let after = bytes + copy.size();
            if copies.len() < MAX_COPIES && after <= MAX_BYTES && names.insert(name) {
                bytes = after;
                copies.push((name.clone(), copy.clone()));
            }
        }
        let made = Self(copies);
        (made != *self).then_some(made)
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let wire = BundleJson {
            version: VERSION,
            copies: self.0.clone(),
        };
        serde_json::to_vec(&wire).map_err(|e| e.to_string())
    }

    /// Reads a bundle, and refuses one that kiln would not have written.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let wire: BundleJson = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if wire.version != VERSION {
            return Err(format!("it has version {}", wire.version));
        }
        let sizes = || wire.copies.iter().map(|(_, copy)| copy.size());
        if wire.copies.len() > MAX_COPIES
            || sizes().any(|size| size > MAX_COPY)
            || sizes().sum::<usize>() > MAX_BYTES
        {
            return Err("it is too large".into());
        }
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let is_name = |name: &str| name.len() == NAME_LENGTH && name.bytes().all(is_digit);
        if !wire.copies.iter().all(|(name, _)| is_name(name)) {
            return Err("the name of a record is malformed".into());
        }
        Ok(Self(wire.copies))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trust::Trust;

    fn copy(text: &str) -> Sealed {
        Trust::default().seal("", text.to_owned())
    }

    fn name(n: usize) -> String {
        format!("{n:064x}")
    }

    fn of(copies: &[(usize, &str)]) -> Bundle {
        let copies = copies.iter().map(|(n, text)| (name(*n), copy(text)));
        Bundle(copies.collect())
    }

    #[test]
    fn what_is_new_comes_first_and_what_is_known_writes_nothing() {
        let before = of(&[(1, "a"), (2, "b")]);
        let renewed = |found: &[(usize, &str)]| before.renewed(of(found).0);
        assert_eq!(renewed(&[]), None);
        assert_eq!(renewed(&[(2, "b")]), None);
        let with_new = of(&[(3, "c"), (1, "a"), (2, "b")]);
        assert_eq!(renewed(&[(3, "c")]), Some(with_new));
        // Another record under a name takes the place of the one before.
        assert_eq!(renewed(&[(2, "x")]), Some(of(&[(2, "x"), (1, "a")])));
        // What is too large is asked for alone.
        assert_eq!(renewed(&[(3, &"x".repeat(MAX_COPY + 1))]), None);
    }

    #[test]
    fn a_bundle_has_room_for_so_much() {
        let large = "x".repeat(MAX_COPY);
        let many: Vec<(usize, &str)> = (0..100).map(|n| (n, large.as_str())).collect();
        let bundle = Bundle::default().renewed(of(&many).0).unwrap();
        assert_eq!(bundle.0.len(), MAX_BYTES / MAX_COPY);
        let small: Vec<(usize, &str)> = (0..100).map(|n| (n, "x")).collect();
        let full = Bundle::default().renewed(of(&small).0).unwrap();
        assert_eq!(full.0.len(), MAX_COPIES);
        for bundle in [bundle, full] {
            let read = Bundle::from_bytes(&bundle.to_bytes().unwrap()).unwrap();
            assert_eq!(read, bundle);
        }
    }

    #[test]
    fn a_bundle_that_kiln_would_not_have_written_is_refused() {
        let wire = |version, copies: &[(String, Sealed)]| {
            let wire = BundleJson {
                version,
                copies: copies.to_vec(),
            };
            serde_json::to_vec(&wire).unwrap()
        };
        let many = vec![(name(0), copy("")); MAX_COPIES + 1];
        let large = [(name(0), copy(&"x".repeat(MAX_COPY + 1)))];
        let heavy = vec![(name(0), copy(&"x".repeat(MAX_COPY))); MAX_BYTES / MAX_COPY + 1];
        for (bytes, why) in [
            (wire(2, &[]), "version 2"),
            (wire(1, &many), "too large"),
            (wire(1, &large), "too large"),
            (wire(1, &heavy), "too large"),
            (wire(1, &[("../x".into(), copy(""))]), "malformed"),
            (
                wire(1, &[(name(0xa).to_uppercase(), copy(""))]),
                "malformed",
            ),
            (b"{".to_vec(), "EOF"),
            (b"{}".to_vec(), "missing"),
        ] {
            let error = Bundle::from_bytes(&bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(Bundle::from_bytes(&wire(1, &[])), Ok(Bundle::default()));
    }

    fn any_copies() -> impl Strategy<Value = Vec<(usize, String)>> {
        proptest::collection::vec((0..200_usize, ".{0,40}"), 0..100)
    }

    proptest! {
        /// Whatever bytes come, they are read or refused, and what is read has its bounds.
        #[test]
        fn any_bytes_are_read_or_refused(
            text in "[\\{\\}\\[\\]\":,a-z0-9 ]{0,200}",
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0..2000_usize,
            copies in any_copies(),
        ) {
            let copies = copies.into_iter().map(|(n, text)| (name(n), copy(&text)));
            let made = Bundle::default().renewed(copies.collect()).unwrap_or_default();
            let mut whole = made.to_bytes().unwrap();
            prop_assert_eq!(Bundle::from_bytes(&whole).unwrap(), made);
            if let Some(byte) = whole.get_mut(cut) {
                *byte ^= 4;
            }
            for bytes in [text.as_bytes(), &bytes, &whole[..cut.min(whole.len())], &whole] {
                if let Ok(read) = Bundle::from_bytes(bytes) {
                    prop_assert!(read.0.len() <= MAX_COPIES);
                }
            }
        }

        /// What a build finds is in the bundle that it writes, and then nothing is written again.
        #[test]
        fn a_renewed_bundle_has_what_was_found(before in any_copies(), found in any_copies()) {
            let copies = |all: Vec<(usize, String)>| {
                let mut names = HashSet::new();
                let all = all.into_iter().filter(|(n, _)| names.insert(*n)).take(MAX_COPIES);
                all.map(|(n, text)| (name(n), copy(&text))).collect::<Vec<_>>()
            };
            let found = copies(found);
            let before = Bundle::default().renewed(copies(before)).unwrap_or_default();
            let after = before.renewed(found.clone()).unwrap_or(before);
            for (name, copy) in &found {
                prop_assert_eq!(after.get(name), Some(copy));
            }
            prop_assert_eq!(after.renewed(found), None);
        }
    }
}
