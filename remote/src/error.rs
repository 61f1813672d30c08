//! Why a remote was of no use.

use std::time::Duration;

use crate::limits::{MIN_BYTES_PER_SECOND, SPEED_WINDOW};

/// Why a remote was of no use.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// It failed, or could not be reached.
    #[error("cannot {action}: {why}")]
    Failed {
        /// What was wanted.
        action: &'static str,
        /// Why not.
        why: String,
    },
    /// There was no connection.
    #[error("it cannot be reached: {why}")]
    Unreachable {
        /// Why not.
        why: String,
    },
    /// It took too long.
    #[error("cannot {action}: no answer in {} s", .after.as_secs())]
    Slow {
        /// What was wanted.
        action: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// It gave next to nothing of something large.
    #[error(
        "cannot {action}: less than {} kB came in a second, for {} s",
        MIN_BYTES_PER_SECOND / 1000,
        SPEED_WINDOW.as_secs()
    )]
    Trickles {
        /// What was wanted.
        action: &'static str,
    },
    /// It took next to nothing of something large.
    #[error(
        "cannot {action}: it took less than {} kB in a second, for {} s",
        MIN_BYTES_PER_SECOND / 1000,
        SPEED_WINDOW.as_secs()
    )]
    TakesLittle {
        /// What was wanted.
        action: &'static str,
    },
    /// It gave other bytes than those of a layer.
    #[error("cannot {action}: {why}")]
    Wrong {
        /// What was wanted.
        action: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A record that it gave is not believed.
    #[error("a record is refused: {0}")]
    Refused(String),
    /// It has failed too often and is left alone.
    #[error("it is not asked any more")]
    Broken,
    /// The store of this host failed.
    #[error(transparent)]
    Store(#[from] kiln_cache::Error),
}

impl RemoteError {
    pub(crate) fn failed(action: &'static str) -> impl Fn(String) -> Self {
        move |why| Self::Failed { action, why }
    }
}
