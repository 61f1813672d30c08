//! `cargo xtask docs`.

use anyhow::Result;

use crate::paths;
use crate::shell::Run;

/// Writes docs/cli/ and the recorded texts of `--help` anew.
pub(crate) fn run() -> Result<()> {
    Run::new("cargo")
        .args(["test", "--package", "kiln-cli", "--quiet"])
        .args(["--bin", "kiln", "--test", "it", "--"])
        .args(["reference::", "help::"])
        .dir(paths::workspace())
        .env("KILN_UPDATE_GOLDEN", "1")
        .run()
}
