//! What the binary prints, held against what was recorded in `testdata/golden/`. Needs neither root nor
//! a network.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod checks;
mod corpus;
mod errors;
mod help;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where it is recorded.
fn golden(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/golden");
    root.join(name)
}

/// kiln in an empty directory, whose settings are the defaults and whose store is below it.
fn kiln(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .env("KILN_ROOT", dir.join("store"))
        .env("KILN_CONFIG", "/dev/null")
        .stdin(Stdio::null());
    command
}
