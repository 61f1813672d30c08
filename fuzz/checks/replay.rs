//! Feeds the corpus of a fuzz target to its check, so that ordinary tests do it, too.

use std::panic::{RefUnwindSafe, catch_unwind};
use std::path::Path;

/// Runs `check` on every file of the target's corpus.
pub(crate) fn replay(target: &str, check: impl Fn(&[u8]) + RefUnwindSafe) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.unwrap_or_else(|e| panic!("{e}")).path();
        let data = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        count += 1;
        if catch_unwind(|| check(&data)).is_err() {
            panic!("the check fails for {}", path.display());
        }
    }
    assert!(count > 0, "{} is empty", dir.display());
}
