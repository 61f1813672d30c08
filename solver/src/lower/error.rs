//! Errors and warnings with their place in the Dockerfile.

use kiln_parser::{ExpandError, Span};

use crate::hint::Hint;
use crate::lint::shortened;
use crate::ports::PortError;

/// Bytes of a message at most: it may cite a value, which may be of any length.
const MAX_MESSAGE: usize = 4 << 10;

/// Something in the Dockerfile that makes no sense.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct LowerError {
    /// One sentence.
    pub message: String,
    /// Where in the text, if it concerns a place.
    pub span: Option<Span>,
    /// What to do.
    pub help: Option<String>,
    /// What to do, as who resolves images says it; where there is help, that counts.
    pub hint: Option<Hint>,
}

impl LowerError {
    pub(super) fn new(message: impl Into<String>, span: Span) -> Self {
        Self {
            message: shortened(message.into(), MAX_MESSAGE),
            span: Some(span),
            help: None,
            hint: None,
        }
    }

    pub(super) fn nowhere(message: impl Into<String>) -> Self {
        Self {
            message: shortened(message.into(), MAX_MESSAGE),
            span: None,
            help: None,
            hint: None,
        }
    }

    pub(super) fn somewhere(message: impl Into<String>, span: Option<Span>) -> Self {
        Self {
            message: shortened(message.into(), MAX_MESSAGE),
            span,
            help: None,
            hint: None,
        }
    }

    pub(super) fn with_help(mut self, help: Option<impl Into<String>>) -> Self {
        self.help = help.map(Into::into);
        self
    }

    pub(super) fn expand(error: &ExpandError, span: Span) -> Self {
        Self::new(error.to_string(), span)
    }

    pub(super) fn port(error: PortError, span: Option<Span>) -> Self {
        Self {
            message: error.message,
            span,
            help: None,
            hint: error.hint,
        }
    }
}

/// Something that a person should know.
#[derive(Clone, Debug)]
pub struct LowerWarning {
    /// One sentence.
    pub message: String,
    /// Where in the text.
    pub span: Option<Span>,
}
