//! Results shared through a registry that is far away: what counts is how often kiln waits for an answer.

use anyhow::{Context as _, Result};

use super::bounds::within;
use super::context;
use super::distance::{Distance, ONE_WAY, Traffic};
use super::engine::Engine;
use super::report::Row;
use super::turns::{Measured, Turns};
use super::{Bench, clear};

/// What `--only` calls it.
pub(super) const NAME: &str = "far";

/// Steps of the build.
const STEPS: usize = 30;

/// Seconds, at most.
const IMPORT: f64 = 0.5;
const FIRST: f64 = 1.2;
const AGAIN: f64 = 0.11;

#[derive(Clone, Copy)]
enum State {
    /// On a host that has nothing, with the registry as the cache.
    Import,
    /// On a host that has nothing, to a place that nothing was sent to.
    First,
    /// The same once more.
    Again,
}

/// In the order of the table.
const STATES: [(&str, State, f64); 3] = [
    ("30 cached steps from an empty store", State::Import, IMPORT),
    (
        "the first build of them with its export",
        State::First,
        FIRST,
    ),
    ("the same with nothing new", State::Again, AGAIN),
];

/// Measures kiln, and a former build of it, at a distance from the registry.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if !bench.wants(NAME) {
        return Ok(Vec::new());
    }
    let context = bench.contexts.join("far");
    clear(&context)?;
    std::fs::write(context.join("Dockerfile"), context::steps(STEPS))?;
    let (registry, repository) = bench
        .cache
        .repository
        .split_once('/')
        .context("a repository of a registry is HOST:PORT/NAME")?;
    let distance = Distance::to(registry)?;
    let engines = bench.kilns();
    let mut states: [Vec<Measured>; 3] = Default::default();
    let mut traffic = [Traffic::default(); 3];
    for round in 1..=bench.runs {
        let place = |engine: &Engine| {
            let name = format!("{repository}-{}-{round}", std::process::id());
            format!("{}/{name}-{}", distance.address(), engine.title())
        };
        let host = |engine: &Engine| bench.scratch.join(format!("far-{}", engine.title()));
        // What is looked for has to be there.
        for (at, index) in [(State::First, 1), (State::Again, 2), (State::Import, 0)] {
            let turns = Turns {
                name: &format!("{}, round {round} of {}", STATES[index].0, bench.runs),
                engines: &engines,
                rounds: 1,
                repeats: 1,
            };
            let one = |engine: &Engine, _: usize, _: usize| {
                let there = match at {
                    State::Again => engine.on_store(&host(engine)),
                    State::First | State::Import => engine.emptied(&host(engine))?,
                };
                let place = place(engine);
                let arguments = match at {
                    State::Import => there.cache_from(&place),
                    State::First | State::Again => there.cache_to(&place),
                };
                distance.traffic();
                let taken = there.build(&context, &arguments)?;
                let passed = distance.traffic();
                if engine.is_kiln() {
                    traffic[index] = passed;
                }
                Ok(taken)
            };
            states[index].push(turns.take(one, None)?);
        }
    }
    clear(&context)?;
    let rows = STATES.into_iter().zip(&states).zip(traffic);
    Ok(rows
        .map(|(((title, _, most), rounds), traffic)| Row {
            facts: vec![
                ("connections", traffic.connections.to_string()),
                ("requests", traffic.requests.to_string()),
            ],
            ..Row::new(title, within(most), &Measured::of_rounds(rounds))
        })
        .collect())
}

/// What the section is called.
pub(super) fn title() -> String {
    format!(
        "A registry behind {} ms of round trip",
        2 * ONE_WAY.as_millis()
    )
}
