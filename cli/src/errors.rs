//! How failures are printed, and what the process returns.

use std::process::ExitCode;

use kiln_engine::{Error, ErrorKind, with_causes};

use crate::{hints, ui};

/// The exit code of a command that a signal ended: what shells use for SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// The code of `docker run` for a container that could not be started.
pub(crate) const NOT_STARTED: u8 = 125;

/// A command that did not succeed: what to print, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    /// One sentence and its causes; empty if everything has been printed already.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    pub(crate) code: u8,
    /// A full disk or quota is the reason.
    pub(crate) no_space: bool,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            code: 1,
            no_space: false,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: 2,
            ..Self::new(message)
        }
    }

    /// A failure of which everything has been said.
    pub(crate) fn silent(code: u8) -> Self {
        Self {
            code,
            ..Self::new("")
        }
    }

    /// What is said of work that a signal ended.
    pub(crate) fn interrupted(what: &str) -> Self {
        Self::new(format!("the {what} was interrupted")).with_code(INTERRUPTED)
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Prints the failure and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        if ui::is_json() {
            // A failure of which everything has been said still has its code.
            ui::event(serde_json::json!({
                "event": "error", "text": self.message, "hint": self.hint, "exit_code": self.code,
            }));
            return ExitCode::from(self.code);
        }
        if !self.message.is_empty() {
            ui::error(&self.message);
        }
        if let Some(hint) = &self.hint {
            ui::hint(hint);
        }
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        if kind == ErrorKind::Cancelled {
            return Self::interrupted("command");
        }
        Self {
            message: error.full(),
            hint: error.hint().map(|hint| hints::words(&hint)),
            code: match kind {
                ErrorKind::Request => 2,
                _ => 1,
            },
            no_space: error.is_no_space(),
        }
    }
}

macro_rules! from_error {
    ($($t:ty),* $(,)?) => { $(impl From<$t> for Failure {
        fn from(error: $t) -> Self {
            Self {
                no_space: kiln_engine::is_no_space(&error),
                ..Self::new(with_causes(&error))
            }
        }
    })* };
}
from_error!(
    kiln_engine::host::FsError,
    std::io::Error,
    kiln_engine::ReferenceError,
    kiln_engine::PlatformError,
    serde_json::Error,
);
