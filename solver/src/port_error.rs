//! Errors of the ports: what the solver and its callers tell apart, and a message for people.

use crate::hint::Hint;

/// An error of a port: a message for people, what kind it is of, and what can be done.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// What has to be told apart.
    pub kind: PortErrorKind,
    /// One sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<Hint>,
}

/// What has to be told apart of errors of the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortErrorKind {
    /// Nothing: the work failed.
    Failed,
    /// A full disk or quota is the reason.
    NoSpace,
    /// A command ran and failed.
    Command {
        /// Its exit code.
        code: i32,
        /// A full disk is the reason.
        no_space: bool,
    },
    /// The step itself did not fail, but something that it needs could not be had.
    Inputs {
        /// A full disk is the reason.
        no_space: bool,
    },
    /// The work was stopped from outside, and is no failure of its own.
    Cancelled,
    /// A result that was found is gone: solving the same plan again works without it.
    Lost,
}

impl PortErrorKind {
    /// Whether a full disk or quota is the reason.
    pub const fn is_no_space(self) -> bool {
        matches!(
            self,
            Self::NoSpace | Self::Command { no_space: true, .. } | Self::Inputs { no_space: true }
        )
    }
}

impl PortError {
    /// The error of work that failed.
    pub fn new(message: impl Into<String>) -> Self {
        Self::of(PortErrorKind::Failed, message)
    }

    /// An error of this kind.
    pub fn of(kind: PortErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    /// The error of work that was stopped from outside.
    pub fn cancelled() -> Self {
        Self::of(PortErrorKind::Cancelled, "canceled")
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_hint(self, hint: Hint) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    /// Whether the work was stopped from outside.
    pub const fn is_cancelled(&self) -> bool {
        matches!(self.kind, PortErrorKind::Cancelled)
    }

    /// Whether a result that was found is gone.
    pub const fn is_lost(&self) -> bool {
        matches!(self.kind, PortErrorKind::Lost)
    }
}
