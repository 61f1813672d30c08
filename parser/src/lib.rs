//! Dockerfile text to a syntax tree with byte spans, word expansion and `.dockerignore` matching.
//!
//! The crate is pure: it takes text, does no I/O and never fails. What is wrong with a file is in
//! the [`Diagnostic`]s beside the tree.
//!
//! ```
//! use kiln_parser::{Kind, LineIndex, parse};
//!
//! let source = "FROM busybox\nRUN echo hello\nWRKDIR /app\n";
//! let parsed = parse(source);
//!
//! // What is well formed is in the tree.
//! let instructions = &parsed.dockerfile.instructions;
//! assert!(instructions.iter().map(|i| i.keyword.value.as_str()).eq(["FROM", "RUN"]));
//! assert!(matches!(instructions[0].kind, Kind::From { .. }));
//!
//! // What is wrong is beside it, with its place and some help.
//! assert!(parsed.has_errors());
//! let finding = &parsed.diagnostics[0];
//! assert_eq!(finding.message, "unknown instruction `WRKDIR`");
//! assert_eq!(finding.help.as_deref(), Some("did you mean `WORKDIR`?"));
//! assert_eq!(LineIndex::new(source).position(finding.span.start), (3, 1));
//! ```

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![forbid(unsafe_code)]

pub mod ast;
mod diagnostic;
mod directive;
pub mod expand;
pub mod flags;
mod format;
mod heredoc;
pub mod ignore;
mod instruction;
mod json;
mod lines;
mod parse;
pub mod span;
mod suggest;
mod words;

pub use ast::*;
pub use diagnostic::{Diagnostic, Severity};
pub use expand::{ExpandError, Expanded, Fuel, Lookup, expand_raw, expand_word, expand_words};
pub use format::{FormatError, format};
pub use ignore::{Ignore, IgnoreError, RuleMatch, Verdict};
pub use span::{LineIndex, Span, Spanned, Text};
pub use suggest::nearest;

/// A syntax tree and what the parser found on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The tree; instructions with errors are not in it.
    pub dockerfile: Dockerfile,
    /// Findings in source order.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// True when some finding is an error, so that the file must not be built.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics
            .iter()
            .any(|d| d.severity == Severity::Error)
    }
}

/// Parses a Dockerfile.
#[must_use]
pub fn parse(source: &str) -> Parsed {
    parse::file(source)
}

/// Parses one instruction by itself, as the `ONBUILD` triggers of a base image are.
///
/// Spans point into `text`. Text with an error, with no instruction or with several gives none.
#[must_use]
pub fn parse_instruction(text: &str, escape: char) -> (Option<Instruction>, Vec<Diagnostic>) {
    parse::single(text, escape)
}

/// Whether all of a text is a JSON array of strings, as instructions take it.
#[must_use]
pub fn is_json_array(text: &str) -> bool {
    matches!(json::array(text), json::Array::Strings(_))
}
