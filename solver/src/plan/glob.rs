//! Shell patterns of paths, as Go's `filepath.Match`, with `**` for any number of directories.

/// Whether `text` has a character that means more than itself.
pub fn has_wildcard(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => {
                chars.next();
            }
            _ => {}
        }
    }
    false
}

/// A pattern split at its slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    segments: Vec<String>,
}

impl Glob {
    /// Splits `pattern`; empty and `.` segments are dropped, `..` goes up as far as the root.
    pub fn new(pattern: &str) -> Self {
        let mut segments = Vec::new();
        for part in pattern.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    segments.pop();
                }
                part => segments.push(part.to_owned()),
            }
        }
        Self { segments }
    }

    /// Whether every bracket and backslash of a pattern has an end.
    pub fn is_valid(pattern: &str) -> bool {
        pattern.split('/').all(|segment| {
            let chars: Vec<char> = segment.chars().collect();
            let mut rest = chars.as_slice();
            loop {
                rest = match rest.first() {
                    None => return true,
                    Some('[') => match class(rest, 'a') {
                        Some((_, rest)) => rest,
                        None => return false,
                    },
                    Some('\\') if rest.len() == 1 => return false,
                    Some('\\') => &rest[2..],
                    Some(_) => &rest[1..],
                };
            }
        })
    }

    /// The segments, from the root.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// Whether one name matches one segment. A malformed segment matches only itself.
    pub fn segment_matches(segment: &str, name: &str) -> bool {
        match_segment(
            &segment.chars().collect::<Vec<_>>(),
            &name.chars().collect::<Vec<_>>(),
        )
        .unwrap_or(segment == name)
    }
}

/// One `[...]` at the start of `pattern`: whether `c` is in it, and the rest. `None`: malformed.
fn class(pattern: &[char], c: char) -> Option<(bool, &[char])> {
    let mut rest = &pattern[1..];
    let negated = rest.first() == Some(&'^');
    if negated {
        rest = &rest[1..];
    }
    let mut found = false;
    let mut first = true;
    loop {
        if rest.first()? == &']' && !first {
            return Some((found != negated, &rest[1..]));
        }
        first = false;
        let low = literal(&mut rest)?;
        let mut high = low;
        if rest.first() == Some(&'-') {
            rest = &rest[1..];
            high = literal(&mut rest)?;
        }
        found |= (low..=high).contains(&c);
    }
}

fn literal(rest: &mut &[char]) -> Option<char> {
    let mut c = *rest.first()?;
    *rest = &rest[1..];
    if c == '\\' {
        c = *rest.first()?;
        *rest = &rest[1..];
    }
    Some(c)
}

/// Linear in both lengths for each star: the last star takes back one more character at a time.
fn match_segment(pattern: &[char], name: &[char]) -> Option<bool> {
    let (mut p, mut n) = (pattern, name);
    let mut star: Option<(&[char], &[char])> = None;
    loop {
        let step = match p.first() {
            Some('*') => {
                p = &p[1..];
                star = Some((p, n));
                continue;
            }
            Some(_) if n.is_empty() => None,
            Some('?') => Some(&p[1..]),
            Some('[') => {
                let (hit, rest) = class(p, n[0])?;
                hit.then_some(rest)
            }
            Some('\\') => {
                let c = p.get(1)?;
                (*c == n[0]).then(|| &p[2..])
            }
            Some(c) => (*c == n[0]).then(|| &p[1..]),
            None if n.is_empty() => return Some(true),
            None => None,
        };
        match (step, star) {
            (Some(rest), _) => {
                p = rest;
                n = &n[1..];
            }
            (None, Some((after, from))) if !from.is_empty() => {
                n = &from[1..];
                p = after;
                star = Some((after, n));
            }
            (None, _) => return Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_match_as_in_go() {
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("a*b*c", "axbxc", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*.go", "main.go", true),
            ("*.go", ".go", true),
            ("[", "[", true),
            ("", "", true),
            ("", "a", false),
            (
                "*a*a*a*a*a*b",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                false,
            ),
        ];
        for (pattern, name, want) in cases {
            assert_eq!(
                Glob::segment_matches(pattern, name),
                want,
                "{pattern} on {name}"
            );
        }
    }

    #[test]
    fn patterns_are_cleaned_below_the_root() {
        assert_eq!(Glob::new("./a//b/../*.c").segments(), ["a", "*.c"]);
        assert_eq!(Glob::new("../../x").segments(), ["x"]);
        assert!(has_wildcard("a*") && has_wildcard("[a]") && !has_wildcard("a\\*b"));
    }
}
