//! Sharing results through a registry: export during the build, of the same to another place, with
//! nothing new, import on an empty host, and export of what was built before.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::engine::Engine;
use super::measure::{Taken, median, settle};
use super::report::Shared;
use super::{Bench, clear};

/// 600 files of a megabyte, half of which compress well.
const DOCKERFILE: &str = "ARG LIBRARY\nFROM ${LIBRARY}debian:bookworm\n\
    RUN mkdir /data && for i in $(seq 300); do head -c 1000000 /dev/urandom > /data/r$i; \
    seq 150000 | head -c 1000000 > /data/t$i; done\n\
    RUN sha256sum /data/* > /sums\n";

/// Kiln's time over the peer's, at most.
const LIMIT: f64 = 0.3;

/// What is measured, in this order in each round.
const STATES: [(&str, State); 5] = [
    ("600 MB build with its export", State::Build),
    ("export of the same to another place", State::Elsewhere),
    ("export with nothing new", State::Again),
    ("import on an empty host", State::Import),
    (
        "export of another 600 MB that was built before",
        State::Export,
    ),
];

#[derive(Clone, Copy)]
enum State {
    Build,
    Elsewhere,
    Again,
    Import,
    /// After a build of its own, whose time does not count: no registry has seen its layers.
    Export,
}

/// Measures kiln and its peers.
pub(super) fn measure(bench: &Bench, repository: &str) -> Result<Vec<Shared>> {
    let context = bench.contexts.join("shared");
    std::fs::create_dir_all(&context)?;
    std::fs::write(context.join("Dockerfile"), DOCKERFILE)?;
    let engines: Vec<&Engine> = std::iter::once(&bench.kiln).chain(&bench.peers).collect();
    for engine in &engines {
        engine.build(&context, false)?;
    }
    let mut times = vec![[const { Vec::new() }; STATES.len()]; engines.len()];
    let (mut peak, mut commands) = (0, Vec::new());
    for round in 1..=bench.runs {
        eprintln!("shared results: round {round} of {}", bench.runs);
        // A place that nothing was ever sent to.
        let tag = format!("{repository}-{}-{round}", std::process::id());
        for (engine, times) in engines.iter().zip(&mut times) {
            let place = format!("{tag}-{}", engine.title().to_lowercase());
            let host = bench.scratch.join(format!("host-{round}"));
            for ((_, state), times) in STATES.into_iter().zip(times) {
                let taken = one(engine, &context, &place, state, &host, &mut commands)?;
                times.push(taken.seconds);
                peak = peak.max(taken.peak_kb);
            }
        }
    }
    clear(&context)?;
    commands.sort();
    commands.dedup();
    Ok(STATES
        .into_iter()
        .enumerate()
        .map(|(state, (title, _))| Shared {
            title,
            engines: engines.iter().map(|e| e.title()).collect(),
            times: times.iter().map(|t| median(&t[state])).collect(),
            limit: LIMIT,
            peak_kb: peak,
            commands: commands.clone(),
        })
        .collect())
}

fn one(
    engine: &Engine,
    context: &Path,
    place: &str,
    state: State,
    host: &Path,
    commands: &mut Vec<String>,
) -> Result<Taken> {
    let anew = vec!["--no-cache".to_owned()];
    let arguments = match state {
        State::Build => [anew, engine.cache_to(place).to_vec()].concat(),
        State::Elsewhere => engine.cache_to(&format!("{place}-2")).to_vec(),
        State::Again => engine.cache_to(place).to_vec(),
        State::Import => engine.cache_from(place).to_vec(),
        State::Export => {
            engine.build_with(context, &anew)?;
            engine.cache_to(&format!("{place}-3")).to_vec()
        }
    };
    let engine = match state {
        State::Import => engine.emptied(host)?,
        _ => engine.clone(),
    };
    let shown = engine.shown_with(context, &arguments);
    commands.push(shown.replace(place, "$KILN_BENCH_CACHE"));
    settle();
    engine.build_with(context, &arguments)
}

/// The repository that `KILN_BENCH_CACHE` names.
pub(super) fn repository() -> Option<String> {
    std::env::var("KILN_BENCH_CACHE")
        .ok()
        .filter(|r| !r.is_empty())
}

/// A copy of a store that has base images alone.
pub(super) fn copy_store(from: &Path, to: &Path) -> Result<PathBuf> {
    clear(to)?;
    // What works on it after the last command is done then.
    settle();
    crate::shell::Run::new("cp")
        .args(["-a", "--reflink=auto"])
        .arg(from.join("."))
        .arg(to)
        .capture()
        .context("empty host")?;
    Ok(to.to_path_buf())
}
