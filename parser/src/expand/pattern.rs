//! Patterns of `${x#p}`, `${x%p}` and `${x/p/r}`: `*`, `?` and literal characters.

use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};

/// A compiled pattern.
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern; `longest` says how much its `*` take.
    pub(super) fn new(pattern: &str, longest: bool, anchored: bool) -> Result<Self, String> {
        let mut regex = String::with_capacity(pattern.len() + 8);
        if anchored {
            regex.push('^');
        }
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            let literal = match c {
                '*' => {
                    regex.push_str(if longest { ".*" } else { ".*?" });
                    continue;
                }
                '?' => {
                    regex.push('.');
                    continue;
                }
                // `}` and `/` had to be escaped to get here; the escape is no part of the pattern.
                '\\' if matches!(chars.peek(), Some('}' | '/')) => continue,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\')) => c,
                    Some(c) => return Err(format!("the escape \\{c} has no meaning")),
                    None => return Err("it ends in an escape".to_owned()),
                },
                c => c,
            };
            push_literal(&mut regex, literal);
        }
        Regex::new(&regex)
            .map(Self)
            .map_err(|_| "it is too large".to_owned())
    }

    /// Replaces the first match, or all. As in BuildKit, `$0` in what replaces all stands for the
    /// match, and any other reference for nothing.
    pub(super) fn replace(&self, value: &str, with: &str, all: bool) -> String {
        let mut out = String::with_capacity(value.len());
        let mut end = 0;
        for found in self
            .0
            .find_iter(value)
            .take(if all { usize::MAX } else { 1 })
        {
            out.push_str(value.get(end..found.start()).unwrap_or(""));
            if all {
                push_template(&mut out, with, value.get(found.range()).unwrap_or(""));
            } else {
                out.push_str(with);
            }
            end = found.end();
        }
        out.push_str(value.get(end..).unwrap_or(""));
        out
    }

    fn prefix_len(&self, value: &str) -> usize {
        self.0
            .find(Input::new(value).anchored(Anchored::Yes))
            .map_or(0, |found| found.end())
    }
}

/// Adds `template` with its references: `$name`, `${name}`, and `$$` for a dollar.
fn push_template(out: &mut String, template: &str, found: &str) {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after.strip_prefix('{').and_then(|a| a.split_once('}'));
        let (name, behind) = match braced {
            Some(parts) => parts,
            None => after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len())),
        };
        if let Some(behind) = after.strip_prefix('$') {
            out.push('$');
            rest = behind;
        } else if name.is_empty() || !name.chars().all(is_name) {
            out.push('$');
            rest = after;
        } else {
            if name == "0" {
                out.push_str(found);
            }
            rest = behind;
        }
    }
    out.push_str(rest);
}

/// Adds a character that stands for itself.
fn push_literal(regex: &mut String, c: char) {
    if c.is_ascii_punctuation() && !matches!(c, '<' | '>') {
        regex.push('\\');
    }
    regex.push(c);
}

/// Removes the shortest or longest prefix that matches.
pub(super) fn cut_prefix(pattern: &str, value: &str, longest: bool) -> Result<String, String> {
    let end = Pattern::new(pattern, longest, true)?.prefix_len(value);
    Ok(value.get(end..).unwrap_or("").to_owned())
}

/// Removes the shortest or longest suffix that matches: a prefix of the reversed text.
pub(super) fn cut_suffix(pattern: &str, value: &str, longest: bool) -> Result<String, String> {
    let reversed: String = value.chars().rev().collect();
    let kept = cut_prefix(&reverse(pattern), &reversed, longest)?;
    Ok(kept.chars().rev().collect())
}

/// Reverses a pattern but leaves each escape before its character.
fn reverse(pattern: &str) -> String {
    let mut units = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next() } else { None };
        units.push((c, escaped));
    }
    units
        .into_iter()
        .rev()
        .flat_map(|(c, escaped)| std::iter::once(c).chain(escaped))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Pattern, cut_prefix, cut_suffix, reverse};

    #[test]
    fn every_ascii_character_is_literal() {
        for byte in 0u8..128 {
            let c = char::from(byte);
            if matches!(c, '*' | '?' | '\\') {
                continue;
            }
            let text = format!("a{c}b");
            assert_eq!(cut_prefix(&text, &text, false).as_deref(), Ok(""), "{c:?}");
            assert_eq!(
                cut_suffix(&text, "aéb", false).as_deref(),
                Ok("aéb"),
                "{c:?}"
            );
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
        ];
        for (pattern, value, shortest, longest) in cases {
            assert_eq!(
                cut_prefix(pattern, value, false).as_deref(),
                Ok(shortest),
                "{pattern}"
            );
            assert_eq!(
                cut_prefix(pattern, value, true).as_deref(),
                Ok(longest),
                "{pattern}"
            );
        }
        for (pattern, value, shortest, longest) in [
            (".*", "a.tar.gz", "a.tar", "a"),
            ("/*", "a/b/c", "a/b", "a"),
            ("\\*?", "a*b*c", "a*b", "a*b"),
        ] {
            assert_eq!(
                cut_suffix(pattern, value, false).as_deref(),
                Ok(shortest),
                "{pattern}"
            );
            assert_eq!(
                cut_suffix(pattern, value, true).as_deref(),
                Ok(longest),
                "{pattern}"
            );
        }
    }

    #[test]
    fn malformed_and_reversed() {
        for pattern in ["\\", "\\x", "\\\\\\"] {
            assert!(Pattern::new(pattern, true, true).is_err(), "{pattern}");
        }
        for (pattern, want) in [("a\\*c", "c\\*a"), ("ab\\", "\\ba"), ("ä\\öü", "ü\\öä")] {
            assert_eq!(reverse(pattern), want);
        }
    }
}
