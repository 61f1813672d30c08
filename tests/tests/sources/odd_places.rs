//! Stores in places that are unusual, and what has become of them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use kiln_tests::{Context, Kiln, Lab};

const DOCKERFILE: &str = "FROM busybox\nCOPY f /\nRUN cat /f > /x\n\
    RUN --mount=type=cache,target=/c --mount=type=bind,target=/m cat /x /m/f > /c/y\n";

fn context(lab: &Lab) -> Context {
    let context = lab.context("con\\text", &[]);
    context.dockerfile(DOCKERFILE).write("f", "file");
    context
}

fn build(lab: &Lab, context: &Context, root: &Path) -> Kiln {
    lab.build(context)
        .args(["--no-cache", "--tag", "x"])
        .env("KILN_ROOT", root)
}

#[test]
fn a_store_may_have_any_name_or_it_is_said_what_is_wrong() {
    let lab = Lab::new();
    let context = context(&lab);
    let long = ["a", "b", "c"].map(|letter| letter.repeat(200)).join("/");
    for (name, why) in [
        (b"s\\b\\134c".as_slice(), None),
        (b"s,a:b c\"d'", None),
        (b"s\n\tt", None),
        ("é".as_bytes(), None),
        (b"s\xff", Some("its path is not UTF-8")),
        (long.as_bytes(), Some("480 are the most")),
    ] {
        let root = lab.dir().join(OsStr::from_bytes(name));
        let build = build(&lab, &context, &root);
        if let Some(why) = why {
            build.fails().says(&[why, "--root"]);
            assert!(!root.exists());
            continue;
        }
        build.built();
        let run = lab.kiln(["run", "--rm", "--network", "none", "x", "cat", "/x"]);
        let run = run.env("KILN_ROOT", &root).output().ok();
        assert_eq!(run.stdout(), "file", "{}", root.display());
    }
}

#[test]
fn each_folder_of_a_store_may_be_lost() {
    let lab = Lab::new();
    let context = context(&lab);
    let root = lab.store();
    build(&lab, &context, &root).built();
    for folder in [
        "work-v1",
        "trash",
        "logs-v1",
        "stat-v1",
        "mounts-v1",
        "layers-v1/empty",
        "content-v1/partial",
    ] {
        lab.assert_clean();
        let _ = std::fs::remove_dir_all(root.join(folder));
        build(&lab, &context, &root).built();
        assert_eq!(lab.run("x", &["cat", "/x"]), "file", "without {folder}");
    }
}

#[test]
fn what_the_machine_lacks_is_named() {
    let lab = Lab::new();
    let context = context(&lab);
    build(&lab, &context, &lab.store()).built();
    lab.assert_clean();
    let store = lab.store();
    let at = store.display();
    for command in [
        &["images"][..],
        &["build", "."],
        &["run", "--rm", "x"],
        &["fsck"],
    ] {
        let kiln = || lab.kiln(command).dir(context.path());
        kiln()
            .after("umount -l /proc")
            .fails()
            .says(&["there is no /proc", "mount -t proc"]);
        kiln()
            .after(&format!(
                "mount --bind {at} {at}\nmount -o remount,ro,bind {at}"
            ))
            .fails()
            .says(&["Read-only file system", "--root"]);
    }
}

/// Overlayfs stacks so many layers and no more.
#[test]
fn an_image_of_too_many_layers_is_named_as_one() {
    let lab = Lab::new();
    let context = lab.context("context", &[]);
    let build = |copies: usize| {
        let copies: String = (0..copies).map(|n| format!("COPY f /{n}\n")).collect();
        let text = format!("FROM busybox\n{copies}");
        context.dockerfile(&text).write("f", "file");
        lab.build(&context).tag("x")
    };
    build(500).built();
    let limit = "of which Linux stacks 500 at most";
    build(501).fails().says(&[limit]);
    lab.kiln(["run", "--rm", "x", "true"])
        .fails()
        .says(&[limit]);
    build(499).built();
    assert_eq!(lab.run("x", &["cat", "/498"]), "file");
}

/// With too few descriptors a command ends and says so, wherever they run out, or does its work. What it could not
/// open to take away, the next command does.
#[test]
fn few_descriptors_end_a_command_in_order() {
    let lab = Lab::new();
    lab.kiln(["pull", "busybox"]).output().ok();
    let mut ended = 0;
    for descriptors in 6..=24 {
        let run = lab
            .kiln(["run", "--rm", "--network", "none", "busybox", "true"])
            .after(&format!("ulimit -n {descriptors}"))
            .output();
        assert!(!run.err.contains("panicked"), "{descriptors}: {run}");
        let is_orderly = matches!(run.code(), Some(0 | 1 | 125));
        assert!(is_orderly, "{descriptors}: {run}");
        if !run.succeeded() {
            ended += 1;
            assert!(run.err.contains("error: "), "{descriptors}: {run}");
        }
    }
    assert!(ended > 5, "{ended}");
    lab.kiln(["run", "--rm", "--network", "none", "busybox", "true"])
        .output()
        .ok();
}
