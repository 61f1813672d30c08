//! Variables that are used and never set.

use kiln_parser::{Span, Text, nearest};

use super::{At, Findings, Location, Rule};

/// Arguments that steer how contents are listed; no command sees them.
const INVISIBLE: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Reports names that a word uses and that were unset when it was expanded. `declared` are those
/// that may be unset, `visible` those that have a value.
pub(crate) fn check<'a>(
    text: &Text,
    unset: &[&str],
    declared: impl Fn(&str) -> bool,
    visible: impl Fn() -> Vec<&'a str>,
    spot: Location,
    findings: &Findings,
) {
    for name in unset {
        if declared(name) || INVISIBLE.contains(name) {
            continue;
        }
        let near = match findings.is_full() {
            true => None,
            false => nearest(name, &visible()),
        };
        let advice = near.map_or_else(String::new, |near| format!("; did you mean `${near}`?"));
        let detail = format!("variable `${name}` is not set here{advice}");
        findings.report(Rule::UndefinedVar, spot.at(place_of(text, name)), detail);
    }
}

/// Where a word uses a variable, as closely as can be told.
pub(super) fn place_of(text: &Text, name: &str) -> Span {
    // Offsets in a text with continuation lines are not those of the source.
    if text.span.len() != text.value.len() {
        return text.span;
    }
    let ends = |end: usize| {
        let next = text.value.get(end..).and_then(|rest| rest.chars().next());
        next.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    };
    let find = |pattern: &str| {
        let mut found = text.value.match_indices(pattern);
        found.find(|(at, _)| ends(at + pattern.len()))
    };
    let plain = format!("${name}");
    let braced = format!("${{{name}");
    if let Some((at, _)) = find(&plain) {
        let start = text.span.start + at;
        return Span::new(start, start + plain.len());
    }
    if let Some((at, _)) = find(&braced) {
        let rest = text.value.get(at..).unwrap_or_default();
        let length = rest.find('}').map_or(braced.len(), |end| end + 1);
        let start = text.span.start + at;
        return Span::new(start, start + length);
    }
    text.span
}

/// Reports names in `FROM` that are neither declared nor given by kiln.
pub(super) fn check_from(
    text: &Text,
    unset: &[&str],
    declared: &[&str],
    about: Span,
    findings: &Findings,
) {
    for name in unset {
        if declared.contains(name) {
            continue;
        }
        let advice = match nearest(name, declared) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => String::new(),
        };
        let detail = format!("argument `{name}` is not declared before the first `FROM`{advice}");
        let caret = place_of(text, name);
        findings.report(Rule::UndefinedArgInFrom, At { about, caret }, detail);
    }
}

#[cfg(test)]
mod tests {
    use kiln_parser::{Span, Text};

    use super::place_of;

    #[test]
    fn variables_have_places() {
        for (word, name, want) in [
            ("$a", "a", "$a"),
            ("x$ab$a", "a", "$a"),
            ("x${a}y", "a", "${a}"),
            ("${ab}${a#x}", "a", "${a#x}"),
            ("é$a", "a", "$a"),
            ("nothing", "a", "nothing"),
        ] {
            let text = Text::new(word.to_owned(), Span::new(10, 10 + word.len()));
            let span = place_of(&text, name);
            assert_eq!(&word[span.start - 10..span.end - 10], want, "{word}");
        }
        // Joined from two lines.
        let text = Text::new("a$b".to_owned(), Span::new(0, 9));
        assert_eq!(place_of(&text, "b"), Span::new(0, 9));
    }
}
