//! Build checks, `--call`, and what a build says of them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::{Context, Kiln, Lab, Output};
use serde_json::{Value, json};

/// A file with two findings, in a context of its own.
const SLOPPY: &str = "FROM busybox as base\nENV A b\n# run is what runs\nFROM base AS run\n\
    RUN echo x > /x\nCMD [\"cat\", \"/x\"]\n";

fn call(lab: &Lab, method: &str, context: &Context) -> Kiln {
    lab.kiln(["build", &format!("--call={method}")])
        .last(context.path())
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.out).unwrap_or_else(|e| panic!("{e}: {output}"))
}

/// What a terminal was sent, as text.
fn without_colours(shown: &str) -> String {
    let mut out = String::new();
    let mut chars = shown.chars().filter(|c| *c != '\r');
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            let _ = chars.by_ref().skip(1).find(char::is_ascii_alphabetic);
        } else {
            out.push(c);
        }
    }
    out
}

/// Rules with their first lines.
fn warnings(answer: &Value) -> Vec<String> {
    let list = answer["warnings"].as_array().unwrap();
    let show = |w: &Value| {
        let line = &w["location"]["ranges"][0]["start"]["line"];
        format!("{} {line}", w["ruleName"].as_str().unwrap())
    };
    list.iter().map(show).collect()
}

/// Base images are looked up, and not kept.
#[test]
fn what_only_looks_leaves_the_list_of_images_alone() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN true\n");
    let images = || {
        let out = lab.kiln(["images", "-a"]).output().ok();
        out.stdout().lines().skip(1).map(str::to_owned).collect()
    };
    for method in ["check", "outline", "targets"] {
        call(&lab, method, &context).output().ok();
        let listed: Vec<String> = images();
        assert!(listed.is_empty(), "{method}: {listed:?}");
    }
    // A name that stands for something else here keeps it, whatever its registry says.
    lab.import(
        &kiln_tests::Tarball::new().file("f", "x").bytes(),
        "busybox",
    );
    let before: Vec<String> = images();
    let pulling = lab.kiln(["build", "--check", "--pull"]);
    pulling.last(context.path()).output().ok();
    assert_eq!(images(), before);
    assert_eq!(before.len(), 1);
}

/// A text that cannot be read has as many errors for a check as for a build.
#[test]
fn a_check_shows_all_errors_of_a_text() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox as base\nFOO x\nCOPY a\n");
    let errors = [
        "unknown instruction `FOO`",
        "Dockerfile:2:1",
        "Dockerfile:3:1",
    ];
    let plain = lab.kiln(["build", "--progress=plain"]);
    plain.last(context.path()).fails().says(&errors);
    let check = call(&lab, "check", &context).fails();
    assert_eq!(check.code(), Some(1));
    let check = check.says(&errors);
    let check = check.says(&["Check incomplete: 2 errors, 1 warning"]);
    assert!(check.stdout().contains("warning[FromAsCasing]"), "{check}");
    let sarif = call(&lab, "check,format=sarif", &context).fails();
    let sarif: serde_json::Value = serde_json::from_str(sarif.stdout()).unwrap();
    let told = &sarif["runs"][0]["invocations"][0]["toolExecutionNotifications"];
    assert_eq!(told.as_array().unwrap().len(), 2, "{told}");
}

#[test]
fn a_check_says_what_it_found_and_builds_nothing() {
    let lab = Lab::new();
    let context = lab.dockerfile(SLOPPY);
    let check = lab
        .kiln(["build", "--check"])
        .last(context.path())
        .fails()
        .says(&["Check complete: 2 warnings"]);
    assert_eq!(check.code(), Some(1));
    let text = check.stdout();
    for part in [
        "warning[FromAsCasing]: ",
        " --> Dockerfile:1:14\n",
        "1 | FROM busybox as base\n  |              ^^\n",
        "= help: https://docs.docker.com/go/dockerfile/rule/from-as-casing/\n",
        "warning[LegacyKeyValueFormat]: ",
        " --> Dockerfile:2:5\n",
    ] {
        assert!(text.contains(part), "no {part:?} in {check}");
    }
    assert!(!text.contains('\u{1b}') && !check.err.contains("RUN echo"));
    // The same by its long name; and nothing to say is success.
    assert_eq!(call(&lab, "check", &context).fails().stdout(), text);
    let clean = lab.context("clean", &[("Dockerfile", "FROM busybox\nCMD [\"x\"]\n")]);
    let nothing = call(&lab, "check", &clean).output().ok();
    assert_eq!(nothing.stdout(), "");
    assert!(
        nothing.err.contains("Check complete: no warnings"),
        "{nothing}"
    );
    // Metadata of the base image came, and no layer.
    let layers = std::fs::read_dir(lab.store().join("layers-v1")).unwrap();
    assert_eq!(layers.count(), 0);
    // A build says the same at its end, in the same words.
    let build = lab.kiln(["build"]).last(context.path()).output().ok();
    assert!(build.err.contains(text), "{build}\n{text}");
    // On a terminal it is the same but for colours.
    for option in ["--progress=tty", "--check"] {
        let shown = lab.kiln(["build", option]).last(context.path());
        let shown = shown.on_a_terminal().output();
        let bare = without_colours(&String::from_utf8_lossy(&shown.out));
        assert!(bare.contains(text), "{option}: {bare}");
        assert!(shown.out.contains(&0x1b), "{option}: {shown}");
    }
}

#[test]
fn json_has_dockers_shape() {
    let lab = Lab::new();
    let context = lab.dockerfile(SLOPPY);
    let output = call(&lab, "check,format=json", &context).fails();
    assert_eq!(output.code(), Some(1));
    let answer = json_of(&output);
    assert_eq!(
        warnings(&answer),
        ["FromAsCasing 1", "LegacyKeyValueFormat 2"]
    );
    let first = &answer["warnings"][0];
    let url = "https://docs.docker.com/go/dockerfile/rule/from-as-casing/";
    assert_eq!(first["url"], url);
    assert_eq!(
        first["location"],
        json!({"ranges": [{"start": {"line": 1}, "end": {"line": 1}}]})
    );
    for name in ["description", "detail"] {
        assert!(!first[name].as_str().unwrap().is_empty(), "{name}");
    }
    assert_eq!(answer["sources"][0]["filename"], "Dockerfile");
    assert!(answer["sources"][0]["data"].is_string());
    assert_eq!(answer["buildError"], Value::Null);

    // Each line of an instruction is a range.
    context.dockerfile("FROM busybox\nENV A b \\\n  c\n");
    let answer = json_of(&call(&lab, "check,format=json", &context).fails());
    let ranges = answer["warnings"][0]["location"]["ranges"]
        .as_array()
        .unwrap();
    assert_eq!(ranges.len(), 2);
    assert_eq!(ranges[1]["end"]["line"], 3);

    // What cannot be built is told with what was found before.
    for (text, found, line) in [
        (
            "FROM busybox as b\nCMD x\nWRKDIR /\n",
            &["FromAsCasing 1"][..],
            3,
        ),
        (
            "FROM busybox\nCMD x\nEXPOSE y\nENV A b\n",
            &["JSONArgsRecommended 2"],
            3,
        ),
        ("# check=skip=A;eror=true\nFROM busybox\nCMD x\n", &[], 1),
    ] {
        context.dockerfile(text);
        let output = call(&lab, "check,format=json", &context).fails();
        assert_eq!(output.code(), Some(1));
        let answer = json_of(&output);
        assert_eq!(warnings(&answer), found, "{text}");
        let error = &answer["buildError"];
        assert!(!error["message"].as_str().unwrap().is_empty());
        let place = &error["location"]["ranges"][0]["start"]["line"];
        assert_eq!(*place, line, "{text}");
    }
}

#[test]
fn findings_that_are_left_out_are_counted_in_the_data() {
    let lab = Lab::new();
    for (lines, omitted) in [(1000, 0), (1003, 3)] {
        let text = format!("FROM scratch\n{}", "MAINTAINER me\n".repeat(lines));
        let context = lab.dockerfile(&text);
        let answer = json_of(&call(&lab, "check,format=json", &context).fails());
        assert_eq!(answer["warnings"].as_array().unwrap().len(), 1000);
        let log = json_of(&call(&lab, "check,format=sarif", &context).fails());
        let run = &log["runs"][0];
        assert_eq!(run["results"].as_array().unwrap().len(), 1000);
        let notes = &run["invocations"][0]["toolExecutionNotifications"];
        let events = lab.build(&context).arg("--progress=rawjson");
        let events = events.output().ok().err.clone();
        let mut told = events.lines().filter(|line| line.contains("\"warning\""));
        let told = told.next_back().unwrap_or_default();
        if omitted == 0 {
            assert!(answer.get("warningsOmitted").is_none(), "{lines}");
            assert!(run.get("properties").is_none(), "{lines}");
            assert_eq!(notes.as_array().unwrap().len(), 0);
            assert!(!told.contains("not shown"), "{told}");
            continue;
        }
        assert_eq!(answer["warningsOmitted"], omitted);
        assert_eq!(run["properties"]["resultsOmitted"], omitted);
        assert!(told.contains("3 more warnings"), "{told}");
        let text = notes[0]["message"]["text"].as_str().unwrap();
        assert!(text.contains("3 more findings"), "{text}");
        let events = lab.build(&context).arg("--progress=plain");
        events
            .output()
            .ok()
            .says(&["1003 warnings from build checks, the last 3 not shown"]);
    }
}

#[test]
fn sarif_has_what_its_schema_asks_for() {
    let lab = Lab::new();
    let token = format!("ghp_{}", "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5");
    let context = lab.dockerfile(&format!("FROM busybox as b\nENV B=é A={token}\n"));
    let output = call(&lab, "check,format=sarif", &context).fails();
    let log = json_of(&output);
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().contains("sarif-2.1.0"));
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "kiln");
    let rules = driver["rules"].as_array().unwrap();
    for rule in rules {
        assert!(rule["id"].is_string() && rule["shortDescription"]["text"].is_string());
        let level = rule["defaultConfiguration"]["level"].as_str().unwrap();
        assert!(["none", "note", "warning", "error"].contains(&level));
    }
    let results = run["results"].as_array().unwrap();
    let mut seen = Vec::new();
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "Dockerfile");
        let region = |name: &str| place["region"][name].as_u64().unwrap();
        seen.push((
            result["ruleId"].as_str().unwrap(),
            result["level"].as_str().unwrap(),
            region("startLine"),
            region("startColumn"),
            region("endColumn"),
        ));
    }
    let end = 11 + u64::try_from(token.len()).unwrap();
    assert_eq!(
        seen,
        [
            ("FromAsCasing", "warning", 1, 14, 16),
            ("KilnSecretValue", "note", 2, 11, end),
        ]
    );
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);

    context.dockerfile("FROM busybox\nCOPY a\n");
    let log = json_of(&call(&lab, "check,format=sarif", &context).fails());
    let invocation = &log["runs"][0]["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let note = &invocation["toolExecutionNotifications"][0];
    assert_eq!(note["level"], "error");
    assert!(note["message"]["text"].as_str().unwrap().contains("COPY"));
}

#[test]
fn all_stages_are_checked_unless_one_is_named() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox AS a\nENV A $b\nFROM busybox AS b\nCMD x\n");
    let found = |target: &[&str]| {
        let kiln = call(&lab, "check,format=json", &context).args(target);
        warnings(&json_of(&kiln.fails()))
    };
    assert_eq!(
        found(&[]),
        [
            "LegacyKeyValueFormat 2",
            "UndefinedVar 2",
            "JSONArgsRecommended 4"
        ]
    );
    assert_eq!(found(&["--target", "b"]), ["JSONArgsRecommended 4"]);
    assert_eq!(
        found(&["--target", "a"]),
        ["LegacyKeyValueFormat 2", "UndefinedVar 2"]
    );
}

#[test]
fn a_build_ends_with_what_was_found() {
    let lab = Lab::new();
    let context = lab.dockerfile(SLOPPY);
    let build = |progress: &str| {
        let progress = format!("--progress={progress}");
        lab.kiln(["build", &progress, "-t", "x"])
            .last(context.path())
    };
    let plain = build("plain").output().ok().says(&[
        "[FromAsCasing]",
        " --> Dockerfile:1:14",
        "1 | FROM busybox as base",
        "|              ^^",
        "https://docs.docker.com/go/dockerfile/rule/from-as-casing/",
        "[LegacyKeyValueFormat]",
        "2 warnings",
    ]);
    let at = |part: &str| plain.err.find(part).unwrap();
    assert!(at("RUN echo x") < at("[FromAsCasing]") && at("2 warnings") < at("built x"));
    assert_eq!(lab.run("x", &["cat", "/x"]), "x");

    // As events, and not at all.
    let raw = build("rawjson").built();
    assert_eq!(raw.warnings.len(), 2, "{raw:?}");
    assert_eq!(raw.other, "");
    let quiet = lab.kiln(["build", "-q"]).last(context.path()).output().ok();
    assert!(
        quiet.err.is_empty() && quiet.stdout().starts_with("sha256:"),
        "{quiet}"
    );

    // A failure says it too, before the error.
    context.dockerfile("FROM busybox as b\nRUN exit 3\n");
    let failed = build("plain").fails();
    let at = |part: &str| failed.err.find(part).unwrap_or_else(|| panic!("{failed}"));
    assert!(at("[FromAsCasing]") < at("error: "));
}

#[test]
fn options_come_from_the_file_or_a_build_argument() {
    let lab = Lab::new();
    let body = "FROM busybox as b\nENV A b\nRUN echo ran > /x\nCOPY a /a\n";
    let context = lab.context("c", &[("a", ""), (".dockerignore", "a\n")]);
    let found = |directive: &str, argument: Option<&str>| {
        context.dockerfile(&format!("{directive}{body}"));
        let mut kiln = call(&lab, "check,format=json", &context);
        if let Some(argument) = argument {
            kiln = kiln.args([
                "--build-arg",
                &format!("BUILDKIT_DOCKERFILE_CHECK={argument}"),
            ]);
        }
        let answer = json_of(&kiln.output());
        let mut rules: Vec<String> = warnings(&answer);
        for rule in &mut rules {
            rule.truncate(rule.find(' ').unwrap());
        }
        (rules.join(" "), answer["buildError"].is_object())
    };
    let skip = "# check=skip=FromAsCasing\n";
    for (directive, argument, want) in [
        ("", None, ("FromAsCasing LegacyKeyValueFormat", false)),
        (skip, None, ("LegacyKeyValueFormat", false)),
        (
            skip,
            Some("skip=LegacyKeyValueFormat"),
            ("FromAsCasing", false),
        ),
        (skip, Some(""), ("FromAsCasing LegacyKeyValueFormat", false)),
        (
            skip,
            Some("error=true"),
            ("FromAsCasing LegacyKeyValueFormat", true),
        ),
        (skip, Some("nonsense"), ("", true)),
        (
            "# check=skip=all;experimental=all\n",
            None,
            ("CopyIgnoredFile", false),
        ),
    ] {
        let (rules, error) = found(directive, argument);
        assert_eq!((rules.as_str(), error), want, "{directive} {argument:?}");
    }
}

#[test]
fn findings_that_are_errors_stop_a_build_before_it_runs_anything() {
    let lab = Lab::new();
    let body = "FROM busybox as b\nRUN echo ran\n";
    let context = lab.dockerfile(&format!("# check=error=true\n{body}"));
    let build = || lab.kiln(["build", "--progress=plain"]).last(context.path());
    let stopped = build().fails().says(&[
        "[FromAsCasing]",
        "error: checks failed: FromAsCasing",
        "hint: ",
    ]);
    assert_eq!(stopped.code(), Some(1));
    assert!(!stopped.err.contains("RUN echo ran"), "{stopped}");
    // Skipped, or one of kiln's own: no reason to stop.
    context.dockerfile(&format!("# check=skip=FromAsCasing;error=true\n{body}"));
    build().output().ok();
    let own = "FROM busybox\nRUN echo apt-get update || apt-get update\n";
    context.dockerfile(&format!("# check=error=true\n{own}"));
    build().output().ok().says(&["[KilnAptListsInLayer]"]);
    let check = call(&lab, "check", &context).output().ok();
    assert!(
        check.stdout().contains("warning[KilnAptListsInLayer]: "),
        "{check}"
    );
    context.dockerfile(&format!(
        "# check=error=true;experimental=KilnAptListsInLayer\n{own}"
    ));
    build()
        .fails()
        .says(&["checks failed: KilnAptListsInLayer"]);
    assert_eq!(call(&lab, "check", &context).fails().code(), Some(1));
    // Options that make no sense stop it too.
    context.dockerfile(&format!("# check=eror=true\n{body}"));
    build().fails().says(&["`eror=true`", "Dockerfile:1:9"]);
}

#[test]
fn secrets_are_found_and_not_shown() {
    let lab = Lab::new();
    let secret = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5";
    let context = lab.dockerfile(&format!("FROM busybox\nENV A=\"ghp_{secret}\" B=c\n"));
    let outputs = [
        call(&lab, "check", &context).output().ok(),
        lab.kiln(["build", "--progress=plain"])
            .last(context.path())
            .output()
            .ok(),
    ];
    for output in outputs {
        let text = format!("{}{}", output.stdout(), output.err);
        assert!(text.contains("KilnSecretValue"), "{output}");
        assert!(
            text.contains("ENV A=\"****") && text.contains("****\" B=c"),
            "{output}"
        );
        assert!(!text.contains(secret), "{output}");
    }
}

#[test]
fn layers_that_ship_the_same_again_are_measured() {
    let lab = Lab::new();
    let text = "# check=experimental=KilnRepeatedBytes\nFROM busybox\n\
        RUN head -c 3000000 /dev/urandom > /big; echo small > /small\n\
        RUN chown nobody /big /small\nRUN echo other > /small\n";
    let context = lab.dockerfile(text);
    let build = || lab.kiln(["build", "--progress=plain"]).last(context.path());
    let first = build().output().ok().says(&[
        "3.0MB in 2 files",
        "`/big`",
        "[KilnRepeatedBytes]",
        "--> Dockerfile:4:1",
        "1 warning",
    ]);
    // It says so also when nothing ran.
    let again = build().output().ok().says(&["[KilnRepeatedBytes]"]);
    assert!(again.err.contains("0 ran"), "{first}\n{again}");
    context.dockerfile(text.split_once('\n').unwrap().1);
    let off = build().output().ok();
    assert!(!off.err.contains("KilnRepeatedBytes"), "{off}");
}

#[test]
fn copies_before_an_installation_are_found_by_what_the_context_holds() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nWORKDIR /app\nCOPY . .\nRUN npm ci\n");
    context
        .write("package.json", r#"{"dependencies": {"a": "1"}}"#)
        .write("src/a.js", "");
    let check = || call(&lab, "check", &context).output().ok();
    assert!(
        check()
            .stdout()
            .contains("warning[KilnCopyBeforeInstall]: ")
    );
    context.write(".dockerignore", "src\n");
    assert_eq!(check().stdout(), "");
}

const DESCRIBED: &str = "\
# VERSION is what is built
ARG VERSION=1.2
# base holds the tools
FROM busybox AS base
ARG VERSION
ARG NONE
RUN --mount=type=secret,id=token,required=true --mount=type=cache,target=/root/.cache true
RUN --mount=type=ssh true
FROM busybox
FROM --platform=$BUILDPLATFORM base AS Final
ARG LAST=z
";

#[test]
fn targets_are_listed() {
    let lab = Lab::new();
    let context = lab.dockerfile(DESCRIBED);
    let text = call(&lab, "targets", &context).output().ok();
    let lines: Vec<&str> = text.stdout().lines().map(str::trim_end).collect();
    assert_eq!(
        lines,
        [
            "TARGET            DESCRIPTION",
            "base              holds the tools",
            "1",
            "final (default)",
        ]
    );
    let answer = json_of(&call(&lab, "targets,format=json", &context).output().ok());
    let line = |n: u64| json!({"ranges": [{"start": {"line": n}, "end": {"line": n}}]});
    assert_eq!(
        answer["targets"],
        json!([
            {"name": "base", "description": "holds the tools", "base": "busybox", "location": line(4)},
            {"base": "busybox", "location": line(9)},
            {"name": "final", "default": true, "base": "base", "platform": "$BUILDPLATFORM",
             "location": line(10)},
        ])
    );
    assert!(answer["sources"][0].is_string());
    // Nothing is looked up for it.
    context.dockerfile("FROM nowhere.invalid/x AS a\n");
    call(&lab, "targets", &context).output().ok();
}

#[test]
fn an_outline_shows_what_can_be_given() {
    let lab = Lab::new();
    let context = lab.dockerfile(DESCRIBED);
    let text = call(&lab, "outline", &context).output().ok();
    let lines: Vec<&str> = text.stdout().lines().map(str::trim_end).collect();
    assert_eq!(
        lines,
        [
            "TARGET:   final",
            "",
            "BUILD ARG   VALUE   DESCRIPTION",
            "VERSION     1.2     is what is built",
            "NONE",
            "LAST        z",
            "",
            "SECRET   REQUIRED",
            "token    true",
            "",
            "SSH       REQUIRED",
            "default",
            "",
            "CACHE MOUNT",
            "/root/.cache",
        ]
    );
    let answer = json_of(
        &call(&lab, "outline,format=json", &context)
            .args(["--target=base", "--build-arg=VERSION=7"])
            .output()
            .ok(),
    );
    let line = |n: u64| json!({"ranges": [{"start": {"line": n}, "end": {"line": n}}]});
    assert_eq!(answer["name"], "base");
    assert_eq!(answer["description"], "holds the tools");
    assert_eq!(
        answer["args"],
        json!([
            {"name": "VERSION", "description": "is what is built", "value": "7", "location": line(2)},
            {"name": "NONE", "location": line(6)},
        ])
    );
    assert_eq!(
        answer["secrets"],
        json!([{"name": "token", "required": true, "location": line(7)}])
    );
    assert_eq!(
        answer["ssh"],
        json!([{"name": "default", "location": line(8)}])
    );
    assert_eq!(
        answer["cache"],
        json!([{"ID": "/root/.cache", "location": line(7)}])
    );
    let unknown = call(&lab, "outline", &context).arg("--target=zz").fails();
    assert_eq!((unknown.code(), unknown.stdout()), (Some(1), ""));
}

#[test]
fn calls_that_make_no_sense_are_wrong_usage() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\n");
    for method in [
        "chek",
        "outline,format=sarif",
        "check,format=xml",
        "check,json",
    ] {
        let output = call(&lab, method, &context).fails();
        assert_eq!(output.code(), Some(2), "{method}: {output}");
    }
    let both = call(&lab, "outline", &context).arg("--check").fails();
    assert_eq!(both.code(), Some(2));
    call(&lab, "build", &context)
        .args(["-t", "x"])
        .output()
        .ok();
    assert!(lab.inspect("x").is_object());
}

/// The plan of a build, in all of its forms, without anything being built.
#[test]
fn the_plan_of_a_build_is_shown() {
    let lab = Lab::new();
    let context = lab.context("context", &[("f", "x")]);
    context.dockerfile(
        "FROM scratch AS unused\nCOPY f /unused\nFROM busybox AS a\nARG SECRET_LOOKING=1\n\
         RUN --mount=type=tmpfs,target=/t --network=none echo hello\n\
         FROM busybox\nCOPY --from=a /etc/passwd /p\n",
    );
    let ask = |form: &str| {
        let call = format!("--call=plan{form}");
        let ask = lab.kiln(["build", &call, "--build-arg=https_proxy=http://u:pw@h"]);
        let out = ask.last(context.path()).output().ok();
        assert!(!out.stdout().contains("pw"), "{out}");
        out.stdout().to_owned()
    };
    let text = ask("");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[1].contains("RUN --mount=type=tmpfs") && lines[1].ends_with("<- #0"),
        "{text}"
    );
    assert!(
        lines[2].contains("COPY --from=a") && lines[2].ends_with("<- #0, #1"),
        "{text}"
    );
    let plan: serde_json::Value = serde_json::from_str(&ask(",format=json")).unwrap();
    let run = &plan["vertices"][1];
    assert_eq!(run["exec"]["words"], serde_json::json!(["echo hello"]));
    assert_eq!(run["exec"]["network"], "none");
    assert_eq!(run["exec"]["mounts"][0]["type"], "tmpfs");
    assert_eq!(plan["targets"], serde_json::json!([2]));
    let dot = ask(",format=dot");
    assert!(
        dot.starts_with("digraph plan {") && dot.contains("n1 -> n2"),
        "{dot}"
    );
}
