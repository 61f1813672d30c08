//! Where things are: the workspace, cargo's target directory, the fixtures.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::shell::Run;

/// The workspace's root.
pub(crate) fn workspace() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map_or_else(|| own.clone(), PathBuf::from)
}

/// Cargo's target directory, wherever the user has put it.
pub(crate) fn target() -> Result<PathBuf> {
    let text = Run::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .dir(workspace())
        .capture()?;
    let data: serde_json::Value = serde_json::from_str(&text).context("cargo metadata")?;
    let path = data["target_directory"]
        .as_str()
        .context("cargo metadata names no target")?;
    Ok(path.into())
}

/// Where fixtures are kept: `$KILN_FIXTURES`, or below the target directory.
pub(crate) fn fixtures() -> Result<PathBuf> {
    match std::env::var_os("KILN_FIXTURES") {
        Some(path) => std::path::absolute(path).context("KILN_FIXTURES"),
        None => Ok(target()?.join("fixtures")),
    }
}

/// Builds kiln in `profile` (`dev` or `release`) and returns the binary; `$KILN_BIN` names one
/// that is already there.
pub(crate) fn kiln(profile: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KILN_BIN") {
        return std::fs::canonicalize(&path)
            .with_context(|| format!("KILN_BIN={}", PathBuf::from(&path).display()));
    }
    Run::new("cargo")
        .args([
            "build",
            "--package",
            "kiln-cli",
            "--bin",
            "kiln",
            "--profile",
            profile,
        ])
        .dir(workspace())
        .run()?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(target()?.join(folder).join("kiln"))
}
