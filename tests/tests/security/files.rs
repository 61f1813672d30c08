//! Files that kiln reads by a name at which anything may lie: endless ones, pipes, links out of a context.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use kiln_tests::{Canary, Kiln, Lab, Tarball};
use nix::sys::stat::Mode;

/// What may lie at a name in place of a file.
const ODD: [&str; 5] = ["endless", "pipe", "huge", "secret", "directory"];

/// Puts one of them at `path`.
fn put(what: &str, path: &Path, canary: &Canary) {
    match what {
        "endless" => symlink("/dev/zero", path).unwrap(),
        "pipe" => nix::unistd::mkfifo(path, Mode::S_IRUSR).unwrap(),
        "huge" => std::fs::File::create(path)
            .unwrap()
            .set_len(1 << 40)
            .unwrap(),
        "secret" => symlink(format!("{}/secret", canary.path()), path).unwrap(),
        _ => std::fs::create_dir(path).unwrap(),
    }
}

/// Runs kiln with a gigabyte of memory: what reads without end dies of that, or fails.
fn refuses(kiln: Kiln, canary: &Canary, about: &str) -> String {
    let out = kiln.through("ulimit -v 4000000; exec \"$@\"").fails();
    assert!(!out.err.contains(canary.secret()), "{about}: {out}");
    assert!(!out.err.contains("memory allocation"), "{about}: {out}");
    out.err
}

#[test]
fn files_of_a_context_are_regular_bounded_and_its_own() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    for name in [".dockerignore", "Dockerfile.dockerignore", "Dockerfile"] {
        for what in ODD {
            let context = lab.context(
                &format!("{what}-{name}"),
                &[("Dockerfile", "FROM busybox\nCOPY . /c\n"), ("f", "")],
            );
            let file = context.at(name);
            let _ = std::fs::remove_file(&file);
            put(what, &file, &canary);
            let about = format!("{name} {what}");
            let dockerfile = context.at("Dockerfile");
            let dir = context.path().to_owned();
            let build = |options: &[&str]| {
                let build = lab.kiln(["build"]).args(options).last(&dir);
                refuses(build, &canary, &about)
            };
            let said = [
                build(&[]),
                build(&["-f", dockerfile.to_str().unwrap()]),
                build(&["--check"]),
                build(&["--call", "targets"]),
            ];
            assert!(said.iter().take(2).all(|s| s.contains(name)), "{said:?}");
            if name == "Dockerfile" {
                for options in [&["--check"][..], &["--diff"]] {
                    let fmt = || lab.kiln(["fmt"]).args(options);
                    refuses(fmt().arg(&dir), &canary, &about);
                    // Which file it is, is the user's word then.
                    if what != "secret" {
                        refuses(fmt().arg(&dockerfile), &canary, &about);
                    }
                }
            } else {
                let explain = lab.kiln(["explain-context"]).arg(&dir);
                let said = refuses(explain, &canary, &about);
                assert!(said.contains(name), "{said}");
            }
        }
    }
    canary.assert_untouched();
}

#[test]
fn a_dockerfile_of_the_context_does_not_lead_out_of_it() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let context = lab.context("context", &[("real", "FROM busybox\n")]);
    let elsewhere = lab.context("elsewhere", &[("D", "FROM busybox\n")]);
    let secret = format!("{}/secret", canary.path());
    context
        .link("inside", "real")
        .link("out", elsewhere.at("D").to_str().unwrap())
        .link("secret", &secret)
        .link("dir", elsewhere.path().to_str().unwrap());
    elsewhere.link("link", elsewhere.at("D").to_str().unwrap());
    let path = |path: &str| lab.path(path);
    for (file, good) in [
        (path("context/real"), true),
        (path("context/inside"), true),
        (path("context/out"), false),
        (path("context/secret"), false),
        (path("context/dir/D"), false),
        // Elsewhere the user's word counts.
        (path("elsewhere/D"), true),
        (path("elsewhere/link"), true),
        (path("context/../elsewhere/link"), true),
        (PathBuf::from("../elsewhere/link"), true),
        (PathBuf::from("inside"), true),
        (PathBuf::from("out"), false),
    ] {
        let build = lab.kiln(["build", "-q", "-f"]).arg(&file);
        let out = build.arg(context.path()).dir(context.path()).output();
        let out = out.orderly();
        assert_eq!(out.succeeded(), good, "{}: {out}", file.display());
        assert!(!out.err.contains(canary.secret()), "{out}");
    }
}

#[test]
fn a_dockerfile_may_come_through_a_pipe_and_ends() {
    let lab = Lab::new();
    let context = lab.context("context", &[("f", "x")]);
    let build = |script: &str| {
        let build = lab.kiln(["build", "-q"]).last(context.path());
        build.through(&format!("exec bash -c '{script}' bash \"$@\""))
    };
    let text = "printf \"FROM busybox\\nCOPY f /f\\n\"";
    build(&format!("\"$@\" -f <({text})")).output().ok();
    let named = lab.path("named");
    nix::unistd::mkfifo(&named, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let named = named.display();
    build(&format!("{text} > {named} & \"$@\" -f {named}"))
        .output()
        .ok();
    for endless in ["\"$@\" -f <(yes)", "yes | \"$@\" -f -"] {
        build(endless).fails().says(&["larger than 16"]);
    }
    build("\"$@\" -f /dev/zero").fails().says(&["/dev/zero"]);
    let yes = lab.kiln(["fmt", "-"]).through("yes | \"$@\"");
    yes.fails().says(&["larger than 16"]);
}

#[test]
fn files_that_options_name_end() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let context = lab.dockerfile("FROM busybox\nRUN --mount=type=secret,id=s true\n");
    for what in ["endless", "huge", "directory"] {
        let file = lab.path(what);
        put(what, &file, &canary);
        let at = file.display();
        let secret = format!("id=s,src={at}");
        let config = lab.path(&format!("{what}.toml"));
        std::fs::write(
            &config,
            format!("[registries.\"r.example\"]\nca = [\"{at}\"]\n"),
        )
        .unwrap();
        let signed = lab.path(&format!("{what}-key.toml"));
        std::fs::write(&signed, format!("[cache]\nsign-key = \"{at}\"\n")).unwrap();
        let build = || lab.kiln(["build"]).last(context.path());
        let to = format!("type=local,dest={}", lab.path("cache").display());
        for (kiln, of) in [
            (build().args(["--secret", &secret]), "secret"),
            (build().arg("--source-policy-file").arg(&file), "policy"),
            (build().arg("--config").arg(&file), "config"),
            (build().arg("--config").arg(&config), "authority"),
            (
                build()
                    .arg("--config")
                    .arg(&signed)
                    .args(["--cache-to", &to]),
                "key",
            ),
            (
                lab.kiln(["run", "--rm", "--env-file"])
                    .arg(&file)
                    .args(["busybox", "true"]),
                "environment",
            ),
        ] {
            let said = refuses(kiln, &canary, &format!("{of} {what}"));
            let why = ["not a regular file", "larger than"];
            assert!(
                why.iter().any(|why| said.contains(why)),
                "{of} {what}: {said}"
            );
        }
    }
    // A pipe is what some of them may be.
    let run = lab.kiln(["run", "--rm", "--env-file"]);
    let script = "echo A=b | \"$@\"";
    let run = run.args(["/dev/stdin", "busybox", "sh", "-c", "echo $A"]);
    let out = run.through(script).output().ok();
    assert_eq!(out.stdout(), "b");
}

#[test]
fn ignore_files_of_this_machine_are_none_of_an_archives() {
    let lab = Lab::new();
    let here = lab.context("here", &[("D.dockerignore", "*\n"), ("D", "")]);
    let tar = Tarball::new()
        .file("D", "FROM busybox\nCOPY f /f\n")
        .file("f", "x")
        .bytes();
    let build = lab.kiln(["build", "-q", "-f", "D", "-"]).stdin(tar);
    build.dir(here.path()).output().ok();
}
