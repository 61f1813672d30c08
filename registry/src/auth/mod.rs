//! Credentials, challenges and tokens (distribution specification's "Token Authentication", and
//! Docker's `config.json`).

mod challenge;
mod docker_config;
mod token;

use std::fmt;

use crate::credential_error::CredentialError;

pub(crate) use challenge::{Challenge, parse as parse_challenges};
pub use docker_config::{DockerConfig, HelperOutput, HelperRunner};
pub(crate) use token::{Authenticator, ScopeSet, pull_scope, push_scope};

/// What a registry is shown to be let in. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User name and password.
    Basic {
        /// The user.
        username: String,
        /// The password or access token.
        password: String,
    },
    /// An OAuth2 refresh token ("identity token") for the registry's token server.
    Identity {
        /// The token.
        token: String,
    },
    /// A token that goes to the registry as it is.
    Registry {
        /// The token.
        token: String,
    },
    /// A token, and a user name and password for a registry that does not take tokens.
    Either {
        /// The token.
        token: Box<Credential>,
        /// The login.
        login: Box<Credential>,
    },
}

impl Credential {
    /// The one to use where a registry asks for a user name and password, or for a token.
    pub(crate) fn for_scheme(self, is_basic: bool) -> Self {
        match self {
            Self::Either { login, .. } if is_basic => *login,
            Self::Either { token, .. } => *token,
            other => other,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Credential::Basic(…)",
            Self::Identity { .. } => "Credential::Identity(…)",
            Self::Registry { .. } => "Credential::Registry(…)",
            Self::Either { .. } => "Credential::Either(…)",
        })
    }
}

/// Looks credentials up.
pub trait CredentialSource: Send + Sync {
    /// The credentials for a repository of a registry (`docker.io`, `host:port`); `None` for
    /// anonymous access. May block: it is called off the async threads.
    ///
    /// # Errors
    /// When the place where credentials are kept cannot be read.
    fn credential(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialError>;
}

/// No credentials for any registry.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl CredentialSource for Anonymous {
    fn credential(&self, _: &str, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(None)
    }
}
