//! SIGINT, SIGTERM and SIGHUP end long work in order.

use kiln_engine::host::process;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::errors::INTERRUPTED;
use crate::progress;

/// The signals by which a user ends a command, but for those that are ignored on purpose.
struct Signals([Option<Signal>; 3]);

impl Signals {
    /// Takes the signals from now on; none where the system refuses.
    fn take() -> Option<Self> {
        let take = |kind: SignalKind| {
            let is_wanted = !process::is_ignored(kind.as_raw_value());
            is_wanted.then(|| signal(kind)).transpose().ok()
        };
        Some(Self([
            take(SignalKind::interrupt())?,
            take(SignalKind::terminate())?,
            take(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the next one.
    async fn next(&mut self) {
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
#[derive(Debug)]
pub(crate) struct Interrupt {
    token: CancellationToken,
    task: Option<AbortHandle>,
}

impl Interrupt {
    /// Listens to signals from now on, as long as this lives, on the runtime that is entered. A second signal
    /// ends the process at once.
    pub(crate) fn listen() -> Self {
        let token = CancellationToken::new();
        // Handlers are installed before anything else happens, not when the task first runs.
        let Some(mut signals) = Signals::take() else {
            return Self { token, task: None };
        };
        let cancel = token.clone();
        let task = tokio::spawn(async move {
            for _ in 0..2 {
                signals.next().await;
                if cancel.is_cancelled() {
                    progress::leave_terminal();
                    std::process::exit(INTERRUPTED.into());
                }
                cancel.cancel();
            }
        });
        Self {
            token,
            task: Some(task.abort_handle()),
        }
    }

    /// Is cancelled by the first signal.
    pub(crate) fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
