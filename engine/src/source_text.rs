//! A Dockerfile's text, and where in it something is.

use std::path::PathBuf;

use kiln_parser::{LineIndex, Span};
use kiln_solver::plan::Lines;

/// A Dockerfile's text with the name that the user knows it by.
#[derive(Clone, Debug, Default)]
pub struct SourceText {
    /// The name.
    pub name: String,
    /// The text.
    pub text: String,
    /// The file, if it is one of this machine.
    pub file: Option<PathBuf>,
}

impl SourceText {
    /// The lines of a part of the text.
    pub fn lines_of(&self, span: Span) -> Lines {
        let index = LineIndex::new(&self.text);
        Lines {
            first: index.line(span.start),
            last: index.line(span.end.max(span.start + 1) - 1),
        }
    }

    /// Lines and columns of a part of the text: where it begins, and just after its end.
    pub fn positions_of(&self, span: Span) -> [(usize, usize); 2] {
        let index = LineIndex::new(&self.text);
        [index.position(span.start), index.position(span.end)]
    }
}
