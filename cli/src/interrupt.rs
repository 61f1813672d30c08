//! SIGINT, SIGTERM and SIGHUP end long work in order.

use std::future::Future;

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::errors::Failure;

/// The exit code of a command that a signal ended: what shells use for SIGINT.
const CODE: u8 = 130;

/// Knows whether the user wants the command to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(CancellationToken);

impl Interrupt {
    /// Listens to signals from now on. A second signal ends the process at once.
    pub(crate) fn listen(runtime: &Runtime) -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let token = CancellationToken::new();
        let cancel = token.clone();
        // Handlers are installed before anything else happens, not when the task first runs.
        let _guard = runtime.enter();
        let (Ok(mut int), Ok(mut term), Ok(mut hup)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
            signal(SignalKind::hangup()),
        ) else {
            return Self(token);
        };
        runtime.spawn(async move {
            for _ in 0..2 {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                    _ = hup.recv() => {}
                }
                if cancel.is_cancelled() {
                    std::process::exit(CODE.into());
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
        Failure::new("the build was interrupted").with_code(CODE)
    }

    /// Waits for `work`, or drops it when a signal comes.
    pub(crate) fn wait<T>(
        &self,
        runtime: &Runtime,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        runtime.block_on(async {
            tokio::select! {
                done = work => Ok(done),
                () = self.0.cancelled() => Err(Self::failure()),
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
