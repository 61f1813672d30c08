//! Kiln is killed at any moment; the store must stay whole.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::io::Read as _;
use std::time::Duration;

use kiln_tests::{Context, Fault, Kiln, Lab, Proxy, Random, Tarball, registry_of};
use nix::sys::signal::Signal;

const DOCKERFILE: &str = "FROM busybox AS a\nCOPY src /src\nRUN sleep 0.02; cat /src/* > /all\nRUN mkdir /many; for i in $(seq 40); do echo $i > /many/$i; done\n\
    FROM busybox AS b\nRUN echo b > /b; sleep 0.03\nRUN --mount=type=cache,target=/c echo x >> /c/log; echo done > /done\n\
    FROM busybox\nWORKDIR /w/x\nCOPY --from=a /all /many /a/\nCOPY --from=b /b /done /b/\nRUN rm /bin/wget; echo end > /end\n";

fn context(lab: &Lab) -> Context {
    let context = lab.context("context", &[("Dockerfile", DOCKERFILE)]);
    for n in 0..20 {
        context.write(&format!("src/{n}"), format!("file {n}\n").repeat(100));
    }
    context
}

fn build(lab: &Lab, context: &Context) -> Kiln {
    lab.build(context)
        .env("SOURCE_DATE_EPOCH", "1000000000")
        .tag("x")
}

/// Kills kiln at 100 moments spread over the length of a build: ten stores, ten kills in each.
#[test]
fn a_kill_at_any_moment_does_no_harm() {
    let clean = Lab::new();
    let expected = build(&clean, &context(&clean)).built();
    let mut whole = build(&clean, &context(&clean))
        .arg("--no-cache")
        .built()
        .wall;
    let mut random = Random::new();
    let mut hits = 0;
    for _ in 0..10 {
        let lab = Lab::new();
        let context = context(&lab);
        for kill in 0..10 {
            // The first has a store to make and a base to pull as well.
            let span = if kill == 0 { expected.wall } else { whole };
            let is_cached = kill % 3 == 0;
            let micros = u64::try_from(span.as_micros()).unwrap() * 11 / 10;
            let delay = Duration::from_micros(random.below(micros.max(1)));
            let mut victim = build(&lab, &context);
            if !is_cached {
                victim = victim.arg("--no-cache");
            }
            let victim = victim.start();
            std::thread::sleep(delay);
            victim.signal(Signal::SIGKILL);
            let victim = victim.wait();
            let is_hit = victim.status.code().is_none();
            hits += u32::from(is_hit);
            if !is_hit && !is_cached {
                // The machine has less to do than when the length was taken.
                whole = whole.min(victim.wall);
            }
            if kill % 2 == 0 {
                let next = build(&lab, &context).built();
                assert_eq!(next.image, expected.image, "killed after {delay:?}");
            }
        }
        let last = build(&lab, &context).arg("--no-cache").built();
        assert_eq!(last.image, expected.image);
        assert_eq!(
            lab.run("x", &["cat", "/a/3", "/b/done", "/end"]),
            "3\ndone\nend"
        );
        lab.assert_clean();
    }
    // The others had ended before their moment came.
    assert!(hits > 50, "only {hits} of 100 kills found a build to kill");
}

/// An interrupt ends the build at once and leaves nothing.
#[test]
fn an_interrupt_leaves_nothing_behind() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox AS a\nRUN sleep 50\nFROM busybox AS b\nRUN trap '' INT TERM; sleep 51\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n",
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let run = lab.build(&context).start();
        std::thread::sleep(Duration::from_millis(700));
        run.signal(signal);
        let out = run.wait().failed();
        assert!(out.wall < Duration::from_secs(10), "{out}");
        if signal == Signal::SIGINT {
            assert_eq!(out.code(), Some(130), "{out}");
        }
        lab.assert_clean();
    }
}

/// Outputs and pulls end in order, too, whatever they wait for.
#[test]
fn an_interrupt_ends_outputs_and_pulls() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\n");
    let pipe = lab.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Somebody has it open, and reads little.
    let options = std::fs::File::options().read(true).write(true).to_owned();
    let mut reader = options.open(&pipe).unwrap();
    let output = format!("type=tar,dest={}", pipe.display());
    let run = lab.build(&context).args(["-o", &output]).start();
    reader.read_exact(&mut [0]).unwrap();
    run.signal(Signal::SIGTERM);
    let out = run.wait().failed();
    assert_eq!(out.code(), Some(130), "{out}");
    out.says(&["the build was interrupted"]);

    let registry = registry_of("app", &[&Tarball::new().file("a", "a").bytes()]);
    let is_blob = |line: &str| line.contains("/blobs/");
    let proxy = Proxy::start_where(registry.host(), Fault::Held, is_blob);
    let name = format!("{}/app", proxy.address());
    for command in [&["pull", &name][..], &["run", "--rm", &name]] {
        let before = proxy.spoiled();
        let run = lab.kiln(command).start();
        while proxy.spoiled() == before {
            std::thread::sleep(Duration::from_millis(20));
        }
        run.signal(Signal::SIGINT);
        let out = run.wait().failed();
        assert_eq!(out.code(), Some(130), "{out}");
        out.says(&["the pull was interrupted"]);
    }
}

/// A pull that is killed goes on where it was, and what is half there is never used.
#[test]
fn a_killed_pull_is_taken_up_again() {
    let lab = Lab::new();
    let mut random = Random::new();
    for _ in 0..5 {
        let pull = lab.kiln(["pull", "debian:bookworm"]).start();
        std::thread::sleep(Duration::from_millis(random.below(600)));
        pull.signal(Signal::SIGKILL);
        let _ = pull.wait();
    }
    lab.kiln(["pull", "debian:bookworm"]).output().ok();
    assert!(
        lab.run("debian:bookworm", &["cat", "/etc/debian_version"])
            .starts_with("12")
    );
}

/// What is damaged or gone is made again, with a warning at most.
#[test]
fn damage_costs_time_not_builds() {
    let lab = Lab::new();
    let context = context(&lab);
    let expected = build(&lab, &context).built().image;
    let store = lab.store();
    type Damage = fn(&std::path::Path);
    let damages: [(&str, Damage); 3] = [
        ("database overwritten", |s| {
            std::fs::write(s.join("meta-v1.db"), b"not a database at all").unwrap();
        }),
        ("database gone", |s| {
            for name in ["meta-v1.db", "meta-v1.db-wal", "meta-v1.db-shm"] {
                let _ = std::fs::remove_file(s.join(name));
            }
        }),
        ("stat cache overwritten", |s| {
            for entry in std::fs::read_dir(s.join("stat-v1")).unwrap() {
                std::fs::write(entry.unwrap().path(), b"garbage").unwrap();
            }
        }),
    ];
    for (what, damage) in damages {
        damage(&store);
        let built = build(&lab, &context).built();
        assert_eq!(built.image, expected, "{what}");
        assert_eq!(lab.run("x", &["cat", "/end"]), "end", "{what}");
    }
    // Layers whose directory has vanished.
    for entry in std::fs::read_dir(store.join("layers-v1")).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    let built = build(&lab, &context).built();
    assert_eq!(built.image, expected);
    assert_eq!(lab.run("x", &["cat", "/end"]), "end");
}

/// A context that never comes: the server takes the request and says nothing.
#[test]
fn a_signal_ends_the_wait_for_a_context() {
    for scheme in ["http", "git"] {
        let lab = Lab::new();
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("{scheme}://{}/c", server.local_addr().unwrap());
        let build = lab.kiln(["build", &address]).start();
        let _request = server.accept().unwrap();
        build.signal(Signal::SIGINT);
        let ended = build.wait().failed().says(&["interrupted"]);
        assert_eq!(ended.code(), Some(130), "{scheme}");
    }
}
