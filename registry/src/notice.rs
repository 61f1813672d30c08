//! What users should know that is not an error: the caller says where it goes.

use std::sync::Arc;

/// Something to know that is not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A mirror could not be used, and the next server is asked.
    MirrorPassedOver {
        /// Its address, without credentials.
        mirror: String,
        /// Why.
        cause: String,
    },
    /// An entry of Docker's config file is not used, and the registry is asked without it.
    CredentialUnused {
        /// The entry's name.
        entry: String,
        /// Why.
        cause: String,
    },
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MirrorPassedOver { mirror, cause } => {
                write!(f, "mirror {mirror} is passed over: {cause}")
            }
            Self::CredentialUnused { entry, cause } => {
                write!(
                    f,
                    "the entry for `{entry}` in Docker's config file is not used: {cause}"
                )
            }
        }
    }
}

/// Takes notices from any thread.
#[derive(Clone)]
pub struct Notices(Arc<dyn Fn(Notice) + Send + Sync>);

impl Notices {
    /// Sends every notice to `sink`.
    pub fn new(sink: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    pub(crate) fn send(&self, notice: Notice) {
        (self.0)(notice);
    }
}

impl Default for Notices {
    /// Drops every notice.
    fn default() -> Self {
        Self::new(drop)
    }
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notices")
    }
}
