//! The nearest known name to a misspelt one.

use strsim::osa_distance;

/// Longer names are not compared: they are no typing error of any known one.
const LONGEST: usize = 32;

/// More edits than this make another word.
const FARTHEST: usize = 2;

/// The candidate with the smallest edit distance to `name`, if that is small enough to be a typing
/// error. Case does not count.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    if name.is_empty() || name.len() > LONGEST {
        return None;
    }
    let length = name.chars().count();
    let lower = name.to_ascii_lowercase();
    candidates
        .iter()
        .filter(|candidate| candidate.len().abs_diff(length) <= FARTHEST)
        // A swap of neighbours counts once.
        .map(|candidate| {
            (
                osa_distance(&lower, &candidate.to_ascii_lowercase()),
                *candidate,
            )
        })
        .filter(|(d, candidate)| *d <= FARTHEST && *d < candidate.len().min(length).max(2))
        .min_by_key(|(d, _)| *d)
        .map(|(_, candidate)| candidate)
}

/// The advice that goes with [`nearest`].
pub(crate) fn did_you_mean(prefix: &str, name: &str, candidates: &[&str]) -> Option<String> {
    nearest(name, candidates).map(|found| format!("did you mean `{prefix}{found}`?"))
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["FROM", "RUN", "COPY", "ENTRYPOINT", "ENV"];
        for (name, want) in [
            ("FORM", Some("FROM")),
            ("rum", Some("RUN")),
            ("rnu", Some("RUN")),
            ("copi", Some("COPY")),
            ("ENTRIPOINT", Some("ENTRYPOINT")),
            ("x", None),
            ("SOMETHING", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, &known), want, "{name}");
        }
        assert_eq!(nearest(&"A".repeat(1000), &known), None);
    }
}
