//! `kiln build`: instructions, stages, arguments, the cache, failures.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::Lab;

#[test]
fn a_build_runs_once_and_keeps_its_id() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[
            (
                "Dockerfile",
                "FROM busybox\nRUN echo one > /one\nCOPY a.txt /a\nRUN cat /a /one > /both\n",
            ),
            ("a.txt", "first\n"),
        ],
    );
    let cold = lab.build(&context).tag("x").built();
    cold.assert_ran(&["RUN echo one", "COPY a.txt", "RUN cat"]);
    assert!(
        cold.image.starts_with("sha256:") && cold.image.len() == 71,
        "{}",
        cold.image
    );
    assert_eq!(lab.run("x", &["cat", "/both"]), "first\none");

    let again = lab.build(&context).tag("x").built();
    again.assert_all_cached();
    assert_eq!(again.counts.1, 0, "ran");
    assert_eq!(again.image, cold.image);

    context.write("a.txt", "second\n");
    let changed = lab.build(&context).tag("x").built();
    changed.assert_ran(&["COPY a.txt", "RUN cat"]);
    assert_eq!(lab.run("x", &["cat", "/both"]), "second\none");

    // The first content is still known.
    context.write("a.txt", "first\n");
    let back = lab.build(&context).tag("x").built();
    back.assert_all_cached();
    assert_eq!(back.image, cold.image);
}

#[test]
fn settings_of_the_image_run_nothing_again() {
    let lab = Lab::new();
    let steps = "FROM busybox\nRUN echo x > /x\n";
    let context = lab.dockerfile(steps);
    lab.build(&context)
        .tag("x")
        .built()
        .assert_ran(&["RUN echo"]);
    context.dockerfile(&format!(
        "{steps}ENV A=1 B=\"two words\"\nLABEL l=v\nEXPOSE 80/tcp 53/udp\nUSER nobody\n\
         STOPSIGNAL SIGINT\nVOLUME /data\nCMD [\"echo\", \"hi\"]\nENTRYPOINT [\"/bin/sh\", \"-c\"]\n\
         HEALTHCHECK --interval=5s CMD true\nONBUILD RUN echo later\n"
    ));
    lab.build(&context).tag("x").built().assert_all_cached();
    let config = &lab.inspect("x")["Config"];
    assert_eq!(config["Labels"]["l"], "v");
    assert_eq!(config["User"], "nobody");
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["Cmd"], serde_json::json!(["echo", "hi"]));
    assert_eq!(config["Entrypoint"], serde_json::json!(["/bin/sh", "-c"]));
    assert!(
        config["ExposedPorts"]["80/tcp"].is_object()
            && config["ExposedPorts"]["53/udp"].is_object()
    );
    assert!(config["Volumes"]["/data"].is_object());
    assert_eq!(config["OnBuild"], serde_json::json!(["RUN echo later"]));
    assert_eq!(
        config["Healthcheck"]["Test"],
        serde_json::json!(["CMD-SHELL", "true"])
    );
    let env: Vec<&str> = config["Env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|v| v.as_str())
        .collect();
    assert!(
        env.contains(&"A=1") && env.contains(&"B=two words"),
        "{env:?}"
    );
}

#[test]
fn onbuild_runs_in_the_child() {
    let lab = Lab::new();
    let parent = lab.context(
        "parent",
        &[(
            "Dockerfile",
            "FROM busybox\nONBUILD COPY own.txt /own\nONBUILD RUN cat /own > /seen\n",
        )],
    );
    lab.build(&parent).tag("parent").built();
    let child = lab.context(
        "child",
        &[("Dockerfile", "FROM parent\n"), ("own.txt", "mine")],
    );
    lab.build(&child).tag("child").built();
    assert_eq!(lab.run("child", &["cat", "/seen"]), "mine");
    assert!(
        lab.inspect("child")["Config"]["OnBuild"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
}

#[test]
fn stages_are_pruned_and_targets_reached() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox AS a\nRUN echo a > /a\nFROM busybox AS unused\nRUN exit 9\n\
         FROM a AS b\nRUN echo b > /b\nFROM scratch AS last\nCOPY --from=b /a /b /\n",
    );
    let built = lab.build(&context).tag("last").built();
    built.assert_ran(&["RUN echo a", "RUN echo b", "COPY --from=b"]);
    let target = lab.build(&context).args(["--target", "a"]).tag("a").built();
    target.assert_all_cached();
    assert_eq!(lab.run("a", &["ls", "/a"]), "/a");
    lab.build(&context)
        .args(["--target", "nowhere"])
        .fails()
        .says(&["nowhere"]);
}

#[test]
fn arguments_reach_only_the_steps_that_see_them() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "ARG BASE=busybox\nFROM ${BASE} AS one\nRUN echo before > /before\nARG V=1\nRUN echo v=$V > /v\n\
         FROM one\nRUN echo none=[$V] > /none\nARG BASE\nRUN echo $BASE > /base\n",
    );
    let first = lab.build(&context).tag("x").built();
    assert_eq!(first.ran().len(), 4);
    assert_eq!(
        lab.run("x", &["cat", "/v", "/none", "/base"]),
        "v=1\nnone=[1]\nbusybox"
    );
    let other = lab
        .build(&context)
        .args(["--build-arg", "V=2"])
        .tag("x")
        .built();
    assert!(
        other.cached().iter().any(|s| s.contains("echo before")),
        "{other:?}"
    );
    assert!(
        other.ran().iter().any(|s| s.contains("echo v=")),
        "{other:?}"
    );
    assert_eq!(lab.run("x", &["cat", "/v"]), "v=2");
    let unused = lab
        .build(&context)
        .args(["--build-arg", "NOBODY=1"])
        .output()
        .ok();
    assert!(
        unused.err.contains("NOBODY"),
        "no word on an unused argument: {unused}"
    );
}

#[test]
fn the_shell_env_user_and_workdir_of_a_step() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nENV GREETING=hello\nWORKDIR /w/x\nWORKDIR y\nRUN echo $GREETING > g; pwd > p\n\
         USER nobody\nRUN id -u > /tmp/u\nUSER 33:100\nRUN id -u > /tmp/n; id -g >> /tmp/n\nUSER root\n\
         SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN echo $- > /flags\nRUN [\"/bin/echo\", \"$GREETING\"]\n\
         RUN <<EOF\nset -- a b\necho $# > /heredoc\nEOF\nRUN <<\"EOF\" cat > /quoted\n$GREETING\nEOF\n\
         COPY <<one <<two /files/\n1 $GREETING\none\n2\ntwo\n",
    );
    let built = lab.build(&context).tag("x").built();
    assert_eq!(
        lab.run("x", &["cat", "/w/x/y/g", "/w/x/y/p"]),
        "hello\n/w/x/y"
    );
    assert_eq!(lab.run("x", &["cat", "/tmp/u", "/tmp/n"]), "65534\n33\n100");
    assert!(lab.run("x", &["cat", "/flags"]).contains('e'));
    assert_eq!(
        lab.run("x", &["cat", "/heredoc", "/quoted"]),
        "2\n$GREETING"
    );
    assert_eq!(
        lab.run("x", &["cat", "/files/one", "/files/two"]),
        "1 hello\n2"
    );
    assert!(
        built.log().contains("$GREETING"),
        "exec form must not expand: {}",
        built.log()
    );
    assert_eq!(lab.run("x", &["pwd"]), "/w/x/y");
}

#[test]
fn no_cache_runs_everything_and_its_filter_one_stage() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox AS a\nRUN date +%N > /a\nFROM busybox AS b\nRUN date +%N > /b\n\
         FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
    );
    lab.build(&context).built();
    lab.build(&context).built().assert_all_cached();
    let none = lab.build(&context).arg("--no-cache").built();
    assert!(none.cached().is_empty(), "{:?}", none.cached());
    let only = lab.build(&context).args(["--no-cache-filter", "a"]).built();
    assert!(
        only.ran().iter().any(|s| s.contains("> /a")),
        "{:?}",
        only.ran()
    );
    assert!(
        only.cached().iter().any(|s| s.contains("> /b")),
        "{:?}",
        only.cached()
    );
}

#[test]
fn the_same_result_stops_the_change_from_spreading() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[
            ("Dockerfile", "FROM busybox\nCOPY in /in\nRUN wc -c < /in > /size && rm /in\nFROM busybox\n\
              COPY in /x\nRUN head -c 1 /x > /first && rm /x\nFROM busybox\nCOPY --from=1 /first /first\nRUN echo slow > /slow\n"),
            ("in", "abc"),
        ],
    );
    let first = lab.build(&context).tag("x").built();
    context.write("in", "axx");
    let second = lab.build(&context).tag("x").built();
    // The first letter is the same, so what copies it has nothing to do.
    assert!(
        second.ran().iter().any(|s| s.contains("head -c 1")),
        "{:?}",
        second.ran()
    );
    assert!(
        !second.ran().iter().any(|s| s.contains("slow")),
        "{:?}",
        second.ran()
    );
    assert_eq!(first.image, second.image);
}

#[test]
fn a_failing_step_shows_its_lines_code_and_output() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN echo fine\nRUN echo the last words && \\\n    exit 7\nRUN echo never\n",
    );
    let out = lab
        .kiln(["build", "--progress=plain"])
        .arg(context.path())
        .fails();
    out.says(&["the last words", "exit 7", "7", "Dockerfile:3"]);
    let signal = lab.context(
        "signal",
        &[(
            "Dockerfile",
            "FROM busybox\nRUN sh -c 'kill -9 $$'; exit $?\n",
        )],
    );
    let out = lab.kiln(["build"]).arg(signal.path()).fails();
    assert!(
        out.err.contains("137") || out.err.contains("signal 9") || out.err.contains("SIGKILL"),
        "{out}"
    );
}

#[test]
fn one_failing_stage_stops_the_others() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox AS slow\nRUN sleep 60\nFROM busybox AS bad\nRUN sleep 0.3; exit 3\n\
         FROM scratch\nCOPY --from=slow /x /\nCOPY --from=bad /x /\n",
    );
    let out = lab.build(&context).fails();
    assert!(
        out.wall.as_secs() < 20,
        "waited for the slow stage: {:?}",
        out.wall
    );
    lab.assert_clean();
}

#[test]
fn errors_of_a_dockerfile_point_at_their_place() {
    let lab = Lab::new();
    for (text, words) in [
        ("FROM busybox\nRUNN echo\n", &["Dockerfile:2", "RUNN"][..]),
        ("FROM busybox\nCOPY a\n", &["Dockerfile:2", "COPY"]),
        (
            "FROM busybox\nCOPY --nope=1 a b\n",
            &["Dockerfile:2", "nope"],
        ),
        ("RUN echo\n", &["Dockerfile:1"]),
        ("FROM busybox\nCOPY --from=missing /a /b\n", &["missing"]),
        ("FROM busybox\nCOPY absent /b\n", &["absent"]),
        (
            "FROM busybox AS a\nCOPY --from=b /x /\nFROM busybox AS b\nCOPY --from=a /x /\n",
            &["b"],
        ),
        ("FROM busybox\nUSER nosuchuser\nRUN id\n", &["nosuchuser"]),
        ("", &["Dockerfile"]),
    ] {
        let context = lab.context("context", &[("Dockerfile", text)]);
        lab.kiln(["build"]).arg(context.path()).fails().says(words);
    }
}

#[test]
fn id_files_metadata_and_quiet_output() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN true\n");
    let (id, metadata) = (lab.path("id"), lab.path("metadata"));
    let quiet = lab
        .kiln(["build", "-q", "-t", "x", "-t", "example.com/team/y:2"])
        .arg("--iidfile")
        .arg(&id)
        .arg("--metadata-file")
        .arg(&metadata)
        .arg(context.path())
        .output()
        .ok();
    assert_eq!(quiet.stdout(), std::fs::read_to_string(&id).unwrap().trim());
    assert_eq!(quiet.err, "", "quiet is quiet");
    let facts: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&metadata).unwrap()).unwrap();
    assert_eq!(facts["containerimage.config.digest"], quiet.stdout());
    assert_eq!(lab.inspect("x")["Id"], quiet.stdout());
    assert_eq!(lab.inspect("example.com/team/y:2")["Id"], quiet.stdout());
    assert_eq!(lab.inspect(quiet.stdout())["Id"], quiet.stdout());
}

#[test]
fn labels_and_platform_come_from_the_command_line() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nLABEL a=dockerfile\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch\n",
    );
    lab.build(&context)
        .args(["--label", "a=line", "--label", "b=x y"])
        .tag("x")
        .built();
    let image = lab.inspect("x");
    assert_eq!(image["Config"]["Labels"]["a"], "line");
    assert_eq!(image["Config"]["Labels"]["b"], "x y");
    assert_eq!(image["Os"], "linux");
    assert_eq!(
        lab.run("x", &["cat", "/arch"]),
        image["Architecture"].as_str().unwrap()
    );
}

#[test]
fn source_date_epoch_makes_builds_repeat_to_the_byte() {
    let mut ids = Vec::new();
    for way in ["environment", "argument"] {
        let lab = Lab::new();
        let context = lab.context(
            "context",
            &[
                (
                    "Dockerfile",
                    "FROM busybox\nCOPY . /src\nRUN echo x > /x; touch -d '2001-01-01 00:00:00' /old\n",
                ),
                ("f", "1"),
            ],
        );
        let build = match way {
            "environment" => lab.build(&context).env("SOURCE_DATE_EPOCH", "1500000000"),
            _ => lab
                .build(&context)
                .args(["--build-arg", "SOURCE_DATE_EPOCH=1500000000"]),
        };
        let built = build.arg("--no-cache").tag("x").built();
        let tar = lab.path("fs.tar");
        let output = format!("type=tar,dest={}", tar.display());
        let output = ["-o", &output, "--build-arg", "SOURCE_DATE_EPOCH=1500000000"];
        lab.build(&context).args(output).built();
        let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
        let times: std::collections::BTreeMap<String, u64> = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| {
                (
                    e.path().unwrap().display().to_string(),
                    e.header().mtime().unwrap(),
                )
            })
            .collect();
        assert_eq!(times["x"], 1_500_000_000);
        assert_eq!(times["src/f"], 1_500_000_000);
        assert_eq!(times["old"], 978_307_200);
        assert_eq!(times.values().max(), Some(&1_500_000_000));
        let image = lab.inspect("x");
        assert!(
            image["Created"]
                .as_str()
                .unwrap()
                .starts_with("2017-07-14T02:40:00"),
            "{image}"
        );
        ids.push(built.image);
    }
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn squash_makes_one_layer_above_the_base() {
    let lab = Lab::new();
    let context =
        lab.dockerfile("FROM busybox\nRUN echo a > /a\nRUN echo b > /b; rm /a\nRUN rm /bin/wget\n");
    lab.build(&context).tag("long").built();
    lab.build(&context).arg("--squash").tag("short").built();
    let count = |name: &str| {
        lab.inspect(name)["RootFS"]["Layers"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!((count("long"), count("short")), (4, 2));
    assert_eq!(
        lab.inspect("long")["RootFS"]["Layers"][0],
        lab.inspect("short")["RootFS"]["Layers"][0],
        "the base stays"
    );
    assert_eq!(
        lab.run(
            "short",
            &["sh", "-c", "cat /b; ls /a /bin/wget 2>/dev/null; true"]
        ),
        "b"
    );
}

#[test]
fn a_step_that_changes_nothing_adds_an_empty_layer_or_none() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN true\nRUN true\n");
    let built = lab.build(&context).tag("x").built();
    assert_eq!(built.ran().len(), 2);
    lab.build(&context).tag("x").built().assert_all_cached();
}

#[test]
fn many_steps_make_one_image() {
    let lab = Lab::new();
    let mut text = "FROM busybox\n".to_owned();
    for step in 0..200 {
        text.push_str(&format!("RUN echo {step} > /f{step}\n"));
    }
    let context = lab.dockerfile(&text);
    lab.build(&context).tag("x").built();
    assert_eq!(
        lab.run("x", &["sh", "-c", "ls / | grep -c '^f[0-9]'"]),
        "200"
    );
}
