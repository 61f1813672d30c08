//! Tables of patterns, and the matcher beside the definition of a match.

use proptest::prelude::*;

use super::{Fuel, Pattern, cut_prefix, cut_suffix, reverse};

fn prefix(pattern: &str, value: &str, longest: bool) -> String {
    cut_prefix(pattern, value, longest, &mut Fuel::default()).expect(pattern)
}

fn suffix(pattern: &str, value: &str, longest: bool) -> String {
    cut_suffix(pattern, value, longest, &mut Fuel::default()).expect(pattern)
}

fn replace(pattern: &str, value: &str, with: &str, all: bool) -> String {
    let pattern = Pattern::new(pattern).expect(pattern);
    let replaced = pattern.replace(value, with, all, &mut Fuel::default());
    replaced.expect("little work")
}

#[test]
fn every_ascii_character_is_literal() {
    for byte in 0u8..128 {
        let c = char::from(byte);
        if matches!(c, '*' | '?' | '\\') {
            continue;
        }
        let text = format!("a{c}b");
        assert_eq!(prefix(&text, &text, false), "", "{c:?}");
        assert_eq!(suffix(&text, "aéb", false), "aéb", "{c:?}");
    }
}

#[test]
fn shortest_and_longest() {
    let cases = [
        ("*/", "a/b/c", "b/c", "c"),
        ("*", "abc", "abc", ""),
        ("?", "äb", "b", "b"),
        ("*a*b", "xaxbab", "ab", ""),
        ("\\**", "*a", "a", ""),
        ("z", "abc", "abc", "abc"),
        ("*", "a\nb", "a\nb", "\nb"),
        ("*\n?", "a\nbc", "c", "c"),
        ("*\n*\n", "a\nb\nc", "c", "c"),
        ("*?b", "abab", "ab", ""),
    ];
    for (pattern, value, shortest, longest) in cases {
        assert_eq!(prefix(pattern, value, false), shortest, "{pattern}");
        assert_eq!(prefix(pattern, value, true), longest, "{pattern}");
    }
    for (pattern, value, shortest, longest) in [
        (".*", "a.tar.gz", "a.tar", "a"),
        ("/*", "a/b/c", "a/b", "a"),
        ("\\*?", "a*b*c", "a*b", "a*b"),
    ] {
        assert_eq!(suffix(pattern, value, false), shortest, "{pattern}");
        assert_eq!(suffix(pattern, value, true), longest, "{pattern}");
    }
}

#[test]
fn replacements() {
    for (pattern, value, first, all) in [
        ("", "äb", "-äb", "-ä-b-"),
        ("*", "abc", "-", "-"),
        ("*", "a\nb", "-\nb", "-\n-"),
        ("?", "a\nb", "-\nb", "-\n-"),
        ("a*b", "xaabbaby", "x-y", "x-y"),
        ("b\n?", "ab\ncb\nd", "a-b\nd", "a--"),
        ("*a", "ba\na\nb", "-\na\nb", "-\n-\nb"),
    ] {
        assert_eq!(replace(pattern, value, "-", false), first, "{pattern:?}");
        assert_eq!(replace(pattern, value, "-", true), all, "{pattern:?}");
    }
}

#[test]
fn malformed_and_reversed() {
    for pattern in ["\\", "\\x", "\\\\\\"] {
        assert!(Pattern::new(pattern).is_err(), "{pattern}");
    }
    for (pattern, want) in [("a\\*c", "c\\*a"), ("ab\\", "\\ba"), ("ä\\öü", "ü\\öä")] {
        assert_eq!(reverse(pattern), want);
    }
}

/// Whether all of `text` matches, by the meaning of each character.
fn is_match(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, rest) => rest.is_none(),
        (Some(('*', after)), rest) => {
            is_match(after, text)
                || rest.is_some_and(|(c, rest)| *c != '\n' && is_match(pattern, rest))
        }
        (Some((p, after)), Some((c, rest))) => {
            (p == c || (*p == '?' && *c != '\n')) && is_match(after, rest)
        }
        (Some(_), None) => false,
    }
}

proptest! {
    #[test]
    fn matches_are_those_of_the_definition(pattern in "[ab*?\n]{0,6}", value in "[ab\n]{0,9}") {
        let p: Vec<char> = pattern.chars().collect();
        let v: Vec<char> = value.chars().collect();
        let ends: Vec<usize> = (0..=v.len()).filter(|end| is_match(&p, &v[..*end])).collect();
        prop_assert_eq!(prefix(&pattern, &value, false), &value[ends.first().copied().unwrap_or(0)..]);
        prop_assert_eq!(prefix(&pattern, &value, true), &value[ends.last().copied().unwrap_or(0)..]);
        let starts: Vec<usize> = (0..=v.len()).filter(|start| is_match(&p, &v[*start..])).collect();
        let last = v.len();
        prop_assert_eq!(suffix(&pattern, &value, false), &value[..starts.last().copied().unwrap_or(last)]);
        prop_assert_eq!(suffix(&pattern, &value, true), &value[..starts.first().copied().unwrap_or(last)]);
        let found = (0..=v.len()).find_map(|start| {
            let ends = (start..=v.len()).rev();
            ends.into_iter().find(|end| is_match(&p, &v[start..*end])).map(|end| (start, end))
        });
        let want = match found {
            Some((start, end)) => format!("{}-{}", &value[..start], &value[end..]),
            None => value.clone(),
        };
        prop_assert_eq!(replace(&pattern, &value, "-", false), want);
    }
}
