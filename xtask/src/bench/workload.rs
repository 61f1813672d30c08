//! Builds that kiln, a former build of it and its peers do in turn.

use anyhow::Result;

use super::bare::{Bare, walk};
use super::bounds::{Bounds, UNBOUND};
use super::context::{self, DEBIAN};
use super::engine::{Engine, no_cache};
use super::report::Row;
use super::turns::{BareRun, Turns};
use super::{Bench, clear};

/// What kiln must reach in one state of the cache.
struct State {
    /// Everything is cached, or nothing is.
    cached: bool,
    bounds: Bounds,
}

/// What a build is held against that no engine does.
#[derive(Clone, Copy)]
enum Without {
    Nothing,
    /// The command of its RUN, in a chroot.
    Command(&'static str),
    /// One thread that looks at every file of the context.
    Walk,
}

/// A context and what is measured with it.
struct Workload {
    /// A directory's name.
    name: &'static str,
    title: &'static str,
    states: &'static [State],
    without: Without,
    dockerfile: fn() -> String,
    files: usize,
}

/// One process that writes 34,000 files of 17.6 kB in 340 directories.
const WRITE: &str = "mkdir /data && cd /data && \
    mawk 'BEGIN { b = \"x\"; while (length(b) < 17600) b = b b; b = substr(b, 1, 17600); \
    for (d = 0; d < 340; d++) { system(\"mkdir \" d); \
    for (f = 0; f < 100; f++) { n = d \"/\" f; print d, f, b > n; close(n) } } }'";

const APT: &str = "apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nginx-light curl";

/// Much is read from layers below.
const USR: &str = "for copy in 1 2 3; do cp -a /usr /usr$copy; done";

/// All of them, in the order of the table.
const ALL: &[Workload] = &[
    Workload {
        name: "steps",
        title: "30 trivial RUN steps on busybox",
        states: &[
            State {
                cached: false,
                bounds: Bounds {
                    to_docker: Some(0.07),
                    ..UNBOUND
                },
            },
            State {
                cached: true,
                bounds: Bounds {
                    seconds: Some(0.008),
                    to_docker: Some(0.06),
                    ..UNBOUND
                },
            },
        ],
        without: Without::Nothing,
        dockerfile: || context::steps(30),
        files: 0,
    },
    Workload {
        name: "copy",
        title: "COPY of 25,000 files (100 MB, 250 directories) and one RUN",
        states: &[
            State {
                cached: false,
                bounds: Bounds {
                    to_docker: Some(0.09),
                    to_before: Some(0.5),
                    ..UNBOUND
                },
            },
            State {
                cached: true,
                bounds: Bounds {
                    to_docker: Some(0.045),
                    to_bare: Some(0.8),
                    ..UNBOUND
                },
            },
        ],
        without: Without::Walk,
        dockerfile: context::copy,
        files: 25_000,
    },
    Workload {
        name: "write",
        title: "RUN that writes 34,000 files, 600 MB",
        states: &[State {
            cached: false,
            bounds: Bounds {
                to_docker: Some(0.4),
                to_bare: Some(1.25),
                ..UNBOUND
            },
        }],
        without: Without::Command(WRITE),
        dockerfile: || format!("{DEBIAN}RUN {WRITE}\n"),
        files: 0,
    },
    Workload {
        name: "usr",
        title: "RUN that copies /usr of debian (180 MB, 8,500 files) three times",
        states: &[State {
            cached: false,
            bounds: Bounds {
                to_docker: Some(0.2),
                to_bare: Some(1.25),
                ..UNBOUND
            },
        }],
        without: Without::Command(USR),
        dockerfile: || format!("{DEBIAN}RUN {USR}\n"),
        files: 0,
    },
    Workload {
        name: "apt",
        title: "apt-get install of nginx-light and curl",
        states: &[State {
            cached: false,
            bounds: Bounds {
                to_docker: Some(0.65),
                to_bare: Some(1.2),
                ..UNBOUND
            },
        }],
        without: Without::Command(APT),
        dockerfile: || format!("{DEBIAN}RUN {APT}\n"),
        files: 0,
    },
    Workload {
        name: "stages",
        title: "8 stages of sleep 1",
        states: &[State {
            cached: false,
            bounds: Bounds {
                to_docker: Some(0.45),
                ..UNBOUND
            },
        }],
        without: Without::Nothing,
        dockerfile: || context::stages(8),
        files: 0,
    },
];

/// What `--only` calls them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|workload| workload.name)
}

/// Measures those that are wanted.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for workload in ALL.iter().filter(|w| bench.wants(w.name)) {
        let at = bench.contexts.join(workload.name);
        clear(&at)?;
        std::fs::write(at.join("Dockerfile"), (workload.dockerfile)())?;
        if workload.files > 0 {
            context::write_files(&at.join("src"), workload.files)?;
        }
        for state in workload.states {
            rows.push(one(bench, workload, state)?);
        }
        clear(&at)?;
        bench.tidy()?;
    }
    Ok(rows)
}

fn one(bench: &Bench, workload: &Workload, state: &State) -> Result<Row> {
    let at = bench.contexts.join(workload.name);
    let engines = bench.engines();
    let arguments = if state.cached { Vec::new() } else { no_cache() };
    if state.cached {
        for engine in &engines {
            engine.build(&at, &arguments)?;
        }
    }
    let how = if state.cached { "cached" } else { "no cache" };
    let mut bare = |round: usize, run: usize| match workload.without {
        Without::Command(command) => {
            // A new one each time: removing the last one would slow this one down.
            let root = format!("bare-{}-{round}-{run}", workload.name);
            let root = Bare::prepare(&bench.debian, &bench.scratch.join(root))?;
            root.run(&["/bin/sh", "-c", command])
        }
        Without::Walk | Without::Nothing => walk(&at),
    };
    let is_compared = state.bounds.to_bare.is_some();
    let turns = Turns {
        name: &format!("{}, {how}", workload.name),
        engines: &engines,
        rounds: bench.runs,
        repeats: 1,
    };
    let build = |engine: &Engine, _: usize, _: usize| engine.build(&at, &arguments);
    let bare: Option<BareRun<'_>> = if is_compared { Some(&mut bare) } else { None };
    let measured = turns.take(build, bare)?;
    let commands = engines.iter().map(|engine| {
        let run = engine.build_command(&at, &arguments)?;
        Ok(engine.shown(&run))
    });
    Ok(Row {
        commands: commands.collect::<Result<_>>()?,
        ..Row::new(
            format!("{}, {how}", workload.title),
            state.bounds,
            &measured,
        )
    })
}
