//! What kiln is measured at alone, or beside a former build of it: each has a bound in seconds.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::bare::Bare;
use super::bounds::{Bounds, UNBOUND, within};
use super::context::{self, BUSYBOX, DEBIAN};
use super::engine::{Engine, no_cache};
use super::measure::{Taken, at_once};
use super::report::Row;
use super::turns::{BareRun, Turns};
use super::{Bench, clear};
use crate::shell::Run;

/// Runs in each round of what takes milliseconds.
const SHORT: usize = 5;

/// What `kiln run` takes beyond the process that it runs, in seconds at most.
const RUN_BEYOND_BARE: f64 = 0.008;

// Seconds at most.
const VERSION: f64 = 0.005;
const IMAGES: f64 = 0.008;
const COPY_FROM: f64 = 1.0;
const ONE_CHANGED: f64 = 0.2;
const IGNORED: f64 = 0.1;
const STEPS_300: f64 = 0.06;
const BUILDS_AT_ONCE: f64 = 0.4;
const FROM_NOTHING: f64 = 4.0;

const MANY_FILES: usize = 25_000;
const MANY_STEPS: usize = 300;
const MANY_BUILDS: usize = 32;

/// A measurement, and what `--only` calls it.
type Part = (&'static str, fn(&Bench, &str) -> Result<Row>);

/// In the order of the table.
const PARTS: [Part; 9] = [
    ("version", version),
    ("images", images),
    ("run", run),
    ("copy-from", copy_from),
    ("changed", changed),
    ("ignored", ignored),
    ("cached-300", cached),
    ("at-once", builds_at_once),
    ("from-nothing", from_nothing),
];

/// What `--only` calls them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PARTS.iter().map(|(name, _)| *name)
}

/// Measures those that are wanted.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let wanted = PARTS.iter().filter(|(name, _)| bench.wants(name));
    wanted.map(|(name, part)| part(bench, name)).collect()
}

fn take(
    bench: &Bench,
    name: &str,
    repeats: usize,
    (title, bounds): (&str, Bounds),
    one: impl FnMut(&Engine, usize, usize) -> Result<Taken>,
    bare: Option<BareRun<'_>>,
) -> Result<Row> {
    let turns = Turns {
        name,
        engines: &bench.kilns(),
        rounds: bench.runs,
        repeats,
    };
    Ok(Row::new(title, bounds, &turns.take(one, bare)?))
}

/// An empty directory for a context with this Dockerfile.
fn new_context(bench: &Bench, name: &str, dockerfile: &str) -> Result<PathBuf> {
    let at = bench.contexts.join(name);
    clear(&at)?;
    std::fs::write(at.join("Dockerfile"), dockerfile)?;
    Ok(at)
}

/// Builds with all engines, so that the next time all is cached.
fn build_once(bench: &Bench, context: &Path) -> Result<()> {
    for engine in bench.kilns() {
        engine.build(context, &[])?;
    }
    Ok(())
}

fn version(bench: &Bench, name: &str) -> Result<Row> {
    let row = ("kiln --version", within(VERSION));
    let one =
        |engine: &Engine, _: usize, _: usize| engine.measure(&engine.command().arg("--version"));
    take(bench, name, SHORT, row, one, None)
}

fn images(bench: &Bench, name: &str) -> Result<Row> {
    let row = ("kiln images", within(IMAGES));
    let one = |engine: &Engine, _: usize, _: usize| engine.measure(&engine.command().arg("images"));
    take(bench, name, SHORT, row, one, None)
}

fn run(bench: &Bench, name: &str) -> Result<Row> {
    let bounds = Bounds {
        beyond_bare: Some(RUN_BEYOND_BARE),
        ..UNBOUND
    };
    let row = ("kiln run --rm --network none busybox true", bounds);
    let root = Bare::prepare(&bench.busybox, &bench.scratch.join("bare-run"))?;
    let words = ["run", "--rm", "--network", "none", "busybox", "true"];
    let one = |engine: &Engine, _: usize, _: usize| engine.measure(&engine.command().args(words));
    let mut bare = |_: usize, _: usize| root.run(&["/bin/busybox", "true"]);
    take(bench, name, SHORT, row, one, Some(&mut bare))
}

fn copy_from(bench: &Bench, name: &str) -> Result<Row> {
    let text = format!(
        "ARG LIBRARY\nFROM ${{LIBRARY}}debian:bookworm AS all\n{}COPY --from=all /usr /usr\n",
        BUSYBOX.trim_start_matches("ARG LIBRARY\n")
    );
    let context = new_context(bench, name, &text)?;
    let row = ("COPY --from of 8,500 files, no cache", within(COPY_FROM));
    let one = |engine: &Engine, _: usize, _: usize| engine.build(&context, &no_cache());
    take(bench, name, 1, row, one, None)
}

fn changed(bench: &Bench, name: &str) -> Result<Row> {
    let context = new_context(bench, name, &format!("{BUSYBOX}COPY . .\n"))?;
    let files = context.join("src");
    context::write_files(&files, MANY_FILES)?;
    build_once(bench, &context)?;
    let title = "COPY . . after one of 25,000 files has changed";
    let one = |engine: &Engine, round: usize, _: usize| {
        // Once in a round: the second engine finds the change of the first, which it has not seen.
        context::change_file(&files, MANY_FILES / 2, round)?;
        engine.build(&context, &[])
    };
    let row = take(bench, name, 1, (title, within(ONE_CHANGED)), one, None);
    clear(&context)?;
    row
}

fn ignored(bench: &Bench, name: &str) -> Result<Row> {
    let context = new_context(bench, name, &format!("{BUSYBOX}COPY . .\n"))?;
    context::write_files(&context.join("src"), MANY_FILES)?;
    // The first directory has a hundred.
    std::fs::write(context.join(".dockerignore"), "*\n!src/0\n")?;
    let title = "COPY of a context of 25,000 files of which .dockerignore keeps 100, no cache";
    let one = |engine: &Engine, _: usize, _: usize| engine.build(&context, &no_cache());
    let row = take(bench, name, 1, (title, within(IGNORED)), one, None);
    clear(&context)?;
    row
}

fn cached(bench: &Bench, name: &str) -> Result<Row> {
    let context = new_context(bench, name, &context::steps(MANY_STEPS))?;
    build_once(bench, &context)?;
    let row = ("a Dockerfile of 300 steps, cached", within(STEPS_300));
    let one = |engine: &Engine, _: usize, _: usize| engine.build(&context, &[]);
    take(bench, name, SHORT, row, one, None)
}

fn builds_at_once(bench: &Bench, name: &str) -> Result<Row> {
    let contexts = different_contexts(bench, name, MANY_BUILDS, 30)?;
    for context in &contexts {
        build_once(bench, context)?;
    }
    let row = (
        "32 different cached builds of 30 steps at once",
        within(BUILDS_AT_ONCE),
    );
    let one = |engine: &Engine, _: usize, _: usize| {
        let builds = builds(engine, &contexts, &[])?;
        engine.settle()?;
        at_once(&builds, engine.is_kiln())
    };
    take(bench, name, 1, row, one, None)
}

/// So many contexts of so many steps, no two with a step in common.
pub(super) fn different_contexts(
    bench: &Bench,
    name: &str,
    count: usize,
    steps: usize,
) -> Result<Vec<PathBuf>> {
    let contexts = (0..count).map(|number| {
        let text = context::steps(steps).replace("echo", &format!("echo {number}"));
        new_context(bench, &format!("{name}-{number}"), &text)
    });
    contexts.collect()
}

/// The commands that build these contexts, each to an image of its own.
pub(super) fn builds(
    engine: &Engine,
    contexts: &[PathBuf],
    arguments: &[String],
) -> Result<Vec<Run>> {
    let builds = contexts.iter().enumerate().map(|(number, context)| {
        let name = ["-t".to_owned(), format!("kiln-bench-{number}")];
        engine.build_command(context, &[&name, arguments].concat())
    });
    builds.collect()
}

/// The base comes from a registry, and the result goes there.
fn from_nothing(bench: &Bench, name: &str) -> Result<Row> {
    let registry = bench.registry();
    let base = format!("{registry}/kiln-bench-base");
    let seed = new_context(bench, name, DEBIAN)?;
    let push = |name: &str| ["-t", name, "--push"].map(str::to_owned);
    bench.kiln.build(&seed, &push(&base))?;
    let text = format!("FROM {base}\nRUN echo a > /a\nRUN sha256sum /usr/bin/* > /sums\n");
    let context = new_context(bench, name, &text)?;
    let title =
        "a build that reads its base (debian) from a registry and pushes its result, from nothing";
    let one = |engine: &Engine, round: usize, _: usize| {
        let store = bench.scratch.join(format!("nothing-{}", engine.title()));
        clear(&store)?;
        // The registry has none of its layers but those of the base, in another repository.
        let result = format!(
            "{registry}/kiln-bench-{}-{}-{round}",
            engine.title(),
            std::process::id()
        );
        engine.on_store(&store).build(&context, &push(&result))
    };
    take(bench, name, 1, (title, within(FROM_NOTHING)), one, None)
}
