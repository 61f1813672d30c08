//! One pattern of an ignore file.

use super::program::Program;

/// A compiled pattern and its text.
#[derive(Clone, Debug)]
pub(super) struct IgnorePattern {
    text: String,
    matcher: Matcher,
}

/// Most patterns need no program.
#[derive(Clone, Debug)]
enum Matcher {
    /// The text itself.
    Exact,
    /// `text**`.
    Prefix,
    /// `**text`; one that begins with `/` also matches at the start.
    Suffix,
    /// Any other.
    Program(Box<Program>),
}

impl IgnorePattern {
    /// Compiles a cleaned pattern.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        check(text)?;
        let special = |text: &str| text.contains(['*', '?', '[', ']', '\\']);
        let matcher = if !special(text) {
            Matcher::Exact
        } else if text.strip_prefix("**").is_some_and(|rest| !special(rest)) {
            Matcher::Suffix
        } else if text.strip_suffix("**").is_some_and(|rest| !special(rest)) {
            Matcher::Prefix
        } else {
            Matcher::Program(Box::new(Program::new(text)?))
        };
        Ok(Self {
            text: text.to_owned(),
            matcher,
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the path itself matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => path == self.text,
            Matcher::Prefix => path.starts_with(self.before_stars()),
            Matcher::Suffix => {
                let suffix = self.text.strip_prefix("**").unwrap_or(&self.text);
                path.ends_with(suffix) || suffix.strip_prefix('/').is_some_and(|rest| path == rest)
            }
            Matcher::Program(program) => program.matches(path),
        }
    }

    /// Whether any path below `dir` matches.
    pub(super) fn can_match_below(&self, dir: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => is_below(&self.text, dir),
            Matcher::Prefix => {
                let prefix = self.before_stars();
                is_below(prefix, dir)
                    || dir.starts_with(prefix)
                    || prefix.strip_suffix('/') == Some(dir)
            }
            Matcher::Suffix => true,
            Matcher::Program(program) => program.can_match_below(dir),
        }
    }

    fn before_stars(&self) -> &str {
        self.text.strip_suffix("**").unwrap_or(&self.text)
    }
}

fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

/// Checks what Go's file patterns ask for: closed, non-empty classes whose members are plain
/// characters, escapes or ranges of them, and no escape at the end.
fn check(text: &str) -> Result<(), String> {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next().ok_or("it ends in an escape")?;
            }
            '[' => {
                if chars.peek() == Some(&'^') {
                    chars.next();
                }
                let mut members = 0;
                loop {
                    if members > 0 && chars.peek() == Some(&']') {
                        chars.next();
                        break;
                    }
                    member(&mut chars)?;
                    if chars.peek() == Some(&'-') {
                        chars.next();
                        member(&mut chars)?;
                    }
                    members += 1;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn member(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<(), String> {
    match chars.next() {
        None => Err("a `[` has no `]`".to_owned()),
        Some('-' | ']') => Err("a `[...]` holds a `-` or `]` that is not escaped".to_owned()),
        Some('\\') => chars
            .next()
            .map(|_| ())
            .ok_or_else(|| "a `[` has no `]`".to_owned()),
        Some(_) => Ok(()),
    }
}
