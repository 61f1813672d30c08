//! Work that ends early when its caller's token is cancelled.

use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// Waits for `work`, or drops it when the token is cancelled.
///
/// # Errors
/// [`Error::Cancelled`].
pub(crate) async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T> {
    tokio::select! {
        // Work that notices the token itself ends with an error of its own.
        biased;
        () = cancel.cancelled() => Err(Error::Cancelled),
        done = work => Ok(done),
    }
}

/// Waits for work on a thread of its own, or leaves it alone when the token is cancelled: whoever owns the
/// runtime must not wait for its threads then.
///
/// # Errors
/// [`Error::Cancelled`], or the thread has panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    cancel: &CancellationToken,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let done = unless_cancelled(cancel, tokio::task::spawn_blocking(work)).await?;
    done.map_err(|e| Error::failed(format!("a thread of kiln ended early: {e}")))
}
