//! `cargo xtask bench`.

mod alone;
mod bare;
mod bounds;
mod context;
mod counts;
mod distance;
mod engine;
mod far;
mod filled;
mod growth;
mod measure;
mod report;
mod share;
mod turns;
mod workload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::registry::Registry;
use crate::shell::{Run, need_root};
use crate::{deps, fixtures, paths};
use engine::{Engine, copy_store};
use report::Section;

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
///   KILN_BENCH_CACHE      a repository in a registry without TLS ("127.0.0.1:5000/cache") that kiln and
///                         its peers can write to: the peers share results there, too. Docker needs
///                         containerd's image store for that (default: in a registry that is started,
///                         for kiln alone)
///   KILN_BENCH_BEFORE     a former build of kiln, which is measured with a store of its own
///   KILN_BIN              the kiln to measure (default: a release build of this workspace)
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Rounds of each workload; the median counts.
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Only these, separated by commas; `--only help` lists the names. Nothing is written then without
    /// --results.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Do not wait for the disk to come to rest, where that may never be: to try things out.
    #[arg(long)]
    hasty: bool,
    /// Leave out how time grows with the number of things.
    #[arg(long)]
    no_growth: bool,
    /// Count system calls, bytes and statements of small commands instead, and compare them with
    /// tests/bench/counts.json.
    #[arg(long, conflicts_with_all = ["only", "no_growth", "results"])]
    counts: bool,
    /// Write tests/bench/counts.json anew.
    #[arg(long, requires = "counts")]
    record: bool,
    /// Where the tables go.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// Where results are shared.
struct SharedCache {
    /// `HOST:PORT/NAME`.
    repository: String,
    /// Whether the peers can reach it, too.
    for_peers: bool,
    /// The registry, if it was started for this.
    _registry: Option<Registry>,
}

/// Directories and engines of one run of the benchmark.
struct Bench {
    runs: usize,
    /// All that is wanted; empty if that is everything.
    only: Vec<String>,
    with_growth: bool,
    kiln: Engine,
    /// A former build.
    before: Option<Engine>,
    peers: Vec<Engine>,
    cache: SharedCache,
    /// Where the peers' file system starts.
    peer_root: PathBuf,
    /// Directories for contexts: this machine's path, below the peers' root.
    contexts: PathBuf,
    /// Scratch of this machine alone.
    scratch: PathBuf,
    debian: PathBuf,
    busybox: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    check_names(&options.only)?;
    if options.hasty {
        measure::be_hasty();
    }
    need_root("bench")?;
    deps::install(deps::FIXTURES)?;
    deps::install(if options.counts { deps::COUNTS } else { &[] })?;
    let binary = paths::kiln("release")?;
    let scratch = paths::target()?.join("bench");
    if options.counts {
        return count(options, &binary, &scratch);
    }
    let peer_root =
        std::env::var_os("KILN_BENCH_PEER_ROOT").map_or_else(|| "/".into(), PathBuf::from);
    let contexts = peer_root.join("var/tmp/kiln-bench");
    let _cleanup = Cleanup(vec![scratch.clone(), contexts.clone()]);
    for directory in [&scratch, &contexts] {
        clear(directory)?;
    }
    let bench = Bench::open(options, &binary, (scratch, peer_root, contexts))?;

    let mut sections = vec![
        Section::new("Beside other engines", workload::measure(&bench)?),
        Section::new("Results shared through a registry", share::measure(&bench)?),
        Section::new(far::title(), far::measure(&bench)?),
        Section::new("Kiln alone", alone::measure(&bench)?),
    ];
    let mut growth = growth::measure(&bench)?;
    let (rows, records) = filled::measure(&bench)?;
    sections.push(Section::new(filled::title(), rows));
    growth.extend(records);

    let text = report::render(&sections, &growth, &bench)?;
    let usual = || paths::workspace().join("tests/bench/RESULTS.md");
    let all = options.only.is_empty() && !options.no_growth;
    if let Some(path) = options.results.clone().or_else(|| all.then(usual)) {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, &text).with_context(|| path.display().to_string())?;
    }
    println!("{text}");
    Ok(())
}

fn count(options: &Options, binary: &Path, scratch: &Path) -> Result<()> {
    let _cleanup = Cleanup(vec![scratch.to_owned()]);
    clear(scratch)?;
    if options.record {
        counts::record(binary, scratch, options.runs.max(1))
    } else {
        counts::compare(binary, scratch)
    }
}

/// All that `--only` may name.
fn names() -> Vec<&'static str> {
    let builds = workload::names().chain([share::NAME, far::NAME]);
    let rest = [filled::ROWS].into_iter().chain(growth::names());
    let all = builds.chain(alone::names()).chain(rest);
    all.chain([filled::LINE]).collect()
}

/// Refuses names of nothing.
fn check_names(only: &[String]) -> Result<()> {
    let names = names();
    match only.iter().find(|name| !names.contains(&name.as_str())) {
        Some(name) => bail!("there is no `{name}` to measure, but {}", names.join(", ")),
        None => Ok(()),
    }
}

impl Bench {
    fn open(
        options: &Options,
        binary: &Path,
        (scratch, peer_root, contexts): (PathBuf, PathBuf, PathBuf),
    ) -> Result<Self> {
        let tars = [fixtures::debian_tar()?, fixtures::busybox_tar()?];
        let store = scratch.join("store");
        import_bases(binary, &store, &tars)?;
        let base = scratch.join("base");
        copy_store(&store, &base)?;
        let before = match std::env::var_os("KILN_BENCH_BEFORE") {
            Some(binary) => {
                let binary = std::fs::canonicalize(binary).context("KILN_BENCH_BEFORE")?;
                let store = scratch.join("store-before");
                import_bases(&binary, &store, &tars)?;
                let base = scratch.join("base-before");
                copy_store(&store, &base)?;
                Some(Engine::before(&binary, &store).with_base(base))
            }
            None => None,
        };
        let [debian, busybox] = tars;
        Ok(Self {
            runs: options.runs.max(1),
            only: options.only.clone(),
            with_growth: !options.no_growth,
            kiln: Engine::kiln(binary, &store).with_base(base),
            before,
            peers: Engine::peers_from_environment(&peer_root),
            cache: SharedCache::open(&scratch)?,
            peer_root,
            contexts,
            scratch,
            debian,
            busybox,
        })
    }

    /// Whether what has this name is to be measured.
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == name)
    }

    /// The same for a line over the number of something.
    fn wants_growth(&self, name: &str) -> bool {
        self.with_growth && self.wants(name)
    }

    /// Kiln, and the former build of it if there is one.
    fn kilns(&self) -> Vec<&Engine> {
        std::iter::once(&self.kiln).chain(&self.before).collect()
    }

    /// Has the stores give up what is only cached: a workload leaves gigabytes.
    fn tidy(&self) -> Result<()> {
        for kiln in self.kilns() {
            kiln.command().args(["prune", "-f", "--all"]).capture()?;
        }
        Ok(())
    }

    /// All engines, kiln first.
    fn engines(&self) -> Vec<&Engine> {
        let kilns = self.kilns().into_iter();
        kilns.chain(&self.peers).collect()
    }

    /// `HOST:PORT` of the registry.
    fn registry(&self) -> &str {
        let repository = &self.cache.repository;
        repository.split('/').next().unwrap_or_default()
    }
}

impl SharedCache {
    /// The repository that `KILN_BENCH_CACHE` names, or one in a registry of its own.
    fn open(scratch: &Path) -> Result<Self> {
        let named = std::env::var("KILN_BENCH_CACHE");
        if let Some(repository) = named.ok().filter(|r| !r.is_empty()) {
            return Ok(Self {
                repository,
                for_peers: true,
                _registry: None,
            });
        }
        let registry = Registry::start(&scratch.join("registry"), &scratch.join("registry-run"))?;
        Ok(Self {
            repository: format!("{}/cache", registry.address()),
            for_peers: false,
            _registry: Some(registry),
        })
    }
}

/// Gives a new store the base images.
fn import_bases(binary: &Path, store: &Path, [debian, busybox]: &[PathBuf; 2]) -> Result<()> {
    for (tar, name, command) in [
        (debian, "debian:bookworm", "bash"),
        (busybox, "busybox", "sh"),
    ] {
        Run::new(binary)
            .arg("--root")
            .arg(store)
            .args(["import", "-c", &format!("CMD [\"{command}\"]")])
            .arg(tar)
            .arg(name)
            .capture()?;
    }
    Ok(())
}

/// Makes an empty directory of it.
fn clear(directory: &Path) -> Result<()> {
    remove(directory)?;
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}

/// Removes a directory, if it is there.
fn remove(directory: &Path) -> Result<()> {
    let mut tries = 0;
    while let Err(error) = std::fs::remove_dir_all(directory) {
        if error.kind() == std::io::ErrorKind::NotFound {
            break;
        }
        // What maintains a store after a command may still write to it.
        tries += 1;
        if tries > 100 {
            return Err(error).with_context(|| directory.display().to_string());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Removes directories at the end, whatever the end is.
struct Cleanup(Vec<PathBuf>);

impl Drop for Cleanup {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = remove(path) {
                eprintln!("{error:#}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_each_means_one_thing() {
        let all = names();
        let once: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(once.len(), all.len());
        assert!(check_names(&all.iter().map(|&n| n.to_owned()).collect::<Vec<_>>()).is_ok());
        let error = check_names(&["help".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("growth-records"), "{error}");
    }
}
