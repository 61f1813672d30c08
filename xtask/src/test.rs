//! `cargo xtask test`.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::registry::Registry;
use crate::shell::{Run, exists, need_root};
use crate::{deps, fixtures, paths};

/// Installs what is missing, makes the fixtures once, serves them from a registry on loopback
/// and runs the tests of the whole workspace, also those that `cargo test` leaves out because they
/// need root or a package.
///
/// Environment: KILN_BIN is the binary that the end to end tests drive (default: the one of this
/// workspace), KILN_FIXTURES a directory for the base images (default: below cargo's target).
#[derive(Args)]
pub(crate) struct Options {
    /// Passed on to the test runner: filters, `-p crate`, `--no-capture`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    need_root("test")?;
    deps::install(deps::FIXTURES)?;
    deps::install(deps::TESTS)?;
    let fixtures = fixtures::make()?;
    let s3 = fixtures::s3_server()?;
    let kiln = paths::kiln("dev")?;

    let scratch = fixtures.root.join(format!("run-{}", std::process::id()));
    let registry = Registry::start(&fixtures.registry, &scratch)?;
    let config = scratch.join("kiln.toml");
    std::fs::write(&config, fixtures::kiln_config(&registry.address())).context("kiln's config")?;

    // Plain `cargo test` leaves out what needs root or a package; here nothing is missing.
    let with_nextest = exists("cargo-nextest");
    let runner = if with_nextest {
        Run::new("cargo")
            .args(["nextest", "run", "--workspace", "--run-ignored", "all"])
            .args(&options.arguments)
    } else {
        let mut words = options.arguments.split(|word| word == "--");
        Run::new("cargo")
            .args(["test", "--workspace", "--no-fail-fast"])
            .args(words.next().unwrap_or_default())
            .args(["--", "--include-ignored"])
            .args(words.flatten())
    };
    let mut result = runner
        .dir(paths::workspace())
        .env("KILN_TEST_BIN", kiln)
        .env("KILN_TEST_REGISTRY", registry.address())
        .env("KILN_TEST_S3", s3)
        .env("KILN_TEST_CONFIG", &config)
        .env("KILN_CONFIG", &config)
        .run();
    // nextest runs no examples of the documentation; they take no filters of its language either.
    if with_nextest && options.arguments.is_empty() {
        let examples = Run::new("cargo").args(["test", "--workspace", "--doc"]);
        result = result.and(examples.dir(paths::workspace()).run());
    }
    drop(registry);
    // Only a log and two small files; the next run makes its own.
    let _ = std::fs::remove_dir_all(&scratch);
    result
}
