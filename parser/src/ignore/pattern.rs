//! One pattern of an ignore file.

use regex_automata::hybrid::dfa::DFA;
use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input, MatchKind};

/// A compiled pattern and its text.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    matcher: Matcher,
}

/// Most patterns need no automaton.
#[derive(Clone, Debug)]
enum Matcher {
    /// The text itself.
    Exact,
    /// `text**`.
    Prefix(String),
    /// `**text`; one that begins with `/` also matches at the start.
    Suffix(String),
    Regex {
        whole: Regex,
        steps: Option<Box<DFA>>,
    },
}

/// What was seen of a pattern while translating it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Exact,
    Prefix,
    Suffix,
    Regex,
}

impl Pattern {
    /// Compiles a cleaned pattern; only with `steps` can it tell what it may match below a
    /// directory.
    pub(super) fn new(text: &str, steps: bool) -> Result<Self, String> {
        check(text)?;
        let (regex, shape) = translate(text)?;
        let matcher = match shape {
            Shape::Exact => Matcher::Exact,
            Shape::Prefix => Matcher::Prefix(text.strip_suffix("**").unwrap_or(text).to_owned()),
            Shape::Suffix => Matcher::Suffix(text.strip_prefix("**").unwrap_or(text).to_owned()),
            Shape::Regex => {
                let whole = Regex::new(&regex)
                    .map_err(|_| "a character range is reversed, or it is too large".to_owned())?;
                let steps = if steps {
                    Some(Box::new(automaton(&regex)?))
                } else {
                    None
                };
                Matcher::Regex { whole, steps }
            }
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
            Matcher::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Matcher::Suffix(suffix) => {
                path.ends_with(suffix.as_str())
                    || suffix.strip_prefix('/').is_some_and(|rest| path == rest)
            }
            Matcher::Regex { whole, .. } => whole.is_match(path),
        }
    }

    /// Whether any path below `dir` matches.
    pub(super) fn can_match_below(&self, dir: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => below(&self.text, dir),
            Matcher::Prefix(prefix) => {
                below(prefix, dir) || dir.starts_with(prefix.as_str()) || is_dir_slash(prefix, dir)
            }
            Matcher::Suffix(_) => true,
            Matcher::Regex { steps, .. } => steps.as_ref().is_none_or(|steps| leads_on(steps, dir)),
        }
    }
}

fn automaton(regex: &str) -> Result<DFA, String> {
    DFA::builder()
        .configure(
            DFA::config()
                .match_kind(MatchKind::All)
                .skip_cache_capacity_check(true),
        )
        .build(regex)
        .map_err(|_| "it is too large".to_owned())
}

fn below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

fn is_dir_slash(prefix: &str, dir: &str) -> bool {
    prefix.strip_suffix('/') == Some(dir)
}

/// Runs the automaton over `dir/`: unless it died, more text can end in a match.
fn leads_on(steps: &DFA, dir: &str) -> bool {
    let mut cache = steps.create_cache();
    let input = Input::new("").anchored(Anchored::Yes);
    let Ok(mut state) = steps.start_state_forward(&mut cache, &input) else {
        return true;
    };
    for byte in dir.bytes().chain(std::iter::once(b'/')) {
        match steps.next_state(&mut cache, state, byte) {
            Ok(next) if next.is_dead() => return false,
            Ok(next) if next.is_quit() => return true,
            Ok(next) => state = next,
            Err(_) => return true,
        }
    }
    true
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

/// Writes the pattern as a regular expression.
///
/// `*` stays inside a path element, `**` spans any number of them, `?` is one character of an
/// element.
fn translate(text: &str) -> Result<(String, Shape), String> {
    let mut regex = "^".to_owned();
    let mut shape = Shape::Exact;
    let mut chars = text.chars().peekable();
    let mut first = true;
    let mut in_class = false;
    while let Some(c) = chars.next() {
        let at_start = std::mem::replace(&mut first, false);
        match c {
            '*' if in_class => regex.push_str("\\*"),
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                if chars.peek() == Some(&'/') {
                    chars.next();
                }
                if chars.peek().is_some() {
                    regex.push_str("(?:.*/)?");
                    shape = Shape::Regex;
                } else if shape == Shape::Exact {
                    shape = Shape::Prefix;
                } else {
                    regex.push_str(".*");
                    shape = Shape::Regex;
                }
                if at_start {
                    shape = Shape::Suffix;
                }
            }
            '*' => {
                regex.push_str("[^/]*");
                shape = Shape::Regex;
            }
            '?' if in_class => regex.push_str("\\?"),
            '?' => {
                regex.push_str("[^/]");
                shape = Shape::Regex;
            }
            '\\' => {
                escaped(&mut regex, chars.next().unwrap_or('\\'))?;
                shape = Shape::Regex;
            }
            '[' if !in_class => {
                in_class = true;
                regex.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    regex.push('^');
                }
                shape = Shape::Regex;
            }
            ']' => {
                regex.push_str(if in_class { "]" } else { "\\]" });
                in_class = false;
                shape = Shape::Regex;
            }
            '-' if in_class => regex.push('-'),
            // Outside of a class this one is an anchor, which no character satisfies.
            '^' if !in_class => regex.push('^'),
            _ => literal(&mut regex, c),
        }
    }
    regex.push('$');
    Ok((regex, shape))
}

fn literal(regex: &mut String, c: char) {
    if c.is_ascii_punctuation() && !matches!(c, '<' | '>') {
        regex.push('\\');
    }
    regex.push(c);
}

/// An escape makes punctuation literal. Before a letter it has the meaning that it has in a
/// regular expression, which is what other engines make of it.
fn escaped(regex: &mut String, c: char) -> Result<(), String> {
    match c {
        'a' => regex.push_str("\\x07"),
        'd' => regex.push_str("[0-9]"),
        'D' => regex.push_str("[^0-9]"),
        's' => regex.push_str("[\\t\\n\\f\\r ]"),
        'S' => regex.push_str("[^\\t\\n\\f\\r ]"),
        'w' => regex.push_str("[0-9A-Za-z_]"),
        'W' => regex.push_str("[^0-9A-Za-z_]"),
        'f' | 'n' | 'r' | 't' | 'v' => regex.extend(['\\', c]),
        _ if c.is_alphanumeric() || !c.is_ascii() => {
            return Err(format!("the escape \\{c} has no meaning"));
        }
        _ => literal(regex, c),
    }
    Ok(())
}
