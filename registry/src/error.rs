//! What can go wrong with a registry.

use std::fmt;
use std::io;
use std::time::Duration;

use kiln_image::manifest::ManifestError;
use kiln_image::verify::Mismatch;
use kiln_image::{SafeUrl, innermost};
use serde::Deserialize;
use url::Url;

use crate::credential_error::CredentialError;
use crate::pace::TooSlow;

/// One error of a registry's answer (distribution specification, "Error Codes").
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ApiError {
    /// A code such as `MANIFEST_UNKNOWN`.
    #[serde(default)]
    pub code: String,
    /// A sentence for people.
    #[serde(default)]
    pub message: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code.is_empty(), self.message.is_empty()) {
            (false, false) => write!(f, "{}: {}", self.code, self.message),
            (false, true) => f.write_str(&self.code),
            _ => f.write_str(&self.message),
        }
    }
}

/// Why an operation on a registry failed. Addresses in messages carry no secrets.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry answered with an error.
    #[error("{method} {url} failed with status {status}{}", join(.errors))]
    Status {
        /// The request's method.
        method: String,
        /// The request's address, redacted.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the registry said; empty for answers without a body.
        errors: Vec<ApiError>,
        /// How long the registry asks us to wait.
        retry_after: Option<Duration>,
    },
    /// Neither a mirror nor the registry itself has it.
    #[error("cannot find `{reference}`: {}", places(.answers))]
    Nowhere {
        /// What was looked for, in its short form.
        reference: String,
        /// Who was asked, and why each has no answer; the registry itself is the last.
        answers: Vec<(String, RegistryError)>,
    },
    /// No answer, or an answer that broke off.
    #[error("{method} {url} failed")]
    Transport {
        /// The request's method.
        method: String,
        /// The request's address, redacted.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// What is sent is not taken.
    #[error("{method} {url} failed: nothing more was taken for {} s", .after.as_secs())]
    Stalled {
        /// The request's method.
        method: String,
        /// The request's address, redacted.
        url: String,
        /// How long.
        after: Duration,
    },
    /// A server that gives tokens says nothing.
    #[error("{url}, which gives the tokens for this, said nothing for {} s", .after.as_secs())]
    Silent {
        /// The server's address, redacted.
        url: String,
        /// How long.
        after: Duration,
    },
    /// It sends so little that it would never end.
    #[error("{method} {url} failed: {source}")]
    Drips {
        /// The request's method.
        method: String,
        /// The request's address, redacted.
        url: String,
        /// How little.
        source: TooSlow,
    },
    /// The registry wants credentials that there are none of, or does not take them.
    #[error("access to {registry} is denied: {reason}")]
    Denied {
        /// The registry.
        registry: String,
        /// Why.
        reason: String,
    },
    /// Credentials could not be looked up.
    #[error("credentials for {registry} cannot be read")]
    Credentials {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: CredentialError,
    },
    /// The registry sends us somewhere where we do not go.
    #[error("{registry} points to {target}, which is refused: {reason}")]
    Redirect {
        /// The registry.
        registry: String,
        /// Where to, redacted.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// An answer breaks the protocol.
    #[error("{url} broke the protocol: {problem}")]
    Protocol {
        /// The request's address, redacted.
        url: String,
        /// How.
        problem: String,
    },
    /// An answer is longer than it can sensibly be.
    #[error("answer of {url} has more than {limit} bytes")]
    TooLarge {
        /// The request's address, redacted.
        url: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// Content is not what its descriptor or reference says.
    #[error("content from {url} is wrong")]
    Content {
        /// The request's address, redacted.
        url: String,
        /// How.
        #[source]
        source: Mismatch,
    },
    /// A manifest is refused.
    #[error("manifest from {url} is refused")]
    Manifest {
        /// The request's address, redacted.
        url: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The caller's sink or source failed.
    #[error("blob {digest} cannot be {action}")]
    Local {
        /// The blob.
        digest: String,
        /// `stored` or `read`.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The settings for a registry are unusable.
    #[error("settings for {registry} are not usable: {problem}")]
    Settings {
        /// The registry.
        registry: String,
        /// What is wrong.
        problem: String,
    },
}

fn join(errors: &[ApiError]) -> String {
    errors
        .iter()
        .take(3)
        .fold(String::new(), |text, error| format!("{text}: {error}"))
}

fn places(answers: &[(String, RegistryError)]) -> String {
    let one = |(place, error): &(String, RegistryError)| match error {
        error if error.is_not_found() => format!("{place}: not found"),
        RegistryError::Transport { source, .. } => {
            format!("{place}: cannot be reached ({})", innermost(source))
        }
        error => {
            let cause = std::error::Error::source(error).map(innermost);
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            format!("{place}: {error}{cause}")
        }
    };
    answers.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl RegistryError {
    /// What the registry itself said, where mirrors were asked too.
    fn last(&self) -> &Self {
        match self {
            Self::Nowhere { answers, .. } => answers.last().map_or(self, |(_, error)| error),
            error => error,
        }
    }

    /// Whether what was asked for does not exist (status 404).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.last(), Self::Status { status: 404, .. })
    }

    /// Whether the registry says that it does not know the repository. A 404 without its code may also come
    /// from a registry, or a proxy before one, that does not know the question.
    pub(crate) fn is_unknown_name(&self) -> bool {
        let Self::Status {
            status: 404,
            errors,
            ..
        } = self
        else {
            return false;
        };
        errors.iter().any(|error| error.code == "NAME_UNKNOWN")
    }

    /// Whether access was denied (status 401 or 403, or no usable credentials).
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(
            self.last(),
            Self::Status {
                status: 401 | 403,
                ..
            } | Self::Denied { .. }
        )
    }

    /// Why there was no connection, in a few words; none if there was one.
    #[must_use]
    pub fn unreachable(&self) -> Option<String> {
        match self.last() {
            Self::Transport { source, .. } if source.is_connect() => Some(innermost(source)),
            _ => None,
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self.last() {
            Self::Status { status, .. } => is_temporary_status(*status),
            Self::Transport { .. } | Self::Stalled { .. } => true,
            _ => false,
        }
    }

    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn protocol(url: &Url, problem: impl Into<String>) -> Self {
        Self::Protocol {
            url: redact(url),
            problem: problem.into(),
        }
    }
}

/// Whether a status tells of trouble that may pass. 499 and 522 come from proxies (nginx,
/// Cloudflare) in front of registries.
pub(crate) const fn is_temporary_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 499 | 500 | 502..=504 | 507..=599)
}

/// An address as it is told: without user, password, and the values of its query.
pub(crate) fn redact(url: &Url) -> String {
    SafeUrl::of_server(url.as_str()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_who_was_asked_is_named() {
        let status = |status| RegistryError::Status {
            method: "GET".into(),
            url: "http://m/v2/x".into(),
            status,
            errors: Vec::new(),
            retry_after: None,
        };
        let error = RegistryError::Nowhere {
            reference: "x:latest".into(),
            answers: vec![
                ("mirror http://m".into(), status(500)),
                ("docker.io".into(), status(404)),
            ],
        };
        assert_eq!(
            error.to_string(),
            "cannot find `x:latest`: mirror http://m: GET http://m/v2/x failed with status 500; \
             docker.io: not found"
        );
        assert!(error.is_not_found() && !error.is_temporary() && !error.is_denied());
    }
}
