//! `cargo xtask bench`.

mod engine;
mod growth;
mod measure;
mod report;
mod share;
mod workload;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::shell::{Run, need_root};
use crate::{deps, fixtures, paths};
use engine::{Bare, Engine};
use measure::median;
use report::Row;
use workload::Workload;

/// Measures kiln beside other engines and writes tests/bench/RESULTS.md.
///
/// A peer is measured when the environment names its command:
///
///   KILN_BENCH_DOCKER     `docker`, or any words that run it ("chroot /peers docker"); gets `build …`
///   KILN_BENCH_BUILDAH    `buildah`, likewise; gets `bud …`
///   KILN_BENCH_PEER_ROOT  where the peers' file system starts, if they run in a root of their own:
///                         contexts are written below it (default: /)
///   KILN_BENCH_LIBRARY    what stands before `busybox` and `debian:bookworm` in the peers' FROM
///                         ("127.0.0.1:5000/library/"; default: nothing)
///   KILN_BENCH_CACHE      a repository in a registry ("127.0.0.1:5000/cache") that kiln and Docker can
///                         write to: what sharing results costs is measured, too. Docker needs
///                         containerd's image store for that
///   KILN_BIN              the kiln to measure (default: a release build of this workspace)
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Runs of each workload; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only the workloads whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Leave out how time grows with steps and files.
    #[arg(long)]
    no_growth: bool,
    /// Where the table goes.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// Directories and engines of one run of the benchmark.
struct Bench {
    runs: usize,
    kiln: Engine,
    peers: Vec<Engine>,
    /// Where the peers' file system starts.
    peer_root: PathBuf,
    /// Directories for contexts: this machine's path, below the peers' root.
    contexts: PathBuf,
    /// Scratch of this machine alone.
    scratch: PathBuf,
    debian: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    need_root("bench")?;
    deps::install(deps::FIXTURES)?;
    let binary = paths::kiln("release")?;
    let (debian, busybox) = (fixtures::debian_tar()?, fixtures::busybox_tar()?);

    let scratch = paths::target()?.join("bench");
    let peer_root =
        std::env::var_os("KILN_BENCH_PEER_ROOT").map_or_else(|| "/".into(), PathBuf::from);
    let contexts = peer_root.join("var/tmp/kiln-bench");
    let _cleanup = Cleanup([scratch.clone(), contexts.clone()]);
    for directory in [&scratch, &contexts] {
        clear(directory)?;
    }

    let store = scratch.join("store");
    for (tar, name, command) in [
        (&debian, "debian:bookworm", "bash"),
        (&busybox, "busybox", "sh"),
    ] {
        Run::new(&binary)
            .arg("--root")
            .arg(&store)
            .args(["import", "-c", &format!("CMD [\"{command}\"]")])
            .arg(tar)
            .arg(name)
            .capture()?;
    }
    let base = share::copy_store(&store, &scratch.join("base"))?;
    let bench = Bench {
        runs: options.runs.max(1),
        kiln: Engine::kiln(&binary, &store).with_base(base),
        peers: Engine::peers_from_environment(&peer_root),
        peer_root,
        contexts,
        scratch,
        debian,
    };

    let wanted = |name: &str| {
        options
            .only
            .as_deref()
            .is_none_or(|part| name.contains(part))
    };
    let mut rows = Vec::new();
    for workload in workload::all().iter().filter(|w| wanted(w.name)) {
        rows.extend(bench.measure(workload)?);
    }
    let shared = match share::repository().filter(|_| wanted("shared")) {
        Some(repository) => share::measure(&bench, &repository)?,
        None => Vec::new(),
    };
    let growth = if options.no_growth {
        Vec::new()
    } else {
        growth::measure(&bench)?
    };

    let text = report::render(&rows, &shared, &growth, &bench)?;
    let path = options
        .results
        .clone()
        .unwrap_or_else(|| paths::workspace().join("tests/bench/RESULTS.md"));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&path, &text).with_context(|| path.display().to_string())?;
    println!("{text}");
    Ok(())
}

impl Bench {
    /// One row for the workload without a cache, and one with everything cached if it asks.
    fn measure(&self, workload: &Workload) -> Result<Vec<Row>> {
        let context = self.contexts.join(workload.name);
        std::fs::create_dir_all(&context)?;
        workload.write(&context)?;
        let engines: Vec<&Engine> = std::iter::once(&self.kiln).chain(&self.peers).collect();
        let mut rows = Vec::new();
        for limit in workload.limits {
            let mut times = vec![Vec::new(); engines.len()];
            let mut bare = Vec::new();
            let mut peak = 0;
            if limit.cached {
                for engine in &engines {
                    engine.build(&context, false)?;
                }
            }
            for round in 1..=self.runs {
                eprintln!(
                    "{}, {}: round {round} of {}",
                    workload.name,
                    limit.state(),
                    self.runs
                );
                for (engine, times) in engines.iter().zip(&mut times) {
                    measure::settle();
                    let taken = engine.build(&context, !limit.cached)?;
                    times.push(taken.seconds);
                    if engine.is_kiln() {
                        peak = peak.max(taken.peak_kb);
                    }
                }
                if let (Some(command), Some(_)) = (workload.bare, limit.to_bare) {
                    // A new one each time: removing the last one would slow this one down.
                    let root = self.scratch.join(format!("bare-{}-{round}", workload.name));
                    let root = Bare::prepare(&self.debian, &root)?;
                    bare.push(root.run(command)?);
                }
            }
            rows.push(Row {
                workload: workload.title.to_owned(),
                limit: *limit,
                times: times.iter().map(|t| median(t)).collect(),
                bare: (!bare.is_empty()).then(|| median(&bare)),
                peak_kb: peak,
                commands: engines
                    .iter()
                    .map(|e| e.shown(&context, !limit.cached))
                    .collect(),
            });
        }
        clear(&context)?;
        Ok(rows)
    }
}

/// Makes an empty directory of it.
fn clear(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}

/// Removes directories at the end, whatever the end is.
struct Cleanup([PathBuf; 2]);

impl Drop for Cleanup {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = std::fs::remove_dir_all(path) {
                eprintln!("{}: {error}", path.display());
            }
        }
    }
}
