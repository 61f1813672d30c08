//! What the next build with the steps of this one will look up, kept in bundles.
//!
//! Steps are grouped by their definitions alone, which are known before anything is looked up. Where a group ends is
//! up to the definition of its last step, so a change of a Dockerfile changes the group that it is in and those of
//! the steps after it, and no other.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use futures_util::{StreamExt as _, stream};
use kiln_solver::key::{Identity, Key};

use super::RemoteCaches;
use crate::limits::MAX_QUESTIONS;

/// A group has about so many steps.
const USUAL_GROUP: u8 = 8;
/// The most steps of a group.
const MAX_GROUP: usize = 16;
/// The most groups of a build. The records of steps beyond are asked for one by one.
const MAX_GROUPS: usize = 256;

/// The groups of steps of a build, and what was found of them.
#[derive(Debug, Default)]
pub(super) struct StepBundles {
    groups: OnceLock<Vec<Vec<Key>>>,
    found: Mutex<FoundSteps>,
}

#[derive(Debug, Default)]
struct FoundSteps {
    /// By definition.
    results: HashMap<Key, Key>,
    /// Definitions of the steps by the identities of their results.
    made_by: HashMap<String, Key>,
    /// What steps read of results: identity and selection.
    fingerprints: Vec<(String, String)>,
}

/// What belongs into the bundle of a group.
#[derive(Debug, Default, PartialEq, Eq)]
struct Contents {
    results: Vec<Key>,
    fingerprints: Vec<(String, String)>,
}

fn groups_of(definitions: &[Key]) -> Vec<Vec<Key>> {
    let mut groups = vec![Vec::new()];
    for definition in definitions {
        if let Some(group) = groups.last_mut() {
            group.push(*definition);
            if group.len() >= MAX_GROUP || definition.0[0].is_multiple_of(USUAL_GROUP) {
                groups.push(Vec::new());
            }
        }
    }
    groups.retain(|group| !group.is_empty());
    groups.truncate(MAX_GROUPS);
    groups
}

impl StepBundles {
    fn with(&self, work: impl FnOnce(&mut FoundSteps)) {
        work(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Each group with what was found of it. A fingerprint goes with the step whose result it is of; that of
    /// an image, which no step made, goes with the last.
    fn contents(&self) -> Vec<(Vec<Key>, Contents)> {
        let groups = self.groups.get().into_iter().flatten();
        let mut all: Vec<_> = groups.map(|g| (g.clone(), Contents::default())).collect();
        self.with(|found| {
            for (group, contents) in &mut all {
                let results = group.iter().filter_map(|d| found.results.get(d));
                contents.results.extend(results);
            }
            for (identity, selection) in &found.fingerprints {
                let maker = found.made_by.get(identity);
                let place = maker.and_then(|d| all.iter().position(|(g, _)| g.contains(d)));
                let place = place.unwrap_or(all.len().saturating_sub(1));
                if let Some((_, contents)) = all.get_mut(place) {
                    let fingerprint = (identity.clone(), selection.clone());
                    if !contents.fingerprints.contains(&fingerprint) {
                        contents.fingerprints.push(fingerprint);
                    }
                }
            }
        });
        all
    }
}

impl RemoteCaches {
    /// Tells the definitions of the steps that are about to be looked up, in the order of the plan.
    pub fn expect(&self, definitions: &[Key]) {
        let bundles = &self.0.bundles;
        let groups = bundles.groups.get_or_init(|| groups_of(definitions));
        let to = self.0.to.iter().map(|target| &target.remote);
        for remote in self.0.from.iter().chain(to) {
            remote.expect(groups);
        }
    }

    /// Notes the key that a step has, and the identity of its result.
    pub fn note_result(&self, definition: Key, key: Key, identity: Identity) {
        self.0.bundles.with(|found| {
            found.results.insert(definition, key);
            found.made_by.insert(identity.to_hex(), definition);
        });
    }

    /// Notes what a step reads of a result.
    pub(super) fn note_fingerprint(&self, identity: &str, selection: &str) {
        self.0.bundles.with(|found| {
            let fingerprint = (identity.to_owned(), selection.to_owned());
            found.fingerprints.push(fingerprint);
        });
    }

    /// Writes the bundles in which something is new.
    pub(super) async fn put_bundles(&self) {
        if self.0.to.is_empty() {
            return;
        }
        let targets = self.0.to.iter().filter(|target| target.remote.is_usable());
        let puts = targets.flat_map(|target| {
            let contents = self.0.bundles.contents().into_iter();
            contents.map(|(group, contents)| (target.remote.clone(), group, contents))
        });
        let puts = puts.map(|(remote, group, contents)| async move {
            let (results, fingerprints) = (&contents.results, &contents.fingerprints);
            // Without it the next build asks for each record.
            if let Err(error) = remote.put_bundle(&group, results, fingerprints).await {
                self.warn(&remote, &error);
            }
        });
        let puts = stream::iter(puts).buffer_unordered(MAX_QUESTIONS);
        puts.for_each(std::future::ready).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definitions(from: u32, to: u32) -> Vec<Key> {
        let key = |n: u32| Key::from(blake3::hash(&n.to_le_bytes()));
        (from..to).map(key).collect()
    }

    #[test]
    fn a_change_of_steps_leaves_the_other_groups_as_they_are() {
        let before = groups_of(&definitions(0, 200));
        assert!(before.iter().all(|g| (1..=MAX_GROUP).contains(&g.len())));
        assert_eq!(before.concat(), definitions(0, 200));
        assert!((20..60).contains(&before.len()), "{}", before.len());
        // A step more, as in another stage before.
        let more = [definitions(1000, 1001), definitions(0, 200)].concat();
        let after = groups_of(&more);
        let kept = after.iter().filter(|g| before.contains(g)).count();
        assert!(kept + 3 >= before.len(), "{kept} of {}", before.len());
    }

    #[test]
    fn groups_have_a_bound() {
        let many = groups_of(&definitions(0, 10_000));
        assert_eq!(many.len(), MAX_GROUPS);
        let same: Vec<Key> = vec![Key([1; 32]); 40];
        let sizes: Vec<usize> = groups_of(&same).iter().map(Vec::len).collect();
        assert_eq!(sizes, [16, 16, 8]);
        assert!(groups_of(&[]).is_empty());
    }

    #[test]
    fn fingerprints_go_with_the_result_that_they_are_of() {
        let bundles = StepBundles::default();
        let steps = definitions(0, 40);
        let groups = bundles.groups.get_or_init(|| groups_of(&steps));
        let (first, last) = (groups[0].clone(), groups.len() - 1);
        let text = |of: &str| (of.to_owned(), "path".to_owned());
        bundles.with(|found| {
            found.results.insert(first[0], Key([7; 32]));
            found.made_by.insert("made".into(), first[0]);
            found.fingerprints = vec![text("made"), text("of an image"), text("made")];
        });
        let contents = bundles.contents();
        let of_first = Contents {
            results: vec![Key([7; 32])],
            fingerprints: vec![text("made")],
        };
        assert_eq!(contents[0], (first, of_first));
        assert_eq!(contents[last].1.fingerprints, [text("of an image")]);
    }
}
