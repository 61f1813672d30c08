//! What the parser reports.

use crate::span::Span;

/// With more errors or more warnings than this the file is no Dockerfile: the rest is counted.
const MOST: usize = 100;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The build can go on.
    Warning,
    /// The file cannot be built.
    Error,
}

/// One finding of the parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable kebab-case identifier of the rule.
    pub code: &'static str,
    /// One lower-case sentence.
    pub message: String,
    /// The offending text.
    pub span: Span,
    /// How to repair it, when that is known.
    pub help: Option<String>,
}

impl Diagnostic {
    /// The code of the warning about a blank line inside a continued instruction.
    pub const EMPTY_CONTINUATION: &'static str = "empty-continuation";

    /// A finding that makes the build impossible.
    pub fn error(code: &'static str, message: impl Into<String>, span: Span) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            span,
            help: None,
        }
    }

    /// A finding that the build survives.
    pub fn warning(code: &'static str, message: impl Into<String>, span: Span) -> Self {
        Self {
            severity: Severity::Warning,
            code,
            message: message.into(),
            span,
            help: None,
        }
    }

    /// Adds advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The findings of a parse. Those that are too many are counted, so that a file of nothing but
/// errors costs no more than a good one.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
    /// Where the first one was that is not in the list.
    cut: Option<Span>,
}

impl Findings {
    /// Adds an error, which is only made when it is kept.
    pub(crate) fn error(&mut self, make: impl FnOnce() -> Diagnostic) {
        self.errors += 1;
        self.add(self.errors, make);
    }

    /// Adds a warning, which is only made when it is kept.
    pub(crate) fn warning(&mut self, make: impl FnOnce() -> Diagnostic) {
        self.warnings += 1;
        self.add(self.warnings, make);
    }

    fn add(&mut self, count: usize, make: impl FnOnce() -> Diagnostic) {
        if count <= MOST {
            self.list.push(make());
        } else if self.cut.is_none() {
            self.cut = Some(make().span);
        }
    }

    /// Number of errors so far, with those that are only counted.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// The findings in source order; one more tells how many are missing.
    pub(crate) fn into_sorted(mut self) -> Vec<Diagnostic> {
        if let Some(span) = self.cut {
            let errors = self.errors.saturating_sub(MOST);
            let warnings = self.warnings.saturating_sub(MOST);
            let note = |make: fn(&'static str, String, Span) -> Diagnostic, count, what| {
                let message = format!("{count} more {what} are not shown");
                make("too-many-findings", message, span)
            };
            if warnings > 0 {
                self.list
                    .push(note(Diagnostic::warning, warnings, "warnings"));
            }
            if errors > 0 {
                self.list.push(note(Diagnostic::error, errors, "errors"));
            }
        }
        self.list.sort_by_key(|d| d.span.start);
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::{Diagnostic, Findings, MOST, Severity};
    use crate::span::Span;

    #[test]
    fn what_is_too_much_is_counted() {
        for (errors, warnings, want) in [
            (1, 2, &[][..]),
            (MOST, MOST, &[]),
            (
                MOST + 2,
                1,
                &[(Severity::Error, "2 more errors are not shown")],
            ),
            (
                MOST + 1,
                MOST + 3,
                &[
                    (Severity::Warning, "3 more warnings are not shown"),
                    (Severity::Error, "1 more errors are not shown"),
                ],
            ),
        ] {
            let mut findings = Findings::default();
            let at = |i| Span::new(i, i);
            for i in 0..warnings {
                findings.warning(|| Diagnostic::warning("w", "w", at(i)));
            }
            for i in 0..errors {
                findings.error(|| Diagnostic::error("e", "e", at(i)));
            }
            assert_eq!(findings.errors(), errors);
            let list = findings.into_sorted();
            let notes: Vec<_> = list
                .iter()
                .filter(|d| d.code == "too-many-findings")
                .map(|d| (d.severity, d.message.as_str()))
                .collect();
            assert_eq!(notes, want);
            assert_eq!(
                list.len() - notes.len(),
                errors.min(MOST) + warnings.min(MOST)
            );
        }
    }
}
