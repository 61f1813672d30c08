//! The process that keeps a store in order after a command.

use std::io::{Error, Result};
use std::path::Path;
use std::time::{Duration, Instant};

/// The word of its command line that tells what it does.
pub const MAINTENANCE: &str = "internal-maintenance";

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until no process maintains the store at `store` any more: nobody waits for it otherwise.
///
/// # Errors
/// It does not end, or there is no `/proc`.
pub fn wait_for_maintenance(store: &Path) -> Result<()> {
    let begun = Instant::now();
    let store = store.as_os_str().as_encoded_bytes();
    while begun.elapsed() < PATIENCE {
        let works_here = |entry: std::fs::DirEntry| {
            // One that is gone meanwhile works no more.
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            words.contains(&MAINTENANCE.as_bytes()) && words.contains(&store)
        };
        if !std::fs::read_dir("/proc")?.flatten().any(works_here) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(Error::other("what maintains the store does not end"))
}
