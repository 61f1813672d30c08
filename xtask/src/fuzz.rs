//! `cargo xtask fuzz`.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::paths;
use crate::shell::{Run, exists};

/// Runs a fuzz target, or each of them in turn, and fails where one crashes, hangs or is slow.
///
/// It takes a nightly toolchain, and installs cargo-fuzz where it is missing. Inputs that reach new
/// code stay below cargo's target directory; with --keep they are merged into fuzz/corpus/, which
/// ordinary tests feed to the same checks. An input that fails is written to fuzz/artifacts/.
#[derive(Args)]
pub(crate) struct Options {
    /// Target; all of them unless given
    target: Option<String>,
    /// How long each one runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Merge what reaches new code into the corpus
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !exists("cargo-fuzz") {
        Run::new("cargo")
            .args(["install", "--locked", "cargo-fuzz"])
            .run()?;
    }
    let known = targets()?;
    let chosen: Vec<&String> = match &options.target {
        None => known.iter().collect(),
        Some(name) => known.iter().filter(|known| *known == name).collect(),
    };
    if chosen.is_empty() {
        bail!("the fuzz targets are: {}", known.join(", "));
    }
    for target in chosen {
        fuzz(target, options)?;
    }
    Ok(())
}

/// The names of the targets.
fn targets() -> Result<Vec<String>> {
    let dir = paths::workspace().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn fuzz(target: &str, options: &Options) -> Result<()> {
    let root = paths::workspace();
    let corpus = root.join("fuzz/corpus").join(target);
    let found = paths::target()?.join("fuzz-corpus").join(target);
    for dir in [&found, &corpus] {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    // Sanitizers look for what safe code cannot do.
    let run = |first: &Path, second: &Path| {
        Run::new("cargo")
            .args(["+nightly", "fuzz", "run", "--sanitizer", "none", target])
            .args([first, second])
            .args(["--", "-max_len=4096"])
            .dir(&root)
    };
    // What is new goes to the first directory.
    let mut fuzzing = run(&found, &corpus)
        .args(["-timeout=10", "-report_slow_units=10"])
        .arg(format!("-max_total_time={}", options.seconds));
    let words = root.join(format!("fuzz/dictionaries/{target}.dict"));
    if words.exists() {
        fuzzing = fuzzing.arg(format!("-dict={}", words.display()));
    }
    fuzzing.run()?;
    if options.keep {
        run(&corpus, &found).arg("-merge=1").run()?;
    }
    Ok(())
}
