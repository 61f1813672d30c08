//! What others have written is printed so that it does nothing to a terminal.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::{Context, Kiln, Lab, Output, Tarball};
use serde_json::Value;

/// Clears the screen and sets the title, by ESC and by C1; a bell, DEL and a lone return.
const EVIL: &str = "a\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}2J\u{9d}0;title\u{9c}\u{7f}\u{85}\rz";

/// Fails if there is anything in an output that a terminal would act on.
fn check(out: &Output, about: &str) {
    for text in [out.stdout(), &out.err] {
        let is_harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!text.contains(is_harmful), "{about}: {text:?}");
    }
}

/// The same of what is shown on a terminal, where kiln itself moves the cursor.
fn check_on_a_terminal(kiln: Kiln, about: &str) {
    let out = kiln.on_a_terminal().output().orderly();
    for part in [
        "\u{1b}[2J",
        "\u{1b}]0;",
        "\u{9b}2J",
        "\u{9d}0;",
        "\u{7}",
        "\u{7f}",
        "\u{85}",
    ] {
        assert!(
            !out.stdout().contains(part),
            "{about}: {part:?} in {:?}",
            out.stdout()
        );
    }
}

/// A context whose Dockerfile has such text wherever it may stand.
fn context(lab: &Lab, last: &str) -> Context {
    lab.dockerfile(&format!(
        "# {EVIL}\nFROM busybox AS base\n# target: {EVIL}\nARG A=\"{EVIL}\"\nLABEL l=\"{EVIL}\" \"k{EVIL}\"=v\n\
         ENV E=\"{EVIL}\"\nMAINTAINER {EVIL}\nRUN --mount=type=cache,id=\"m{EVIL}\",target=/c printf x > /x # {EVIL}\n{last}\n"
    ))
}

#[test]
fn images_and_the_store_are_told_of_in_plain_text() {
    let lab = Lab::new();
    let context = context(&lab, "CMD [\"true\"]");
    let build = lab.kiln(["build", "-t", "x", "--progress=plain"]);
    let out = build.last(context.path()).output().ok();
    check(&out, "build");
    for command in [
        &["history", "x"][..],
        &["history", "--no-trunc", "x"],
        &["history", "--no-trunc", "--format", "{{.CreatedBy}}", "x"],
        &["history", "--format", "json", "x"],
        &["history", "--format", "table {{.ID}}\t{{.CreatedBy}}", "x"],
        &["inspect", "x"],
        &["inspect", "--format", "{{.Config.Labels}}", "x"],
        &["inspect", "--format", "{{json .Config}}", "x"],
        &["inspect", "--format", "{{index .Config.Labels \"l\"}}", "x"],
        &["inspect", "--format", "{{join .Config.Env \",\"}}", "x"],
        &["images"],
        &["images", "--format", "{{json .}}"],
        &["cache", "ls"],
        &["cache", "ls", "-q"],
        &["cache", "ls", "--format", "{{.ID}}"],
        &["cache", "ls", "--format", "json"],
        &["cache", "inspect", &format!("m{EVIL}")],
        &["cache", "inspect", EVIL],
        &["system", "df", "-v"],
        &["system", "df", "-v", "--format", "json"],
        &["fsck"],
        &["prune", "-f", "--verbose", "--all"],
        &["cache", "rm", &format!("m{EVIL}")],
    ] {
        let out = lab.kiln(command).output().orderly();
        check(&out, &command.join(" "));
        assert!(!out.out.is_empty() || !out.err.is_empty(), "{command:?}");
    }
    // What programs read says the same as before.
    let config = lab.inspect("x");
    assert_eq!(config["Config"]["Labels"]["l"], EVIL);
    let out = lab.kiln(["inspect", "--format", "{{json .Config.Labels}}", "x"]);
    let labels: Value = serde_json::from_str(out.output().ok().stdout()).unwrap();
    assert_eq!(labels[format!("k{EVIL}")], "v");
}

#[test]
fn dockerfiles_are_told_of_in_plain_text() {
    let lab = Lab::new();
    for last in [
        "CMD true".to_owned(),
        format!("RUN echo '{EVIL}'; printf '\\033[2J\\302\\2332J\\007'; false"),
        format!("COPY {EVIL} /x"),
        format!("FROM base AS {EVIL}"),
        format!("WRKDIR {EVIL}"),
        format!("RUN --mount={EVIL} true"),
        format!("COPY --chwon={EVIL} a b"),
        format!("EXPOSE {EVIL}"),
        format!("USER {EVIL}\nRUN true"),
        format!("FROM {EVIL}"),
        format!("ADD http://{EVIL}/ /x"),
        format!("from busybox as {EVIL}"),
    ] {
        let context = context(&lab, &last);
        let file = context.at("Dockerfile");
        let file = file.to_str().unwrap();
        for options in [
            &["build", "--progress=plain", "--explain"][..],
            &["build", "--check"],
            &["build", "--check", "--call=check,format=json"],
            &["build", "--call=check,format=sarif"],
            &["build", "--call=outline"],
            &["build", "--call=outline,format=json"],
            &["build", "--call=targets"],
            &["build", "--call=targets,format=json"],
            &["build", "--progress=rawjson"],
        ] {
            let about = format!("{} {last:?}", options.join(" "));
            let kiln = || lab.kiln(options).last(context.path());
            check(&kiln().output().orderly(), &about);
            let annotated = kiln().env("GITHUB_ACTIONS", "true");
            check(&annotated.output().orderly(), &about);
        }
        check_on_a_terminal(lab.kiln(["build"]).last(context.path()), &last);
        check_on_a_terminal(lab.kiln(["build", "--check"]).last(context.path()), &last);
        check_on_a_terminal(lab.kiln(["fmt", "--diff", file]), &last);
        check(
            &lab.kiln(["fmt", "--check", file]).output().orderly(),
            &last,
        );
    }
}

#[test]
fn archives_and_contexts_are_told_of_in_plain_text() {
    let lab = Lab::new();
    let layout = "{\"imageLayoutVersion\":\"1.0.0\"}";
    let manifest = |text: Value| text.to_string();
    let digest = format!("sha256:{EVIL}");
    for tar in [
        Tarball::new().file("manifest.json", &manifest(serde_json::json!(
            [{"Config": EVIL, "RepoTags": [EVIL], "Layers": [EVIL]}]
        ))),
        Tarball::new().file("manifest.json", EVIL),
        Tarball::new().file("oci-layout", layout).file("index.json", EVIL),
        Tarball::new().file("oci-layout", &format!("{{\"imageLayoutVersion\":{}}}", Value::from(EVIL))).file("index.json", "{}"),
        Tarball::new().file("oci-layout", layout).file("index.json", &manifest(serde_json::json!(
            {"schemaVersion": 2, "manifests": [{"mediaType": EVIL, "digest": digest, "size": 1}]}
        ))),
        Tarball::new().file(EVIL, "x").link(EVIL, EVIL),
    ] {
        let bytes = tar.bytes();
        for command in [&["load"][..], &["import", "-", "x"], &["build", "-"]] {
            let out = lab.kiln(command).stdin(bytes.clone()).output().orderly();
            check(&out, command[0]);
        }
    }
    let context = lab.context("context", &[(EVIL, "x"), (&format!("{EVIL}d/f"), "y")]);
    context.write(".dockerignore", format!("{EVIL}\n!{EVIL}\n"));
    let out = lab.kiln(["explain-context"]).arg(context.path());
    check(&out.output().ok(), "explain-context");
    let out = lab
        .kiln(["explain-context", "--format=json"])
        .arg(context.path());
    let out = out.output().ok();
    check(&out, "explain-context json");
    let value: Value = serde_json::from_str(out.stdout()).unwrap();
    let entries = value["entries"].as_array().unwrap();
    assert!(entries.iter().any(|e| e["path"] == EVIL), "{value}");
    context.dockerfile("FROM busybox\nCOPY . /c\nRUN rm -r /c/* /missing\n");
    let build = lab.kiln(["build", "--progress=plain"]).last(context.path());
    check(&build.output().orderly(), "build");
}

#[test]
fn a_formatted_file_keeps_its_bytes() {
    let lab = Lab::new();
    let text = "FROM busybox\nRUN printf '\u{1b}[1m\u{9b}'\n";
    let out = lab.kiln(["fmt", "-"]).stdin(text).output().ok();
    assert_eq!(String::from_utf8(out.out).unwrap(), text);
}

#[test]
fn output_is_no_command_of_a_workflow() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nLABEL l=\"::add-mask::x\"\nRUN <<E\necho ::add-mask::x\necho '  ::add-mask::x'\n\
         ::add-mask::x\necho '##[add-mask]x'\nexit 1\nE\n",
    );
    for progress in ["plain", "quiet"] {
        let build = lab.kiln(["build", "--progress", progress]);
        let build = build.last(context.path()).env("GITHUB_ACTIONS", "true");
        let out = build.fails();
        let is_command =
            |line: &str| line.trim_start().starts_with("::add-mask") || line.contains("##[");
        assert!(!out.err.lines().any(is_command), "{out}");
        // kiln's own are there.
        assert!(
            out.err.lines().any(|l| l.starts_with("::error file=")),
            "{out}"
        );
    }
}
