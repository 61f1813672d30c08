//! Why steps run: every kind of change runs what it must, and is named.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::os::unix::fs::chown;
use std::process::Command;

use kiln_tests::{Built, Context, Lab};

/// What is done between two builds.
enum Change {
    Dockerfile(&'static str),
    Files(fn(&Context)),
    Arguments(&'static [&'static str]),
}

use Change::{Arguments, Dockerfile, Files};

/// A change, the steps that it runs, and what is said of each.
struct Case {
    name: &'static str,
    dockerfile: &'static str,
    change: Change,
    ran: &'static [(&'static str, &'static str)],
}

const COPY: &str = "FROM busybox\nCOPY src /s\nRUN ls /s\n";
const BIND: &str = "FROM busybox\nCOPY src /s\nRUN --mount=type=bind,target=/m ls /m\n";

/// Both steps of [`COPY`], the first for the cause given.
macro_rules! copied {
    ($why:literal) => {
        &[
            ("COPY src /s", $why),
            ("RUN ls /s", "result of [2/3] COPY src /s"),
        ]
    };
}

fn cases() -> Vec<Case> {
    let case = |name, dockerfile, change, ran| Case {
        name,
        dockerfile,
        change,
        ran,
    };
    vec![
        case(
            "content",
            COPY,
            Files(|c| {
                c.write("src/a.c", "other\n");
            }),
            copied!("files src/a.c (content)"),
        ),
        case(
            "content, in the same second, of the same size, with the old time",
            COPY,
            Files(|c| {
                let path = c.at("src/a.c");
                let old = std::fs::metadata(&path).unwrap().modified().unwrap();
                c.write("src/a.c", "b\n");
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.set_modified(old).unwrap();
            }),
            copied!("files src/a.c (content)"),
        ),
        case(
            "mode",
            COPY,
            Files(|c| {
                c.mode("src/a.c", 0o600);
            }),
            copied!("files src/a.c (mode)"),
        ),
        case(
            "owner that no copy keeps",
            COPY,
            Files(|c| chown(c.at("src/a.c"), Some(1000), Some(7)).unwrap()),
            &[],
        ),
        case(
            "owner that a mount shows",
            BIND,
            Files(|c| chown(c.at("src/a.c"), Some(1000), Some(7)).unwrap()),
            &[("RUN --mount=type=bind", "files src/a.c (owner)")],
        ),
        case(
            "owner in another stage",
            "FROM busybox AS a\nARG U=1\nRUN echo x > /f && chown $U /f\nFROM busybox\nCOPY --from=a /f /f\n",
            Arguments(&["--build-arg", "U=2"]),
            &[
                ("RUN echo x", "arg U"),
                (
                    "COPY --from=a",
                    "files /f of [a 2/2] RUN echo x > /f && chown $U /f (owner)",
                ),
            ],
        ),
        case(
            "link target",
            COPY,
            Files(|c| {
                std::fs::remove_file(c.at("src/l")).unwrap();
                c.link("src/l", "b.c");
            }),
            copied!("files src/l (link target)"),
        ),
        case(
            "type",
            COPY,
            Files(|c| {
                std::fs::remove_file(c.at("src/l")).unwrap();
                c.dir("src/l");
            }),
            copied!("files src/l (type)"),
        ),
        case(
            "extended attribute",
            COPY,
            Files(|c| {
                let set = ["-n", "user.note", "-v", "new"];
                let done = Command::new("setfattr")
                    .args(set)
                    .arg(c.at("src/a.c"))
                    .status();
                assert!(done.unwrap().success());
            }),
            copied!("files src/a.c (xattrs)"),
        ),
        case(
            "file added",
            COPY,
            Files(|c| {
                c.write("src/c.c", "c\n");
            }),
            copied!("files src/c.c (added)"),
        ),
        case(
            "file removed",
            COPY,
            Files(|c| std::fs::remove_file(c.at("src/b.c")).unwrap()),
            copied!("files src/b.c (removed)"),
        ),
        case(
            "file that nobody copies",
            COPY,
            Files(|c| {
                c.write("other.txt", "other\n");
            }),
            &[],
        ),
        case(
            "file times",
            COPY,
            Files(|c| {
                c.write("src/a.c", "a\n");
            }),
            &[],
        ),
        case(
            "ignore file",
            "FROM busybox\nCOPY . /s\nRUN ls /s\n",
            Files(|c| {
                c.write(".dockerignore", "Dockerfile\n.dockerignore\nsrc/b.c\n");
            }),
            &[
                (
                    "COPY . /s",
                    "files .dockerignore (patterns), files src/b.c (removed)",
                ),
                ("RUN ls /s", "result of [2/3] COPY . /s"),
            ],
        ),
        case(
            "ignore file without effect",
            COPY,
            Files(|c| {
                c.write(".dockerignore", "Dockerfile\n.dockerignore\nother.txt\n");
            }),
            &[],
        ),
        case(
            "arg that is used, and only after it is declared",
            "FROM busybox\nRUN echo 1\nARG V=1\nRUN echo 2 $V\n",
            Arguments(&["--build-arg", "V=2"]),
            &[("RUN echo 2", "arg V")],
        ),
        case(
            "arg that had no value",
            "FROM busybox\nARG V\nRUN echo 2 $V\n",
            Arguments(&["--build-arg", "V=2"]),
            &[("RUN echo 2", "arg V (added)")],
        ),
        case(
            "arg that is unused",
            "FROM busybox\nRUN echo 1\nARG V=1\n",
            Arguments(&["--build-arg", "V=2"]),
            &[],
        ),
        case(
            "arg in a word",
            "FROM busybox\nARG V=a.c\nCOPY src/$V /s\n",
            Arguments(&["--build-arg", "V=b.c"]),
            &[("COPY src/$V", "sources")],
        ),
        case(
            "env",
            "FROM busybox\nENV A=1 B=1\nRUN echo\n",
            Dockerfile("FROM busybox\nENV A=2 C=1\nRUN echo\n"),
            &[("RUN echo", "env A, env B (removed), env C (added)")],
        ),
        case(
            "label, command and the like run nothing",
            "FROM busybox\nLABEL a=1\nCMD true\nRUN echo\nEXPOSE 1\n",
            Dockerfile(
                "FROM busybox\nLABEL a=2\nCMD false\nRUN echo\nENTRYPOINT [\"x\"]\nSTOPSIGNAL 9\n",
            ),
            &[],
        ),
        case(
            "base image",
            "FROM busybox\nRUN echo\n",
            Dockerfile("FROM debian:bookworm\nRUN echo\n"),
            &[(
                "RUN echo",
                "base image debian:bookworm instead of busybox:latest",
            )],
        ),
        case(
            "command",
            "FROM busybox\nRUN echo 1\nRUN echo 2\n",
            Dockerfile("FROM busybox\nRUN echo 1; touch /x\nRUN echo 2\n"),
            &[
                ("RUN echo 1; touch /x", "command"),
                (
                    "RUN echo 2",
                    "it comes after [2/3] RUN echo 1; touch /x instead of [2/3] RUN echo 1",
                ),
            ],
        ),
        case(
            "command that does the same",
            "FROM busybox\nRUN echo 1\nRUN echo 2\n",
            Dockerfile("FROM busybox\nRUN echo 3\nRUN echo 2\n"),
            &[("RUN echo 3", "command")],
        ),
        case(
            "order of lines",
            "FROM busybox\nRUN touch /a\nRUN touch /b\n",
            Dockerfile("FROM busybox\nRUN touch /b\nRUN touch /a\n"),
            &[
                (
                    "RUN touch /b",
                    "it comes after busybox:latest instead of [2/3] RUN touch /a",
                ),
                (
                    "RUN touch /a",
                    "it comes after [2/3] RUN touch /b instead of busybox:latest",
                ),
            ],
        ),
        case(
            "user",
            "FROM busybox\nUSER 0\nRUN echo\n",
            Dockerfile("FROM busybox\nUSER 1\nRUN echo\n"),
            &[("RUN echo", "user")],
        ),
        case(
            "working directory",
            "FROM busybox\nWORKDIR /a\nRUN echo\n",
            Dockerfile("FROM busybox\nWORKDIR /b\nRUN echo\n"),
            &[
                ("WORKDIR /b", "directory"),
                (
                    "RUN echo",
                    "working directory, it comes after [2/3] WORKDIR /b instead of [2/3] WORKDIR /a",
                ),
            ],
        ),
        case(
            "shell",
            "FROM busybox\nSHELL [\"/bin/sh\", \"-c\"]\nRUN echo\n",
            Dockerfile("FROM busybox\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo\n"),
            &[("RUN echo", "shell")],
        ),
        case(
            "network mode",
            "FROM busybox\nRUN echo\n",
            Arguments(&["--network", "none"]),
            &[("RUN echo", "network")],
        ),
        case(
            "hosts",
            "FROM busybox\nRUN echo\n",
            Arguments(&["--add-host", "db:10.0.0.1"]),
            &[("RUN echo", "hosts")],
        ),
        case(
            "mount source",
            "FROM busybox\nRUN --mount=type=bind,source=src/a.c,target=/m ls /m\n",
            Dockerfile("FROM busybox\nRUN --mount=type=bind,source=src/b.c,target=/m ls /m\n"),
            &[("RUN --mount", "mount /m (source)")],
        ),
        case(
            "mount content",
            BIND,
            Files(|c| {
                c.write("other.txt", "other\n");
            }),
            &[("RUN --mount", "files other.txt (content)")],
        ),
        case(
            "mount option",
            "FROM busybox\nRUN --mount=type=bind,source=src,target=/m ls /m\n",
            Dockerfile("FROM busybox\nRUN --mount=type=bind,source=src,target=/m,rw ls /m\n"),
            &[("RUN --mount", "mount /m (readonly)")],
        ),
        case(
            "mount target",
            "FROM busybox\nRUN --mount=type=tmpfs,target=/m ls /\n",
            Dockerfile("FROM busybox\nRUN --mount=type=tmpfs,target=/n ls /\n"),
            &[("RUN --mount", "mount /m (removed), mount /n (added)")],
        ),
        case(
            "cache mount id",
            "FROM busybox\nRUN --mount=type=cache,id=a,target=/m ls /m\n",
            Dockerfile(
                "FROM busybox\nRUN --mount=type=cache,id=b,sharing=locked,target=/m ls /m\n",
            ),
            &[("RUN --mount", "mount /m (id, sharing)")],
        ),
        case(
            "secret id",
            "FROM busybox\nRUN --mount=type=secret,id=a,target=/m ls /\n",
            Dockerfile("FROM busybox\nRUN --mount=type=secret,id=b,target=/m ls /\n"),
            &[("RUN --mount", "mount /m (id)")],
        ),
        case(
            "secret value",
            "FROM busybox\nRUN --mount=type=secret,id=a ls /\n",
            Arguments(&["--secret", "id=a,env=HOME"]),
            &[],
        ),
        case(
            "flag --chown of a copy",
            "FROM busybox\nCOPY src /s\n",
            Dockerfile("FROM busybox\nCOPY --chown=7 src /s\n"),
            &[("COPY --chown", "flag --chown")],
        ),
        case(
            "flag --chmod of a copy",
            "FROM busybox\nCOPY --chmod=600 src /s\n",
            Dockerfile("FROM busybox\nCOPY --chmod=700 src /s\n"),
            &[("COPY --chmod", "flag --chmod")],
        ),
        case(
            "flag --exclude of a copy",
            "FROM busybox\nCOPY src /s\n",
            Dockerfile("FROM busybox\nCOPY --exclude=b.c src /s\n"),
            &[("COPY --exclude", "files src/b.c (removed), flag --exclude")],
        ),
        case(
            "destination",
            "FROM busybox\nCOPY src /s\n",
            Dockerfile("FROM busybox\nCOPY src /t\n"),
            &[("COPY src /t", "destination")],
        ),
        case(
            "here-document of a copy",
            "FROM busybox\nCOPY <<EOF /x\none\nEOF\n",
            Dockerfile("FROM busybox\nCOPY <<EOF /x\ntwo\nEOF\n"),
            &[("COPY <<EOF", "here-document EOF")],
        ),
        case(
            "here-document of a command",
            "FROM busybox\nRUN <<EOF\necho one\nEOF\n",
            Dockerfile("FROM busybox\nRUN <<EOF\necho two\nEOF\n"),
            &[("RUN <<EOF", "command")],
        ),
        case(
            "linked copy",
            "FROM busybox\nRUN touch /x\nCOPY --link src /s\n",
            Files(|c| {
                c.write("src/a.c", "other\n");
            }),
            &[("COPY --link", "files src/a.c (content)")],
        ),
        case(
            "new line",
            "FROM busybox\nRUN echo 1\n",
            Dockerfile("FROM busybox\nRUN echo 0 > /new\nRUN echo 1\n"),
            &[
                ("RUN echo 0", "new"),
                (
                    "RUN echo 1",
                    "it comes after [2/3] RUN echo 0 > /new instead of busybox:latest",
                ),
            ],
        ),
        case(
            "stage that the target does not need",
            "FROM busybox AS a\nRUN echo 1\nFROM busybox\nRUN echo 2\n",
            Dockerfile("FROM busybox AS a\nRUN echo 3\nFROM busybox\nRUN echo 2\n"),
            &[],
        ),
    ]
}

/// What is said of the step whose name contains `part`.
fn told(built: &Built, part: &str) -> String {
    let mut steps = built.steps.values();
    let step = steps
        .find(|s| s.name.contains(part) && !s.reason.is_empty())
        .unwrap_or_else(|| panic!("nothing is said of `{part}` in {:#?}", built.steps));
    match step.reason.as_str() {
        "changed" => step.changes.join(", "),
        other => other.to_owned(),
    }
}

/// Builds, changes, builds again; gives what is wrong with that.
fn wrong(case: &Case) -> Vec<String> {
    // A store of its own, or one case would find what another has built.
    let lab = Lab::new();
    let files = [
        ("Dockerfile", case.dockerfile),
        (".dockerignore", "Dockerfile\n.dockerignore\n"),
        ("src/a.c", "a\n"),
        ("src/b.c", "b\n"),
        ("other.txt", "x\n"),
    ];
    let context = lab.context("context", &files);
    context.link("src/l", "a.c");
    lab.build(&context).built();
    let mut build = lab.build(&context);
    match case.change {
        Dockerfile(text) => {
            context.dockerfile(text);
        }
        Files(change) => change(&context),
        Arguments(arguments) => build = build.args(arguments),
    }
    let built = build.built();
    let ran = built.ran();
    let fits = ran.len() == case.ran.len()
        && ran
            .iter()
            .zip(case.ran)
            .all(|(name, (part, _))| name.contains(part));
    if !fits {
        return vec![format!("{}: ran {ran:?}", case.name)];
    }
    let all = case
        .ran
        .iter()
        .map(|(part, want)| (part, want, told(&built, part)));
    all.filter(|(_, want, got)| got != *want)
        .map(|(part, want, got)| format!("{}: `{part}`\n  said {got}\n  not  {want}", case.name))
        .collect()
}

#[test]
fn every_kind_of_change_runs_what_it_must_and_is_named() {
    let all = std::sync::Mutex::new(cases());
    let next = || all.lock().unwrap().pop();
    let work = || {
        let mut found = Vec::new();
        while let Some(case) = next() {
            found.extend(wrong(&case));
        }
        found
    };
    let found: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        let found = workers.into_iter().map(|w| w.join().unwrap());
        found.flatten().collect()
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_base_image_that_changes_under_its_name_is_named() {
    let lab = Lab::new();
    let image = |text: &str| {
        let context = lab.context("base", &[("Dockerfile", text)]);
        lab.build(&context).tag("base").built();
    };
    image("FROM busybox\nRUN echo 1 > /1\n");
    let context = lab.dockerfile("FROM base\nRUN ls /\n");
    lab.build(&context).built();
    image("FROM busybox\nRUN echo 2 > /1\n");
    let built = lab.build(&context).built();
    assert_eq!(told(&built, "RUN ls"), "base image base:latest (content)");
}

#[test]
fn a_step_that_starts_before_the_layer_below_is_hashed_is_explained_too() {
    let lab = Lab::new();
    // Far more than can be hashed in the time that a step waits.
    let context = lab.dockerfile(
        "FROM busybox\nARG N=1\nRUN dd if=/dev/zero of=/big bs=1M count=400 2>/dev/null; echo $N >> /big\nRUN echo after\n",
    );
    lab.build(&context).built();
    let built = lab.build(&context).args(["--build-arg", "N=2"]).built();
    assert_eq!(told(&built, "RUN dd"), "arg N");
    let text = told(&built, "RUN echo after");
    assert!(
        text.starts_with("arg N, result of [2/3] RUN dd if=/dev/zero"),
        "{text}"
    );
}

#[test]
fn values_of_variables_are_neither_told_nor_kept() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nARG T\nENV E=$T\nUSER 0\nRUN echo\n");
    let secret = |n: u32| format!("T=hunter{n}2hunter");
    lab.build(&context)
        .args(["--build-arg", &secret(1)])
        .built();
    let build = lab.kiln(["build", "--explain", "--progress=plain"]);
    let output = build.args(["--build-arg", &secret(2)]).last(context.path());
    let output = output.output().ok();
    assert!(
        output.err.contains("changed since it ran"),
        "{}",
        output.err
    );
    assert!(output.err.contains("arg T, env E"), "{}", output.err);
    assert!(!output.err.contains("hunter"), "{}", output.err);
    for suffix in ["", "-wal"] {
        let path = lab.store().join(format!("meta-v1.db{suffix}"));
        let bytes = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("hunter"), "the database has a value");
    }
}

#[test]
fn every_step_is_explained_when_that_is_asked_for() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox AS unused\nRUN echo no\nFROM busybox\nRUN echo 1\nRUN echo 2 > /2\n",
    );
    let explain = |arguments: &[&str]| {
        let build = lab.kiln(["build", "--explain", "--progress=plain"]);
        let output = build.args(arguments).last(context.path()).output();
        output.ok().err
    };
    let cases: [(&[&str], [&str; 2], &str); 6] = [
        // The base image comes with the first build.
        (&[], ["first build here"; 2], "0 cached, 1 fetched, 2 ran"),
        (&[], ["cached: record "; 2], "3 cached, 0 ran"),
        (
            &["--no-cache"],
            ["runs because of --no-cache"; 2],
            "1 cached, 2 ran",
        ),
        (
            &["--no-cache-filter", "STAGE-1"],
            ["cached: record "; 2],
            "3 cached, 0 ran",
        ),
        (
            &["--no-cache-filter", "1"],
            ["runs because of --no-cache-filter 1"; 2],
            "1 cached, 2 ran",
        ),
        (
            &["--rerun", "5"],
            ["cached: record ", "runs because of --rerun 5"],
            "2 cached, 1 ran",
        ),
    ];
    for (arguments, want, summary) in cases {
        let text = explain(arguments);
        let lines: Vec<&str> = text.lines().collect();
        for (step, want) in ["RUN echo 1", "RUN echo 2"].iter().zip(want) {
            let at = lines.iter().position(|l| l.contains(step)).unwrap();
            let number = lines[at].split(' ').next().unwrap();
            let told = format!("{number} {want}");
            assert!(
                lines[at..].iter().any(|l| l.starts_with(&told)),
                "{arguments:?}: {text}"
            );
        }
        assert!(text.contains("SKIPPED [unused 2/2] RUN echo no"), "{text}");
        assert!(text.contains(&format!("({summary}, 1 skipped)")), "{text}");
    }
    // Without it, only what was there before and had to run again has a line.
    let quiet = lab.kiln(["build", "--progress=plain"]).last(context.path());
    let text = quiet.output().ok().err;
    assert!(
        !text.contains("record") && !text.contains("SKIPPED"),
        "{text}"
    );
}

#[test]
fn a_terminal_shows_the_line_below_the_step() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[("Dockerfile", "FROM busybox\nCOPY a /a\n"), ("a", "1")],
    );
    lab.build(&context).built();
    context.write("a", "2");
    let shown = lab.kiln(["build"]).arg(context.path()).on_a_terminal();
    let shown = shown.output().ok();
    assert!(
        shown.stdout().contains("=> => changed since it ran"),
        "{}",
        shown.stdout()
    );
    assert!(
        shown.stdout().contains("files a (content)"),
        "{}",
        shown.stdout()
    );
}
