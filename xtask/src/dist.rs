//! The static binary.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::deps;
use crate::paths;
use crate::shell::Run;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds kiln linked statically with glibc, in a target directory of its own so that the flags
/// do not make other builds start over, and checks the result.
pub(crate) fn run() -> Result<PathBuf> {
    deps::install(&[("cc", "gcc"), ("", "libc6-dev"), ("file", "file")])?;
    let target = paths::target()?.join("dist");
    Run::new("cargo")
        .args([
            "build",
            "--release",
            "--package",
            "kiln-cli",
            "--bin",
            "kiln",
            "--target",
            TARGET,
        ])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_DIR", &target)
        .dir(paths::workspace())
        .run()?;
    let binary = target.join(TARGET).join("release/kiln");
    let kind = Run::new("file").arg("-b").arg(&binary).capture()?;
    if !kind.contains("static") {
        bail!("{} is not static: {kind}", binary.display());
    }
    // ldd fails on a static program, or says that it is linked statically where it is a PIE.
    let libraries = Run::new("ldd").arg(&binary).capture().unwrap_or_default();
    if libraries.contains("=>") {
        bail!("{} needs libraries:\n{libraries}", binary.display());
    }
    let version = Run::new(&binary).arg("--version").capture()?;
    eprintln!("{}: {}", version.trim(), kind.trim());
    Ok(binary)
}
