//! `.dockerignore` matching.

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

/// The patterns of a `.dockerignore` file.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<(String, bool, usize)>,
}

impl Ignore {
    /// Reads the text of a `.dockerignore` file.
    ///
    /// # Errors
    /// When a pattern is malformed.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let _ = text;
        Ok(Self::default())
    }

    /// Takes patterns one by one, as `COPY --exclude` gives them; lines are their 1-based places.
    ///
    /// # Errors
    /// When a pattern is malformed.
    pub fn from_patterns(patterns: &[String]) -> Result<Self, IgnoreError> {
        let _ = patterns;
        Ok(Self::default())
    }

    /// Whether `path` is excluded. `path` is relative, separated by `/`, with no leading `/`.
    #[must_use]
    pub fn verdict(&self, path: &str) -> Verdict {
        let _ = path;
        Verdict::default()
    }

    /// True when there is no pattern.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// False when nothing below the excluded directory `dir` can be included again.
    #[must_use]
    pub fn may_reinclude_below(&self, dir: &str) -> bool {
        let _ = dir;
        true
    }

    /// The patterns in order: text, negated by `!`, 1-based line.
    pub fn patterns(&self) -> impl Iterator<Item = (&str, bool, usize)> {
        self.patterns
            .iter()
            .map(|(text, negated, line)| (text.as_str(), *negated, *line))
    }
}
