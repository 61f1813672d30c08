//! What people type who know docker, and what helps when a step fails.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::os::unix::fs::PermissionsExt as _;

use kiln_tests::{Lab, Outcome, setting, tool};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The base image as what a Dockerfile begins with.
fn lab(text: &str) -> (Lab, kiln_tests::Context) {
    let lab = Lab::new();
    let context = lab.dockerfile(text);
    (lab, context)
}

#[test]
fn flags_of_docker_build_work_or_say_that_they_have_no_effect() {
    let (lab, context) = lab("FROM busybox\nRUN echo x\n");
    let plain = |flags: &[&str]| {
        let build = lab.kiln(["build", "--progress=plain"]).args(flags);
        build.last(context.path()).output()
    };
    for (flag, told) in [
        ("--compress", "no effect: --compress"),
        ("--isolation=default", "no effect: --isolation"),
        (
            "--disable-content-trust",
            "no effect: --disable-content-trust",
        ),
        ("--builder=x", "no effect: --builder"),
    ] {
        plain(&[flag]).ok().says(&[told]);
    }
    for flag in [
        "--isolation=hyperv",
        "--security-opt=seccomp=unconfined",
        "--policy=x",
    ] {
        let out = plain(&[flag]).failed();
        assert_eq!(out.code(), Some(2), "{out}");
        out.says(&[flag.split('=').next().unwrap()]);
    }
    let inline = plain(&["--build-arg", "BUILDKIT_INLINE_CACHE=1", "-t", "x"]).ok();
    assert!(!inline.err.contains("warning"), "{inline}");
    lab.kiln(["save", "-o", "x.tar", "x"]).output().ok();
    let tar = std::fs::read(lab.path("x.tar")).unwrap();
    let has_cache = tar.windows(17).any(|part| part == b"dev.kiln.cache.v1");
    assert!(has_cache, "the image is no cache");
}

#[test]
fn variables_of_docker_are_read() {
    let (lab, context) = lab("FROM busybox\nRUN echo x\n");
    let build = |name: &str, value: &str| {
        let build = lab.kiln(["build"]).env(name, value);
        build.last(context.path()).output()
    };
    let json = build("BUILDKIT_PROGRESS", "rawjson").ok();
    assert!(json.err.lines().all(|line| line.starts_with('{')), "{json}");
    let scratch = lab.context("scratch", &[("Dockerfile", "FROM scratch\nLABEL a=b\n")]);
    let other = lab.build(&scratch).tag("other");
    other.env("DOCKER_DEFAULT_PLATFORM", "linux/arm64").built();
    assert_eq!(lab.inspect("other")["Architecture"], "arm64");
    build("DOCKER_DEFAULT_PLATFORM", "").ok();
    build("DOCKER_BUILDKIT", "0")
        .ok()
        .says(&["no effect: DOCKER_BUILDKIT=0"]);
}

#[test]
fn steps_have_the_resources_that_were_given() {
    let (lab, context) = lab(
        "FROM busybox\nRUN dd if=/dev/zero of=/dev/null bs=1M count=1\nRUN cat /proc/self/cgroup; grep Cpus_allowed_list /proc/self/status\n",
    );
    let build = |flags: &[&str]| lab.build(&context).args(flags);
    let limits = [
        "-m",
        "64m",
        "--memory-swap",
        "64m",
        "-c",
        "512",
        "--cpu-period",
        "50000",
        "--cpu-quota",
        "40000",
        "--cpuset-cpus",
        "0",
        "--cgroup-parent",
        "/kiln-test-parent",
    ];
    let built = build(&limits).built();
    assert!(
        built.log().contains("Cpus_allowed_list:\t0\n"),
        "{}",
        built.log()
    );
    // They are in no key.
    build(&[]).built().assert_all_cached();
    for root in ["memory", "cpu", "cpuset", "unified", "."] {
        // Made for this test alone, and empty by now.
        let _ = std::fs::remove_dir(format!("/sys/fs/cgroup/{root}/kiln-test-parent"));
    }
    let hungry = lab.context("hungry", &[]);
    hungry.dockerfile("FROM busybox\nRUN dd if=/dev/zero of=/dev/null bs=200M count=1\n");
    let starved = lab.build(&hungry).args(["--memory", "20m"]).fails();
    starved.says(&["ran out of memory", "exit code: 137"]);
    lab.build(&hungry).args(["--memory", "400m"]).built();
    let bad = build(&["--no-cache", "--cpuset-cpus", "4095"]).fails();
    bad.says(&["cpuset.cpus", "this machine has the processors"]);
}

#[test]
fn run_takes_what_docker_run_takes() {
    let lab = Lab::new();
    let run = |arguments: &[&str]| {
        lab.kiln(["run", "--rm", "--network", "none"])
            .args(arguments)
            .output()
    };
    let named = run(&[
        "-q", "-h", "box", "--name", "cc", "-l", "a=b", "--expose", "80/tcp", "busybox", "hostname",
    ])
    .ok();
    assert_eq!((named.stdout(), named.err.as_str()), ("box", ""));
    let told = run(&["--name", "container", "busybox", "true"]).ok();
    told.says(&["no effect: --name"]);
    let net = lab.kiln(["run", "--rm", "--net", "none", "busybox", "true"]);
    net.output().ok();
    for bad in [
        &["--name", "-x", "busybox"][..],
        &["--expose", "many", "busybox"],
        &["--label", "=x", "busybox"],
        &["--network", "bridge", "busybox"],
        &["--init", "busybox"],
        &["-h"],
    ] {
        run(bad).failed();
    }
    let help = run(&["--help"]).ok();
    assert!(help.stdout().contains("-h, --hostname"), "{help}");
}

#[test]
fn a_container_that_ignores_the_first_signal_is_not_waited_for_in_silence() {
    let lab = Lab::new();
    lab.kiln(["pull", "-q", "busybox"]).output().ok();
    let run = lab.kiln([
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sleep",
        "100",
    ]);
    let running = run.start();
    std::thread::sleep(std::time::Duration::from_secs(1));
    running.signal(Signal::SIGTERM);
    std::thread::sleep(std::time::Duration::from_secs(3));
    running.signal(Signal::SIGTERM);
    running.signal(Signal::SIGINT);
    let out = running.wait();
    assert_eq!(out.code(), Some(137), "{out}");
    out.says(&["its first process ignores SIGTERM; 2 more kill it"]);
}

#[test]
fn without_a_command_there_is_help_and_short_forms_tell() {
    let lab = Lab::new();
    for words in [&[][..], &["image"], &["system"]] {
        let out = lab.kiln(words).output().ok();
        assert!(out.stdout().contains("Commands:"), "{out}");
        assert!(!out.stdout().contains("internal-maintenance"), "{out}");
    }
    for words in [&["-v"][..], &["version"], &["--version"]] {
        let out = lab.kiln(words).output().ok();
        assert!(out.stdout().starts_with("kiln "), "{out}");
    }
    let format = ["version", "--format", "{{.Os}}/{{.Arch}}"];
    assert_eq!(lab.kiln(format).output().ok().stdout(), "linux/amd64");
    let info: Value = serde_json::from_str(
        lab.kiln(["info", "--format", "json"])
            .output()
            .ok()
            .stdout(),
    )
    .unwrap();
    assert_eq!(info["Root"], lab.store().display().to_string());
    assert!(info["KeepFreeBytes"].as_u64().unwrap() > 0);
    let df = lab.kiln(["system", "df"]).output().ok();
    for word in ["Disk: ", "In force: keep-free ", "reserved "] {
        assert!(df.stdout().contains(word), "{df}");
    }
}

/// What would be no Windows image is not called one.
#[test]
fn images_for_windows_are_refused() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[("f", "x"), ("Dockerfile", "FROM scratch\nCOPY f /\n")],
    );
    let build = |platform: &str| lab.build(&context).args(["--platform", platform]);
    build("windows/amd64")
        .fails()
        .says(&["windows/amd64", "cannot be made here"]);
    build("wasi/wasm").built();
}

/// As BuildKit has it, also where it is named by itself.
#[test]
fn sockets_of_a_context_are_empty_files() {
    let lab = Lab::new();
    let context = lab.context("context", &[("d/f", "x")]);
    for name in ["s", "d/t"] {
        drop(std::os::unix::net::UnixListener::bind(context.at(name)).unwrap());
        let mode = std::fs::Permissions::from_mode(0o751);
        std::fs::set_permissions(context.at(name), mode).unwrap();
    }
    context.dockerfile("FROM busybox\nCOPY s /s\nCOPY d /d\nRUN stat -c '%n %F %a %u' /s /d/*\n");
    let built = lab.build(&context).built();
    assert_eq!(
        built.log(),
        "/s regular empty file 751 0\n/d/f regular file 644 0\n/d/t regular empty file 751 0\n"
    );
    lab.build(&context).built().assert_all_cached();
    std::fs::remove_file(context.at("d/t")).unwrap();
    lab.build(&context).built().assert_ran(&["COPY d", "RUN"]);
}

#[test]
fn images_are_listed_by_age() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM scratch\nARG N\nLABEL n=$N\n");
    for (epoch, name) in [
        ("1000000000", "old"),
        ("1600000000", "young"),
        ("1300000000", "middle"),
    ] {
        let build = lab.build(&context).env("SOURCE_DATE_EPOCH", epoch);
        build
            .arg(format!("--build-arg=N={name}"))
            .tag(name)
            .output()
            .ok();
    }
    let out = lab
        .kiln(["images", "--format", "{{.Repository}}"])
        .output()
        .ok();
    assert_eq!(out.stdout(), "young\nmiddle\nold");
}

#[test]
fn a_key_file_is_as_good_as_an_agent() {
    let lab = Lab::new();
    let key = lab.path("key");
    tool(
        "ssh-keygen",
        [
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "",
            "-f",
            key.to_str().unwrap(),
        ],
    );
    let context =
        lab.dockerfile("FROM debian:bookworm\nRUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\"\n");
    let build = |spec: String| lab.build(&context).args(["--ssh", &spec]);
    build(format!("default={}", key.display())).built();
    std::fs::write(lab.path("text"), "no key").unwrap();
    std::fs::set_permissions(lab.path("text"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let bad = build(format!("default={}", lab.path("text").display())).fails();
    bad.says(&["--ssh: the key"]);
    build("default=/nowhere".into())
        .fails()
        .says(&["there is no file"]);
}

#[test]
fn failures_come_with_what_helps() {
    let lab = Lab::new();
    let context = lab.context("context", &[("run.sh", "#!/bin/sh\r\necho x\r\n")]);
    let script = context.at("run.sh");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (step, hint) in [
        ("COPY run.sh /\nRUN ./run.sh", "ends with a carriage return"),
        (
            "COPY run.sh /\nRUN [\"/run.sh\"]",
            "ends with a carriage return",
        ),
        (
            "RUN echo 'E: Unable to locate package x'; exit 100",
            "apt-get update",
        ),
        (
            "RUN echo 'certificate verify failed' >&2; exit 1",
            "certificate-authorities",
        ),
        (
            "RUN echo 'git@x: Permission denied (publickey).'; exit 128",
            "--ssh default",
        ),
    ] {
        context.dockerfile(&format!("FROM busybox\n{step}\n"));
        lab.build(&context).fails().says(&[hint]);
    }
    context.dockerfile("FROM busybox\nRUN echo fine\nRUN exit 3\n");
    let github = lab
        .kiln(["build", "--progress=plain"])
        .env("GITHUB_ACTIONS", "true");
    let out = github.last(context.path()).output().failed();
    let lines: Vec<&str> = out.err.lines().collect();
    let at = |line: &str| {
        lines
            .iter()
            .position(|l| *l == line)
            .unwrap_or_else(|| panic!("no {line}: {out}"))
    };
    let group = at("::group::#2 [2/3] RUN echo fine");
    assert!(lines[group..].contains(&"::endgroup::"), "{out}");
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("::error file=") && l.contains(",line=3,")),
        "{out}"
    );
    context.dockerfile("FROM busybox\nRUNN x\n");
    let github = lab.kiln(["build"]).env("GITHUB_ACTIONS", "true");
    github
        .last(context.path())
        .output()
        .failed()
        .says(&["::error file=", ",line=2,"]);
}

#[test]
fn authorities_of_the_config_file_are_offered_to_steps() {
    let lab = Lab::new();
    let pem = "-----BEGIN CERTIFICATE-----\nVEVTVA==\n-----END CERTIFICATE-----\n";
    std::fs::write(lab.path("ca.pem"), pem).unwrap();
    let context = lab.dockerfile(
        "FROM busybox\nRUN mkdir -p /etc/ssl/certs && echo own > /etc/ssl/certs/ca-certificates.crt\n\
         ENV CURL_CA_BUNDLE=mine\nRUN cat $SSL_CERT_FILE; echo $CURL_CA_BUNDLE; env | grep -c /run/kiln/\n",
    );
    let base = std::fs::read_to_string(setting("KILN_TEST_CONFIG")).unwrap();
    let config = |name: &str, file: &str| {
        let path = lab.path(name);
        let list = lab.path(file).display().to_string();
        std::fs::write(
            &path,
            format!("{base}\n[build]\ncertificate-authorities = [\"{list}\"]\n"),
        )
        .unwrap();
        path
    };
    let with = config("with.toml", "ca.pem");
    let built = lab
        .build(&context)
        .env("KILN_CONFIG", &with)
        .tag("x")
        .built();
    assert_eq!(built.log(), format!("own\n{pem}mine\n7\n"));
    // Neither the key nor the image knows of them.
    lab.build(&context).built().assert_all_cached();
    let left = lab.run(
        "x",
        &[
            "sh",
            "-c",
            "ls -A /run/kiln /run 2>&1; cat /etc/ssl/certs/*",
        ],
    );
    assert!(
        left.contains("No such file") && left.ends_with("own"),
        "{left}"
    );
    std::fs::write(lab.path("none.pem"), "x").unwrap();
    let bad = lab
        .build(&context)
        .env("KILN_CONFIG", config("bad.toml", "none.pem"));
    bad.fails().says(&["none.pem", "no certificate"]);
}

#[test]
fn a_context_is_no_result_and_a_step_says_when_it_began() {
    let lab = Lab::new();
    let context = lab.context("context", &[("f", "x")]);
    context.dockerfile("FROM busybox\nCOPY f /\n");
    let built = lab.build(&context).built();
    assert_eq!(
        built.step("load build context").outcome,
        Some(Outcome::InPlace)
    );
    assert_eq!(built.counts, (0, 1));
    lab.build(&context).built().assert_all_cached();
    let ran = lab.build(&context).arg("--no-cache").output().ok();
    let events: Vec<Value> = ran
        .err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&events[0]["event"], &events[0]["version"]),
        (&"begin".into(), &1.into())
    );
    let copy = events.iter().find(|e| {
        e["event"] == "planned" && e["name"].as_str().is_some_and(|name| name.contains("COPY"))
    });
    let copy = &copy.unwrap()["vertex"];
    let of_copy: Vec<&str> = events
        .iter()
        .filter(|e| e["vertex"] == *copy)
        .filter_map(|e| e["event"].as_str())
        .filter(|kind| ["started", "began", "finished"].contains(kind))
        .collect();
    assert_eq!(of_copy, ["started", "began", "finished"], "{ran}");
}

/// Under rawjson nothing else is on stderr, whatever happens.
#[test]
fn every_line_is_json_where_json_was_asked_for() {
    let lab = Lab::new();
    let context = lab.context("context", &[("f", "x")]);
    for text in [
        "FROM busybox\nCOPY f /\nRUN echo a; echo b >&2\n",
        "FROM busybox\nRUN exit 3\n",
        "FROM busybox\nRUNN x\n",
        "FROM busybox\nCOPY missing /\n",
        "from busybox as a\nRUN echo $UNDEFINED\n",
        "FROM nosuch.example/x\n",
    ] {
        context.dockerfile(text);
        let out = lab.build(&context).args(["--explain", "-t", "x"]).output();
        for line in out.err.lines() {
            let event: Value =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\n{out}"));
            assert!(
                event["event"].is_string() && event["time"].is_string(),
                "{line}"
            );
        }
        let last: Value = serde_json::from_str(out.err.lines().last().unwrap()).unwrap();
        let fails = out.code() != Some(0);
        assert_eq!(
            last["event"],
            if fails { "error" } else { "built" },
            "{out}"
        );
    }
    let config = lab.path("broken");
    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join("config.json"), "{").unwrap();
    std::fs::write(config.join("kiln.toml"), "[").unwrap();
    let progress = "--progress=rawjson";
    for words in [
        &["pull", progress, "nosuch.example/x"][..],
        &["pull", progress, "Not:A:Name"],
        &["pull", progress, "--platform=none", "x"],
        &["run", progress, "--network=bridge", "x"],
        &["run", progress, "--pull=never", "--expose=80", "nosuch"],
        &["container", "run", progress, "--pull=never", "nosuch"],
        &[
            "--config",
            "broken/kiln.toml",
            "image",
            "pull",
            progress,
            "x",
        ],
        &["--config", "broken/kiln.toml", "build", progress, "."],
    ] {
        let words = words.iter().map(|word| match *word {
            "broken/kiln.toml" => config.join("kiln.toml").display().to_string(),
            word => word.to_owned(),
        });
        let out = lab.kiln(words).env("DOCKER_CONFIG", &config).output();
        let out = out.failed();
        for line in out.err.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "{out}");
        }
        let last = out.err.lines().last().unwrap();
        assert!(last.contains("\"event\":\"error\""), "{out}");
    }
}
