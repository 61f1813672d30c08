//! The nearest known name to a misspelt one.

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
    candidates
        .iter()
        .filter(|candidate| candidate.len().abs_diff(length) <= FARTHEST)
        .map(|candidate| (distance(name, candidate), *candidate))
        .filter(|(d, candidate)| *d <= FARTHEST && *d < candidate.len().min(length).max(2))
        .min_by_key(|(d, _)| *d)
        .map(|(_, candidate)| candidate)
}

/// The advice that goes with [`nearest`].
pub(crate) fn did_you_mean(prefix: &str, name: &str, candidates: &[&str]) -> Option<String> {
    nearest(name, candidates).map(|found| format!("did you mean `{prefix}{found}`?"))
}

/// Levenshtein distance in characters, without regard to ASCII case, where a swap of neighbours
/// counts once.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().map(|c| c.to_ascii_lowercase()).collect();
    let b: Vec<char> = b.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (previous[j] + usize::from(x != y))
                .min(previous[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distances() {
        for (a, b, want) in [
            ("", "", 0),
            ("run", "run", 0),
            ("rnu", "run", 1),
            ("copi", "copy", 1),
            ("", "abc", 3),
        ] {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["FROM", "RUN", "COPY", "ENTRYPOINT", "ENV"];
        for (name, want) in [
            ("FORM", Some("FROM")),
            ("rum", Some("RUN")),
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
