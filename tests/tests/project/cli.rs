//! Streams, exit codes, progress, help.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::{Kiln, Lab};

fn lab() -> Lab {
    let lab = Lab::new();
    lab.dockerfile("FROM busybox\nRUN echo to-stdout; echo to-stderr >&2\nRUN for i in 1 2 3; do echo line $i; done\n");
    lab
}

fn build(lab: &Lab, progress: &str) -> Kiln {
    lab.kiln(["build", "--progress", progress])
        .last(lab.path("context"))
}

#[test]
fn plain_progress_has_dockers_form() {
    let lab = lab();
    let out = build(&lab, "plain").output().ok();
    assert_eq!(out.stdout(), "", "progress goes to stderr: {out}");
    let text = &out.err;
    let number = |part: &str| {
        let line = text
            .lines()
            .find(|l| l.contains(part))
            .unwrap_or_else(|| panic!("no {part} in {text}"));
        line.split_whitespace().next().unwrap().to_owned()
    };
    let step = number("[2/3] RUN echo to-stdout");
    assert!(step.starts_with('#'), "{step}");
    for line in ["to-stdout", "to-stderr"] {
        let wanted =
            |l: &str| l.starts_with(&format!("{step} ")) && l.ends_with(line) && !l.contains("RUN");
        assert!(text.lines().any(wanted), "no `{step} … {line}` in\n{text}");
    }
    assert!(
        text.lines().any(|l| l.starts_with(&format!("{step} DONE"))),
        "{text}"
    );
    let again = build(&lab, "plain").output().ok();
    assert!(again.err.contains("CACHED"), "{again}");
    // A pipe gets the same without being asked to.
    let auto = build(&lab, "auto").output().ok();
    assert!(
        auto.err.contains("CACHED") && !auto.err.contains('\u{1b}'),
        "{auto}"
    );
}

#[test]
fn raw_progress_is_one_object_a_line() {
    let lab = lab();
    let out = build(&lab, "rawjson").output().ok();
    let mut kinds = std::collections::BTreeSet::new();
    for line in out.err.lines() {
        let event: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        kinds.insert(event["event"].as_str().unwrap().to_owned());
    }
    for kind in ["planned", "started", "finished", "log", "built"] {
        assert!(kinds.contains(kind), "no {kind} in {kinds:?}");
    }
}

#[test]
fn a_terminal_shows_a_live_tree() {
    let lab = lab();
    for progress in ["tty", "auto"] {
        let out = build(&lab, progress).on_a_terminal().output().ok();
        let shown = String::from_utf8_lossy(&out.out);
        assert!(shown.contains('\u{1b}'), "{progress}: {shown:?}");
        assert!(
            shown.contains("RUN echo to-stdout"),
            "{progress}: {shown:?}"
        );
    }
    let quiet = build(&lab, "quiet").output().ok();
    assert!(!quiet.err.contains("RUN echo"), "{quiet}");
}

#[test]
fn full_logs_are_kept() {
    let lab = lab();
    let built = kiln_tests::Built::of(&build(&lab, "rawjson").output().ok());
    assert!(!built.log().is_empty());
    let logs = lab.store().join("logs-v1");
    let mut found = String::new();
    let mut places = vec![logs];
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                places.push(path);
            } else {
                found.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
            }
        }
    }
    assert!(
        found.contains("to-stdout") && found.contains("line 3"),
        "{found}"
    );
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let lab = lab();
    for arguments in [
        &["build"][..],
        &["build", "--nope", "."],
        &["run"],
        &["nosuchcommand"],
        &["build", "-t", "UPPER case", "."],
        &["build", "--secret", "src=x", "."],
        &["build", "--label", "=x", "."],
        &["build", "--build-arg", "=x", "."],
        &["build", "--push", "."],
        &["run", "-e", "=x", "busybox"],
        &["run", "-d", "busybox"],
        &["push", "busybox"],
        &["build", "--ulimit", "nofile", "."],
        &["build", "--add-host", "x", "."],
        &["build", "--shm-size", "huge", "."],
        &["build", "--network", "moon", "."],
        &[
            "build",
            "--cache-to",
            "type=local,dest=d,single-flight=true",
            ".",
        ],
    ] {
        let out = lab
            .kiln(arguments)
            .dir(lab.path("context"))
            .output()
            .orderly();
        assert_eq!(out.code(), Some(2), "{arguments:?}: {out}");
        assert_eq!(out.stdout(), "", "{arguments:?}");
    }
}

/// One kind of fault has one code, which in `run` is none that a container may have.
#[test]
fn the_same_fault_has_the_same_code_in_all_commands() {
    let lab = lab();
    let names = lab.path("names.env");
    std::fs::write(&names, "no name\n").unwrap();
    let names = names.to_str().unwrap();
    for (arguments, code) in [
        (&["pull", "BAD::"][..], 2),
        (&["run", "BAD::"], 2),
        (&["tag", "x", "BAD::"], 2),
        (&["inspect", "nosuch"], 1),
        (&["run", "--pull=never", "nosuch"], 125),
        (&["container", "run", "--pull=never", "nosuch"], 125),
        (&["--config", "/nosuch", "images"], 1),
        (&["--config", "/nosuch", "run", "busybox"], 125),
        (&["--root", "/proc/x", "images"], 1),
        (&["--root", "/proc/x", "run", "busybox"], 125),
        (&["build", "--source-policy-file", "/nosuch", "."], 1),
        (&["build", "--source-policy-file", names, "."], 1),
        (&["run", "--env-file", "/nosuch", "busybox"], 125),
        (&["run", "--env-file", names, "busybox"], 125),
    ] {
        let kiln = lab.kiln(arguments).dir(lab.path("context"));
        let out = kiln.output().orderly();
        assert_eq!(out.code(), Some(code), "{arguments:?}: {out}");
    }
}

/// Docker's longer names do what the short ones do.
#[test]
fn dockers_longer_names_are_known() {
    let lab = lab();
    let context = lab.path("context");
    let kiln = |words: &[&str]| lab.kiln(words).output();
    for (group, tag) in [("image", "a"), ("builder", "b"), ("buildx", "c")] {
        let build = lab.kiln([group, "build", "-q", "-t", tag]);
        build.last(&context).output().ok();
    }
    let ran = kiln(&["container", "run", "--rm", "a", "echo", "it ran"]).ok();
    assert_eq!(ran.stdout(), "it ran");
    kiln(&["image", "tag", "a", "d"]).ok();
    kiln(&["image", "rm", "b"]).ok();
    let listed = kiln(&["image", "ls", "--format", "{{.Repository}}"]).ok();
    let mut names: Vec<&str> = listed.stdout().lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "busybox", "c", "d"]);
    for (words, told) in [
        (&["container", "ls"][..], "kiln run"),
        (&["buildx", "ls"], "kiln build"),
        (&["image", "push", "a"], "kiln has no `image push` yet"),
        (&["biuld", "."], "'build'"),
        (&["image", "prnue"], "'prune'"),
        (&["build", "--lod", "."], "'--load'"),
    ] {
        let out = kiln(words).failed().says(&[told]);
        assert_eq!(out.code(), Some(2), "{out}");
    }
}

/// What a user of buildx gives a build that makes no attestations.
#[test]
fn a_build_can_be_told_to_load_and_to_attest_nothing() {
    let lab = lab();
    let (context, archive) = (lab.path("context"), lab.path("x.tar"));
    let build = |words: &[&str]| {
        lab.kiln(["build", "-q"])
            .args(words)
            .last(&context)
            .output()
    };
    let none = ["--provenance=false", "--sbom=false"];
    build(&none).ok();
    build(&[
        "--attest",
        "type=provenance,disabled=true",
        "--load",
        "-t",
        "a",
    ])
    .ok();
    lab.kiln(["inspect", "a"]).output().ok();
    let to = format!("type=oci,dest={}", archive.display());
    build(&["-t", "b", "-o", &to]).ok();
    lab.kiln(["inspect", "b"]).fails();
    build(&["-t", "b", "-o", &to, "--load"]).ok();
    lab.kiln(["inspect", "b"]).output().ok();
    assert!(archive.exists());
    for words in [
        &["--provenance=true"][..],
        &["--provenance=mode=max"],
        &["--sbom=true"],
        &["--attest", "type=sbom"],
    ] {
        let out = build(words)
            .failed()
            .says(&["kiln makes no attestations yet"]);
        assert_eq!(out.code(), Some(2), "{out}");
    }
}

#[test]
fn help_and_version() {
    let lab = Lab::new();
    let help = lab.kiln(["--help"]).output().ok();
    for command in [
        "build",
        "run",
        "pull",
        "import",
        "load",
        "save",
        "images",
        "tag",
        "rmi",
        "history",
        "inspect",
        "fmt",
        "explain-context",
    ] {
        assert!(
            help.stdout().contains(&format!("\n  {command} ")),
            "no {command} in {help}"
        );
        let own = lab.kiln([command, "--help"]).output().ok();
        assert!(own.stdout().contains("Usage:"), "{own}");
    }
    assert!(
        lab.kiln(["--version"])
            .output()
            .ok()
            .stdout()
            .starts_with("kiln ")
    );
}

#[test]
fn the_store_is_where_it_is_told_to_be() {
    let lab = Lab::new();
    let (other, own) = (lab.path("elsewhere"), lab.path("store"));
    lab.kiln(["--root"])
        .arg(&other)
        .args(["images"])
        .output()
        .ok();
    assert!(other.exists() && !own.exists());
    lab.kiln(["images"]).output().ok();
    assert!(own.exists());
    let file = lab.path("file");
    std::fs::write(&file, "").unwrap();
    lab.kiln(["--root"])
        .arg(&file)
        .args(["images"])
        .fails()
        .says(&["file"]);
    lab.kiln(["--config", "/no/such/config", "images"])
        .fails()
        .says(&["/no/such/config"]);
    let config = lab.path("bad.toml");
    std::fs::write(&config, "nonsense = [").unwrap();
    lab.kiln(["--config"])
        .arg(&config)
        .arg("images")
        .fails()
        .says(&["bad.toml"]);
}

#[test]
fn a_closed_pipe_is_no_crash() {
    let lab = lab();
    let binary = kiln_tests::setting("KILN_TEST_BIN");
    let script = format!(
        "'{binary}' build --help | head -1 >/dev/null; '{binary}' --root '{}' --config '{}' build --progress=plain '{}' 2>&1 | head -1 >/dev/null; echo ended",
        lab.store().display(),
        kiln_tests::setting("KILN_TEST_CONFIG"),
        lab.path("context").display()
    );
    let out = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "ended\n");
    assert!(
        !String::from_utf8_lossy(&out.stderr).contains("panicked"),
        "{out:?}"
    );
}

/// Whoever cannot be told anything gets what was asked for all the same; data that is lost is an error.
#[test]
fn streams_that_cannot_be_written_are_no_crash() {
    let lab = lab();
    for progress in ["plain", "rawjson", "auto"] {
        let full = build(&lab, progress).after("exec 2>/dev/full");
        full.args(["-t", progress]).output().ok();
        assert_eq!(lab.inspect(progress)["Os"], "linux");
    }
    let missing = lab.kiln(["inspect", "nosuch"]).after("exec 2>/dev/full");
    assert_eq!(missing.output().code(), Some(1));
    for command in [&["images"][..], &["inspect", "plain"]] {
        let lost = lab.kiln(command).after("exec >/dev/full").output();
        assert_eq!(lost.code(), Some(1), "{lost}");
        lost.says(&["cannot write to standard output: No space left"]);
    }
}

#[test]
fn containers_of_steps_cannot_be_kept() {
    let lab = lab();
    for (option, code) in [("--rm", 0), ("--force-rm=true", 0), ("--rm=false", 2)] {
        let out = build(&lab, "plain").arg(option).output();
        assert_eq!(out.code(), Some(code), "{option}: {out}");
    }
}

#[test]
fn a_name_that_is_left_empty_is_no_directory() {
    let lab = lab();
    let empty = lab.kiln(["--root", "", "images"]).fails();
    assert_eq!(empty.code(), Some(2), "{empty}");
    empty.says(&["--root", "empty"]);
}

#[test]
fn without_privileges_kiln_says_what_is_missing() {
    let lab = lab();
    let context = lab.path("context");
    let binary = kiln_tests::setting("KILN_TEST_BIN");
    // Readable by anybody: the binary is copied out of a directory that may be root's alone.
    let copy = lab.path("kiln");
    std::fs::copy(binary, &copy).unwrap();
    std::fs::set_permissions(
        lab.dir(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let script = format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups '{}' --root /dev/shm/kiln-nobody-{} build '{}'",
        copy.display(),
        std::process::id(),
        context.display()
    );
    let out = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let _ = std::fs::remove_dir_all(format!("/dev/shm/kiln-nobody-{}", std::process::id()));
    assert!(
        !out.status.success() && !text.contains("panicked"),
        "{text}"
    );
    assert!(
        text.contains("root") || text.contains("privilege") || text.contains("CAP_"),
        "{text}"
    );
}
