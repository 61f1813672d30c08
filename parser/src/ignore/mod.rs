//! `.dockerignore` matching.
//!
//! The rules are those of Docker, not of `.gitignore`: patterns are anchored at the root of the
//! context, the last one that matches a path or one of its parents decides, and `!` includes again
//! even below an excluded directory.

mod pattern;
mod program;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use pattern::IgnorePattern;

/// Why an ignore file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IgnoreError {
    /// A pattern is malformed.
    #[error("line {line}: the pattern {pattern:?} is malformed: {reason}")]
    Pattern {
        /// 1-based line.
        line: usize,
        /// The pattern as read.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
}

/// The answer for one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The path is not part of the context.
    pub excluded: bool,
    /// 1-based line of the pattern that decided last.
    pub line: Option<usize>,
}

/// A rule that matches a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleMatch<'a> {
    /// The pattern as it was understood.
    pub pattern: &'a str,
    /// Written with `!`: it includes again.
    pub negated: bool,
    /// 1-based line of the pattern.
    pub line: usize,
    /// The path itself, or the first of its parents that the pattern matches.
    pub matched: &'a str,
}

/// One line of the file.
#[derive(Clone, Debug)]
struct Rule {
    pattern: IgnorePattern,
    negated: bool,
    line: usize,
}

/// The patterns of a `.dockerignore` file.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

impl Ignore {
    /// Reads the text of a `.dockerignore` file.
    ///
    /// # Errors
    /// When a pattern is malformed.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut ignore = Self::default();
        for (index, line) in text.lines().enumerate() {
            // Only a `#` in the first column makes a comment.
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (negated, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let cleaned = if pattern.is_empty() {
                Cow::Borrowed("")
            } else {
                clean(pattern)
            };
            let relative = match cleaned.strip_prefix('/') {
                Some(rest) if !rest.is_empty() => rest,
                _ => &cleaned,
            };
            if negated {
                ignore.add(&format!("!{relative}"), index + 1)?;
            } else {
                ignore.add(relative, index + 1)?;
            }
        }
        Ok(ignore)
    }

    /// Takes patterns one by one, as `COPY --exclude` gives them; lines are their 1-based places.
    ///
    /// # Errors
    /// When a pattern is malformed.
    pub fn from_patterns(patterns: &[String]) -> Result<Self, IgnoreError> {
        let mut ignore = Self::default();
        for (index, pattern) in patterns.iter().enumerate() {
            ignore.add(pattern, index + 1)?;
        }
        Ok(ignore)
    }

    fn add(&mut self, text: &str, line: usize) -> Result<(), IgnoreError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(());
        }
        let cleaned = clean(text);
        let (negated, pattern) = match cleaned.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, &*cleaned),
        };
        let wrong = |reason: String| IgnoreError::Pattern {
            line,
            pattern: text.to_owned(),
            reason,
        };
        if pattern.is_empty() {
            return Err(wrong("nothing follows the `!`".to_owned()));
        }
        let pattern = IgnorePattern::new(pattern).map_err(wrong)?;
        self.rules.push(Rule {
            pattern,
            negated,
            line,
        });
        Ok(())
    }

    /// Whether `path` is excluded. `path` is relative, separated by `/`, with no leading `/`.
    ///
    /// A pattern that matches a parent directory counts as one that matches the path.
    #[must_use]
    pub fn verdict(&self, path: &str) -> Verdict {
        match self.deciding(path) {
            Some((_, rule)) => Verdict {
                excluded: !rule.negated,
                line: Some(rule.line),
            },
            None => Verdict::default(),
        }
    }

    /// The rule that decides on a path. As in Docker, rules are looked at for each parent in turn:
    /// one that matched a parent matches what is below it, and a rule that could change nothing
    /// there, as what it would include was not excluded, did not match.
    fn deciding(&self, path: &str) -> Option<(usize, &Rule)> {
        if path.is_empty() || path == "." {
            return None;
        }
        let mut last = None;
        let mut matched = vec![false; self.rules.len()];
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let here = path.get(..end).unwrap_or(path);
            let mut excluded = false;
            last = None;
            for (number, (rule, matched)) in self.rules.iter().zip(&mut matched).enumerate() {
                *matched = *matched || (rule.negated == excluded && rule.pattern.matches(here));
                if *matched {
                    excluded = !rule.negated;
                    last = Some((number, rule));
                }
            }
        }
        last
    }

    /// True when there is no pattern.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// False when nothing below the excluded directory `dir` can be included again, so that a
    /// walk need not enter it. True for directories that are not excluded.
    #[must_use]
    pub fn may_reinclude_below(&self, dir: &str) -> bool {
        match self.deciding(dir) {
            // What excludes `dir` excludes all below it, so only later rules can change that.
            Some((last, rule)) if !rule.negated => self
                .rules
                .iter()
                .skip(last + 1)
                .any(|rule| rule.negated && rule.pattern.can_match_below(dir)),
            _ => true,
        }
    }

    /// The rules that match a path or one of its parents, in order.
    pub fn matches<'a>(&'a self, path: &'a str) -> impl Iterator<Item = RuleMatch<'a>> + 'a {
        self.rules.iter().filter_map(move |rule| {
            let matched = path
                .match_indices('/')
                .filter_map(|(at, _)| path.get(..at))
                .chain(std::iter::once(path))
                .find(|part| rule.pattern.matches(part))?;
            Some(RuleMatch {
                pattern: rule.pattern.text(),
                negated: rule.negated,
                line: rule.line,
                matched,
            })
        })
    }

    /// The patterns in order: text, negated by `!`, 1-based line.
    pub fn patterns(&self) -> impl Iterator<Item = (&str, bool, usize)> {
        self.rules
            .iter()
            .map(|rule| (rule.pattern.text(), rule.negated, rule.line))
    }
}

/// The shortest path of the same meaning: no `.`, no doubled `/`, `..` resolved where possible.
fn clean(path: &str) -> Cow<'_, str> {
    if path.split('/').all(|part| !matches!(part, "" | "." | "..")) {
        return Cow::Borrowed(path);
    }
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(last) if *last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    Cow::Owned(match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    })
}
