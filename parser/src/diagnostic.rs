//! What the parser reports.

use crate::span::Span;

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
