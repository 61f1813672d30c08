//! Sharing results through a registry: export during the build, of the same to another place, with
//! nothing new, import on an empty host, and export of what was built before.

use std::path::Path;

use anyhow::Result;

use super::bounds::{Bounds, UNBOUND};
use super::context::DEBIAN;
use super::engine::{Engine, no_cache};
use super::measure::Taken;
use super::report::Row;
use super::turns::{Measured, Turns};
use super::{Bench, clear};

/// 600 files of a megabyte, half of which compress well.
const STEPS: &str = "RUN mkdir /data && for i in $(seq 300); do \
    head -c 1000000 /dev/urandom > /data/r$i; seq 150000 | head -c 1000000 > /data/t$i; done\n\
    RUN sha256sum /data/* > /sums\n";

/// What `--only` calls it.
pub(super) const NAME: &str = "shared";

/// What kiln must reach in each state.
const BOUNDS: Bounds = Bounds {
    to_docker: Some(0.3),
    to_buildah: Some(0.3),
    memory_mb: 90,
    ..UNBOUND
};

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

/// Measures kiln, a former build of it, and the peers where they can reach the repository.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if !bench.wants(NAME) {
        return Ok(Vec::new());
    }
    let context = bench.contexts.join("shared");
    clear(&context)?;
    std::fs::write(context.join("Dockerfile"), format!("{DEBIAN}{STEPS}"))?;
    let mut engines = bench.kilns();
    if bench.cache.for_peers {
        engines.extend(&bench.peers);
    }
    for engine in &engines {
        engine.build(&context, &[])?;
    }
    // Each state of a round needs those before it.
    let mut states: Vec<Vec<Measured>> = vec![Vec::new(); STATES.len()];
    let mut commands = Vec::new();
    for round in 1..=bench.runs {
        // A place that nothing was ever sent to.
        let tag = format!("{}-{}-{round}", bench.cache.repository, std::process::id());
        for ((name, state), all) in STATES.into_iter().zip(&mut states) {
            let turns = Turns {
                name: &format!("{name}, round {round} of {}", bench.runs),
                engines: &engines,
                rounds: 1,
                repeats: 1,
            };
            let one = |engine: &Engine, _: usize, _: usize| {
                let place = format!("{tag}-{}", engine.title().to_lowercase());
                let host = format!("host-{}", engine.title().to_lowercase());
                let host = bench.scratch.join(host);
                one(engine, &context, &place, state, &host, &mut commands)
            };
            all.push(turns.take(one, None)?);
        }
    }
    clear(&context)?;
    bench.tidy()?;
    commands.sort();
    commands.dedup();
    let rows = STATES.into_iter().zip(&states);
    Ok(rows
        .map(|((title, _), rounds)| Row {
            commands: commands.clone(),
            ..Row::new(title, BOUNDS, &Measured::of_rounds(rounds))
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
    let arguments = match state {
        State::Build => [no_cache(), engine.cache_to(place).to_vec()].concat(),
        State::Elsewhere => engine.cache_to(&format!("{place}-2")).to_vec(),
        State::Again => engine.cache_to(place).to_vec(),
        State::Import => engine.cache_from(place).to_vec(),
        State::Export => {
            engine.build(context, &no_cache())?;
            engine.cache_to(&format!("{place}-3")).to_vec()
        }
    };
    let engine = match state {
        State::Import => engine.emptied(host)?,
        _ => engine.clone(),
    };
    let shown = engine.shown(&engine.build_command(context, &arguments)?);
    commands.push(shown.replace(place, "$KILN_BENCH_CACHE"));
    engine.build(context, &arguments)
}
