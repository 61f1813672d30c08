//! Which known name somebody may have meant.

use strsim::osa_distance;

use super::Reference;

/// Longer names are not compared.
const MAX_LENGTH: usize = 200;
/// What another tag of the same repository counts.
const OTHER_TAG: usize = 2;

/// The known name that is nearest to one that is not known, if any is near: a few letters differ,
/// or it is another tag of the same repository.
pub fn nearest<'a>(
    name: &Reference,
    known: impl IntoIterator<Item = &'a Reference>,
) -> Option<&'a Reference> {
    let text = name.familiar();
    // Of a short name nearly all would have to be another.
    let most = (name.familiar_name().len() / 4).clamp(1, 3);
    let rank = |other: &'a Reference| {
        let shown = other.familiar();
        if shown == text || shown.len() > MAX_LENGTH || text.len() > MAX_LENGTH {
            return None;
        }
        let is_tag = other.name() == name.name();
        // Names whose lengths differ by more are not looked at letter by letter.
        let is_near = shown.len().abs_diff(text.len()) <= most;
        let letters = is_near.then(|| osa_distance(&text, &shown));
        let letters = letters.filter(|letters| *letters <= most);
        let rank = match (letters, is_tag) {
            (Some(letters), true) => letters.min(OTHER_TAG),
            (None, true) => OTHER_TAG,
            (Some(letters), false) => letters,
            (None, false) => return None,
        };
        Some((rank, shown, other))
    };
    let pinned = |other: &&Reference| other.digest().is_none();
    let found = known.into_iter().filter(pinned).filter_map(rank);
    found
        .min_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)))
        .map(|f| f.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_be_meant() {
        let known = [
            "debian:bookworm",
            "team/web:1.0",
            "team/web:1.1",
            "localhost:5000/tool",
            "a",
        ];
        let known: Vec<Reference> = known.iter().map(|n| n.parse().unwrap()).collect();
        for (name, meant) in [
            ("debain:bookworm", Some("debian:bookworm")),
            ("debian:bookwrom", Some("debian:bookworm")),
            ("debian", Some("debian:bookworm")),
            ("team/web:1.2", Some("team/web:1.0")),
            ("team/wbe:1.1", Some("team/web:1.1")),
            ("localhost:5000/tools", Some("localhost:5000/tool:latest")),
            ("ubuntu:bookworm", None),
            ("b", Some("a:latest")),
            ("xyz", None),
            ("debian:bookworm", None),
        ] {
            let found = nearest(&name.parse().unwrap(), &known).map(Reference::familiar);
            assert_eq!(found.as_deref(), meant, "{name}");
        }
    }
}
