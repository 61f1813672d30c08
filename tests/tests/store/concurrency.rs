//! Many builds, one store.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_tests::{Built, Lab, Outcome, Random};
use nix::sys::signal::Signal;

/// One of eight Dockerfiles that share some of their steps.
fn dockerfile(kind: u64) -> String {
    format!(
        "FROM busybox AS base\nRUN echo shared > /shared; sleep 0.05\nCOPY common /common\n\
         FROM base AS left\nRUN echo {} > /left; sleep 0.05\n\
         FROM base AS right\nRUN --mount=type=cache,target=/c echo {} > /right; date >> /c/log\n\
         FROM busybox\nCOPY --from=left /left /\nCOPY --from=right /right /\nRUN cat /left /right > /both; echo {kind} >> /both\n",
        kind / 4,
        kind % 2
    )
}

#[test]
fn alone_64_builds_at_once() {
    let lab = Lab::new();
    let mut random = Random::new();
    lab.kiln(["pull", "busybox"]).output().ok();
    let contexts: Vec<_> = (0..8)
        .map(|kind| {
            let files = [("Dockerfile", &*dockerfile(kind)), ("common", "common\n")];
            lab.context(&format!("c{kind}"), &files)
        })
        .collect();
    let mut runs = Vec::new();
    for (n, context) in (0..64u64).zip(contexts.iter().cycle()) {
        let kind = n % 8;
        let (no_cache, interrupted) = (n % 11 == 5, n % 7 == 3);
        let mut build = lab.build(context).tag(&format!("x{kind}"));
        if no_cache {
            build = build.arg("--no-cache");
        }
        let run = build.start();
        let delay = interrupted.then(|| Duration::from_millis(random.below(2500)));
        runs.push(std::thread::spawn(move || {
            if let Some(delay) = delay {
                std::thread::sleep(delay);
                run.signal(Signal::SIGINT);
            }
            (n, no_cache, interrupted, run.wait())
        }));
    }
    let mut ran: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for run in runs {
        let (n, no_cache, interrupted, out) = run.join().unwrap();
        let out = out.orderly();
        if interrupted {
            // Before kiln has a handler, the signal itself ends it.
            let ended = out.succeeded() || matches!(out.code(), None | Some(130));
            assert!(ended, "build {n}: {out}");
        } else {
            assert!(out.succeeded(), "build {n}: {out}");
        }
        if no_cache {
            continue;
        }
        for step in Built::of(&out)
            .steps
            .values()
            .filter(|s| s.outcome == Some(Outcome::Ran))
        {
            if let (Some(key), true) = (
                &step.key,
                step.name.contains("RUN ") || step.name.contains("COPY "),
            ) {
                ran.entry(format!("{key} {}", step.name))
                    .or_default()
                    .push(n);
            }
        }
    }
    let twice: Vec<_> = ran.iter().filter(|(_, by)| by.len() > 1).collect();
    assert!(twice.is_empty(), "ran more than once: {twice:#?}");
    assert!(!ran.is_empty(), "no step has run, or none tells its key");
    for kind in 0..8u64 {
        let both = lab.run(&format!("x{kind}"), &["cat", "/both"]);
        assert_eq!(both, format!("{}\n{}\n{kind}", kind / 4, kind % 2));
    }
    lab.assert_clean();
}

/// Two processes that want the same step share one run of it.
#[test]
fn a_step_runs_once_for_two_builds() {
    let lab = Lab::new();
    lab.kiln(["pull", "busybox"]).output().ok();
    let context = lab.dockerfile("FROM busybox\nRUN sleep 1.5; date +%s%N > /when\n");
    let runs: Vec<_> = (0..2)
        .map(|n| lab.build(&context).tag(&format!("x{n}")).start())
        .collect();
    let built: Vec<Built> = runs
        .into_iter()
        .map(|r| Built::of(&r.wait().ok()))
        .collect();
    let ran: usize = built.iter().map(|b| b.ran().len()).sum();
    assert_eq!(ran, 1, "{built:#?}");
    assert_eq!(
        lab.run("x0", &["cat", "/when"]),
        lab.run("x1", &["cat", "/when"])
    );
}

/// The one who waits takes over when the one who runs is killed.
#[test]
fn a_waiter_takes_over_from_a_killed_build() {
    let lab = Lab::new();
    lab.kiln(["pull", "busybox"]).output().ok();
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        let context = lab.dockerfile(&format!(
            "FROM busybox\nRUN sleep 1; echo {signal} > /done\n"
        ));
        let first = lab.build(&context).start();
        std::thread::sleep(Duration::from_millis(400));
        let second = lab.build(&context).tag("x").start();
        std::thread::sleep(Duration::from_millis(200));
        first.signal(signal);
        assert!(!first.wait().succeeded());
        let built = Built::of(&second.wait().ok());
        assert_eq!(built.ran().len(), 1);
        assert_eq!(lab.run("x", &["cat", "/done"]), signal.as_str());
    }
}

/// Stages that do not need one another run side by side: each waits until all have begun.
#[test]
fn eight_stages_run_at_once() {
    let lab = Lab::new();
    let mut text = String::new();
    let mut last = "FROM scratch\n".to_owned();
    for n in 0..8 {
        text.push_str(&format!(
            "FROM busybox AS s{n}\n\
             RUN --mount=type=cache,target=/begun echo {n} | tee /begun/{n} > /{n}; \
             for i in $(seq 600); do [ $(ls /begun | wc -l) = 8 ] && exit 0; sleep 0.1; done; exit 1\n"
        ));
        last.push_str(&format!("COPY --from=s{n} /{n} /\n"));
    }
    let context = lab.dockerfile(&(text + &last));
    lab.kiln(["pull", "busybox"]).output().ok();
    lab.build(&context).built();
    lab.build(&context).built().assert_all_cached();
}

/// Containers that share a store have process ids of their own, which tell the others nothing.
#[test]
fn stores_are_shared_between_pid_namespaces() {
    let lab = Lab::new();
    let contexts: Vec<_> = (0..6)
        .map(|n| {
            let context = lab.context(&format!("c{n}"), &[]);
            context.write("f", n.to_string()).dockerfile(&format!(
                "FROM busybox\nCOPY f /\nRUN for i in 1 2 3 4 5 6; do echo {n} >> /x; sleep 0.1; done\nRUN cat /x /f > /y\n"
            ));
            context
        })
        .collect();
    for round in 0..2 {
        std::thread::scope(|scope| {
            for (n, context) in contexts.iter().enumerate() {
                let lab = &lab;
                scope.spawn(move || {
                    // They start one after the other, and each finds the work of those before it.
                    std::thread::sleep(std::time::Duration::from_millis(150 * n as u64));
                    lab.build(context)
                        .args(["--no-cache", "--tag", &format!("x:{round}-{n}")])
                        .through("exec unshare --pid --fork --mount-proc \"$@\"")
                        .built();
                });
            }
        });
    }
    for n in 0..contexts.len() {
        let text = lab.run(&format!("x:1-{n}"), &["cat", "/y"]);
        assert_eq!(text, format!("{}{n}", format!("{n}\n").repeat(6)));
    }
    lab.kiln(["fsck"]).output().ok();
}
