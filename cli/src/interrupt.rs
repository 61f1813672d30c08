//! SIGINT, SIGTERM and SIGHUP end long work in order.

use std::future::Future;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::errors::{Failure, INTERRUPTED};
use crate::progress;

/// The signals by which a user ends a command, but for those that are ignored on purpose.
pub(crate) struct Signals([Option<Signal>; 3]);

impl Signals {
    /// Takes the signals from now on, on the runtime that is entered; none where the system refuses.
    pub(crate) fn take() -> Option<Self> {
        let take = |kind: SignalKind| {
            let is_wanted = !kiln_sys::process::is_ignored(kind.as_raw_value());
            is_wanted.then(|| signal(kind)).transpose().ok()
        };
        Some(Self([
            take(SignalKind::interrupt())?,
            take(SignalKind::terminate())?,
            take(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        async fn came(signal: &mut Option<Signal>) {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        }
        let [int, term, hup] = &mut self.0;
        tokio::select! {
            () = came(int) => {}
            () = came(term) => {}
            () = came(hup) => {}
        }
    }
}

/// Knows whether the user wants the command to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(CancellationToken);

impl Interrupt {
    /// Listens to signals from now on. A second signal ends the process at once.
    pub(crate) fn listen(runtime: &Runtime) -> Self {
        let token = CancellationToken::new();
        let cancel = token.clone();
        // Handlers are installed before anything else happens, not when the task first runs.
        let _guard = runtime.enter();
        let Some(mut signals) = Signals::take() else {
            return Self(token);
        };
        runtime.spawn(async move {
            for _ in 0..2 {
                signals.next().await;
                if cancel.is_cancelled() {
                    progress::leave_terminal();
                    std::process::exit(INTERRUPTED.into());
                }
                cancel.cancel();
            }
        });
        Self(token)
    }

    /// Is cancelled by the first signal.
    pub(crate) fn token(&self) -> CancellationToken {
        self.0.clone()
    }

    /// What is said of a build that a signal ended.
    pub(crate) fn failure() -> Failure {
        Failure::interrupted("build")
    }

    /// Waits for `work`, or drops it when a signal comes.
    pub(crate) fn wait<T>(
        &self,
        runtime: &Runtime,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        runtime.block_on(async {
            tokio::select! {
                // Work that notices the signal itself ends with an error of its own.
                biased;
                () = self.0.cancelled() => Err(Self::failure()),
                done = work => Ok(done),
            }
        })
    }

    /// Waits for work on a thread of its own, or leaves it alone when a signal comes: the runtime
    /// must then be shut down in the background.
    pub(crate) fn wait_blocking<T: Send + 'static>(
        &self,
        runtime: &Runtime,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let done = self.wait(runtime, async { tokio::task::spawn_blocking(work).await })?;
        done.map_err(|e| Failure::new(format!("a thread of kiln ended early: {e}")))
    }
}
