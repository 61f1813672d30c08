//! The runtime that asynchronous work is done on.

use std::os::unix::net::UnixStream;
use std::sync::RwLock;

use crate::errors::Failure;

/// Threads that do asynchronous work at most.
const MAX_WORKERS: usize = 8;

/// Pairs of descriptors that a runtime and what uses it take at the least.
const PAIRS: usize = 8;

/// Starts the runtime.
///
/// # Errors
/// The machine has not the threads or descriptors for it, or forbids them.
pub(crate) fn start() -> Result<tokio::runtime::Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let workers = cores.clamp(1, MAX_WORKERS);
    try_descriptors()?;
    try_threads(workers)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|e| no_threads(&e))
}

fn no_threads(error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot start threads: {error}"))
        .with_hint("`ulimit -u`, or pids.max of the cgroup, is too low here")
}

/// Tokio panics where it has no descriptor for its signals.
fn try_descriptors() -> Result<(), Failure> {
    let pairs: Result<Vec<_>, _> = (0..PAIRS).map(|_| UnixStream::pair()).collect();
    pairs.map(drop).map_err(|e| {
        Failure::new(format!("cannot open files: {e}")).with_hint("`ulimit -n` is too low here")
    })
}

/// Tokio panics where it cannot start a thread, and then waits for ever for those that it did start.
fn try_threads(workers: usize) -> Result<(), Failure> {
    // All of them are there at once: each waits until the last one has been started.
    let gate = RwLock::new(());
    std::thread::scope(|scope| {
        let _shut = gate.write();
        for _ in 0..workers {
            let thread = std::thread::Builder::new();
            let started = thread.spawn_scoped(scope, || drop(gate.read()));
            started.map_err(|e| no_threads(&e))?;
        }
        Ok(())
    })
}
