//! How failures are printed, and what the process returns.

use std::io::ErrorKind;
use std::process::ExitCode;

use kiln_image::with_causes;

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

impl From<kiln_executor::Error> for Failure {
    fn from(error: kiln_executor::Error) -> Self {
        let message = with_causes(&error);
        let port = kiln_solver::ports::PortError::from(error);
        if port.is_cancelled() {
            return Self::interrupted("command");
        }
        Self {
            hint: port.hint.as_ref().map(hints::words),
            no_space: port.kind.is_no_space(),
            ..Self::new(message)
        }
    }
}

macro_rules! from_error {
    ($($t:ty),* $(,)?) => { $(impl From<$t> for Failure {
        fn from(error: $t) -> Self {
            Self {
                no_space: kiln_cache::is_no_space(&error),
                ..Self::new(with_causes(&error))
            }
        }
    })* };
}
from_error!(
    kiln_sandbox::Error,
    kiln_sys::FsError,
    std::io::Error,
    kiln_image::ReferenceError,
    kiln_image::PlatformError,
    serde_json::Error,
);

impl From<kiln_runtime::Error> for Failure {
    fn from(error: kiln_runtime::Error) -> Self {
        let failure = Self {
            no_space: kiln_cache::is_no_space(&error),
            ..Self::new(with_causes(&error))
        };
        match error {
            kiln_runtime::Error::NoCommand => failure.with_hint("give one: kiln run IMAGE COMMAND"),
            kiln_runtime::Error::Store(error) => error.into(),
            _ => failure,
        }
    }
}

impl From<kiln_cache::Error> for Failure {
    fn from(error: kiln_cache::Error) -> Self {
        let near = match &error {
            kiln_cache::Error::NoImage { near, .. } => near.as_ref(),
            _ => None,
        };
        let near = near.map(|near| format!("did you mean `{near}`?"));
        let hint = match &error {
            kiln_cache::Error::NoImage { .. } => Some("`kiln images` lists what there is"),
            kiln_cache::Error::NoMount(_) => Some("`kiln cache ls` lists what there is"),
            e if e.is_damaged_database() => {
                Some("`kiln fsck --repair` puts it aside and makes a new one")
            }
            // The hint of a full disk comes with the store's place.
            e if e.is_no_space() => None,
            kiln_cache::Error::Open { why, .. } => Some(match why.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    "choose another place with --root, or run kiln as a user that may write there"
                }
                _ => "choose another place with --root",
            }),
            _ => None,
        };
        let failure = Self {
            no_space: error.is_no_space(),
            ..Self::new(with_causes(&error))
        };
        match near.or_else(|| hint.map(str::to_owned)) {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}
