//! What kiln offers while a command is typed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::path::Path;
use std::process::Command;

use kiln_tests::{Lab, Tarball, setting};

/// What bash offers where a line has been typed so far.
fn offered(lab: &Lab, line: &str) -> Vec<String> {
    let script = lab.path("offer.bash");
    let kiln = setting("KILN_TEST_BIN");
    let text = format!(
        "PATH={}:$PATH\n{}\nCOMP_LINE=$1 COMP_POINT=${{#1}}\n_kiln\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        Path::new(&kiln).parent().unwrap().display(),
        lab.kiln(["completions", "bash"]).output().ok().stdout(),
    );
    std::fs::write(&script, text).unwrap();
    let root = lab.store();
    let output = Command::new("bash")
        .arg(&script)
        .arg(line)
        .env("KILN_ROOT", &root)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.is_empty(), "{line}: {told}");
    let offered = String::from_utf8(output.stdout).unwrap();
    offered
        .lines()
        .filter(|l| !l.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn names_of_images_are_completed_as_they_are_typed() {
    let lab = Lab::new();
    lab.import(&Tarball::new().dir("etc", 0o755).bytes(), "words:1");
    for name in ["words:2", "other", "registry.example.com:5000/team/web:1.0"] {
        lab.kiln(["tag", "words:1", name]).output().ok();
    }
    let all = [
        "other:latest",
        "registry.example.com:5000/team/web:1.0",
        "words:1",
        "words:2",
    ];
    for command in ["rmi", "run --rm", "tag", "inspect", "history", "save -o x"] {
        assert_eq!(offered(&lab, &format!("kiln {command} ")), all, "{command}");
    }
    for (line, wanted) in [
        ("kiln rmi w", &["words:1", "words:2"][..]),
        // Bash puts what is offered in the place of what follows a colon.
        ("kiln rmi words:", &["1", "2"]),
        ("kiln rmi 'words:", &["words:1", "words:2"]),
        ("kiln rmi words:1 oth", &["other:latest"]),
        (
            "kiln rmi docker.io/library/o",
            &["docker.io/library/other:latest"],
        ),
        (
            "kiln rmi registry.example.com:5000/",
            &["5000/team/web:1.0"],
        ),
        ("kiln inspect none", &[]),
        // A new name, and a command in a container, are no images.
        ("kiln tag words:1 w", &[]),
        ("kiln run words:1 w", &[]),
        ("kiln comp", &["completions"]),
        ("kiln build --progress=pl", &["plain"]),
        ("kiln --root=/nowhere/at/all rmi ", &[]),
        ("kiln rmi # ", &[]),
    ] {
        assert_eq!(offered(&lab, line), wanted, "{line}");
    }
}

#[test]
fn completion_makes_no_store_and_says_nothing_of_what_is_wrong() {
    let lab = Lab::new();
    let nowhere = lab.path("nowhere");
    let line = |root: &str| format!("kiln --root {root} rmi ");
    assert!(offered(&lab, &line(nowhere.to_str().unwrap())).is_empty());
    assert!(!nowhere.exists());
    std::fs::create_dir(&nowhere).unwrap();
    std::fs::write(nowhere.join("meta-v1.db"), "no database").unwrap();
    assert!(offered(&lab, &line(nowhere.to_str().unwrap())).is_empty());
    let there: Vec<_> = std::fs::read_dir(&nowhere).unwrap().collect();
    assert_eq!(there.len(), 1, "{there:?}");
    // Other shells give words.
    lab.import(&Tarball::new().dir("etc", 0o755).bytes(), "words:1");
    for shell in ["zsh", "fish", "elvish"] {
        let ask = lab.kiln(["--", "kiln", "rmi", "w"]);
        let ask = ask
            .env("KILN_COMPLETE", shell)
            .env("_CLAP_COMPLETE_INDEX", "2");
        let said = ask.output().ok();
        let said = said.stdout().replace('\\', "");
        assert!(said.contains("words:1"), "{shell}: {said}");
    }
}

#[test]
fn values_come_from_the_dockerfile_and_the_store() {
    let lab = Lab::new();
    let context = lab.context("context", &[]);
    context.dockerfile(
        "ARG VERSION=1\nFROM busybox AS build\nARG VARIANT\nRUN --mount=type=secret,id=token --mount=type=cache,id=deps,target=/c true\nFROM busybox AS final\nCOPY --from=build /bin/sh /x\n",
    );
    lab.build(&context)
        .arg("--target=build")
        .args(["--secret", "id=token,env=HOME"])
        .built();
    let at = context.path().display().to_string();
    for (line, wanted) in [
        (
            format!("kiln build {at} --target "),
            &["build", "final"][..],
        ),
        (format!("kiln build {at} --target=f"), &["final"]),
        (
            format!("kiln build -f {at}/Dockerfile --build-arg V"),
            &["VARIANT=", "VERSION="],
        ),
        (format!("kiln build {at} --secret "), &["id=token"]),
        (format!("kiln build {at} --no-cache-filter b"), &["build"]),
        ("kiln cache rm ".into(), &["deps"]),
        (
            "kiln images --filter dang".into(),
            &["dangling=false", "dangling=true"],
        ),
        ("kiln images --format js".into(), &["json"]),
        ("kiln build --target ".into(), &[]),
    ] {
        assert_eq!(offered(&lab, &line), wanted, "{line}");
    }
    let script = lab
        .kiln(["completions", "bash", "--name", "docker"])
        .output()
        .ok();
    assert!(script.stdout().ends_with("-F _docker docker"), "{script}");
    lab.kiln(["completions", "bash", "--name", "a b"]).fails();
}
