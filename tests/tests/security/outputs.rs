//! Directories that somebody else has prepared with links, for what kiln writes and reads there.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use kiln_tests::{Canary, Context, Lab, Outcome};
use nix::sys::stat::Mode;

/// An empty directory of the lab.
fn directory(lab: &Lab, name: &str) -> PathBuf {
    let path = lab.path(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn context(lab: &Lab) -> Context {
    lab.dockerfile(
        "FROM busybox\nRUN --mount=type=cache,target=/c echo x > /c/x && echo made > /made\n",
    )
}

/// Names of folders and files that kiln makes in caches and layouts.
const NAMES: [&str; 6] = [
    "blobs",
    "records-v1",
    "claims-v1",
    "blobs/sha256",
    "index.json",
    "oci-layout",
];

/// Puts a link to `target` at one of the names.
fn plant(dir: &Path, name: &str, target: &str) {
    let at = dir.join(name);
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    symlink(target, at).unwrap();
}

#[test]
fn nothing_is_written_through_links_in_a_directory() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let context = context(&lab);
    let targets = [
        canary.path(),
        "../canary".to_owned(),
        format!("{}/private", canary.path()),
        format!("{}/new", canary.path()),
        format!("{}/writable", canary.path()),
    ];
    for (number, target) in targets.iter().enumerate() {
        for name in NAMES {
            let dir = directory(&lab, &format!("{number}-{}", name.replace('/', "-")));
            plant(&dir, name, target);
            let at = dir.display();
            let cache = format!("type=local,dest={at},mode=max");
            for options in [
                ["--cache-to", &cache],
                ["--cache-mount-to", &format!("type=local,dest={at}")],
                ["-o", &format!("type=oci,tar=false,dest={at}")],
            ] {
                let build = lab.build(&context).arg("--no-cache").args(options);
                let out = build.output().orderly();
                // A cache never fails a build.
                assert!(out.succeeded() || options[0] == "-o", "{out}");
                canary.assert_untouched();
            }
        }
    }
}

#[test]
fn a_cache_does_not_lead_out_of_its_directory() {
    let lab = Lab::new();
    let context = context(&lab);
    let real = directory(&lab, "real");
    let to = format!("type=local,dest={},mode=max", real.display());
    lab.build(&context).args(["--cache-to", &to]).built();
    let linked = directory(&lab, "linked");
    for name in ["records-v1", "blobs"] {
        symlink(real.join(name), linked.join(name)).unwrap();
    }
    for (dir, found) in [(&linked, false), (&real, true)] {
        let store = lab.path(if found { "found" } else { "missed" });
        let from = format!("type=local,src={}", dir.display());
        let build = lab.build(&context).args(["--cache-from", &from]);
        let built = build.arg("--root").arg(store).built();
        let step = built.steps.values().find(|s| s.name.contains("RUN"));
        let outcome = step.unwrap().outcome;
        assert_eq!(outcome == Some(Outcome::Cached), found, "{outcome:?}");
    }
}

#[test]
fn a_layout_is_described_by_files_of_its_own() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let context = context(&lab);
    let dir = directory(&lab, "layout");
    let dest = format!("type=oci,tar=false,dest={}", dir.display());
    lab.build(&context).args(["-o", &dest]).built();
    lab.kiln(["load", "-i"]).arg(&dir).output().ok();
    // Blobs are checked against their names, and may lie anywhere.
    let (blobs, elsewhere) = (dir.join("blobs"), lab.path("elsewhere"));
    std::fs::rename(&blobs, &elsewhere).unwrap();
    symlink(&elsewhere, &blobs).unwrap();
    lab.kiln(["load", "-i"]).arg(&dir).output().ok();
    let base = lab.dockerfile(&format!("FROM oci-layout://{}\n", dir.display()));
    for name in ["index.json", "oci-layout"] {
        let (file, kept) = (dir.join(name), lab.path(name));
        std::fs::rename(&file, &kept).unwrap();
        for target in [&kept, &lab.path("canary/secret"), &"/dev/zero".into()] {
            symlink(target, &file).unwrap();
            for work in [lab.kiln(["load", "-i"]).arg(&dir), lab.build(&base)] {
                let out = work.fails();
                assert!(!out.err.contains(canary.secret()), "{out}");
            }
            std::fs::remove_file(&file).unwrap();
        }
        // Neither is a pipe waited for.
        nix::unistd::mkfifo(&file, Mode::S_IRUSR).unwrap();
        lab.kiln(["load", "-i"]).arg(&dir).fails();
        lab.build(&context).args(["-o", &dest]).output().orderly();
        let _ = std::fs::remove_file(&file);
        std::fs::rename(&kept, &file).unwrap();
    }
    canary.assert_untouched();
}

#[test]
fn no_file_that_is_begun_has_a_name_that_can_be_guessed() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let context = context(&lab);
    lab.build(&context).tag("x").built();
    let dir = directory(&lab, "shared");
    let target = lab.path("canary/writable");
    // As many as processes may start meanwhile.
    let next = std::process::id();
    for pid in next..next + 20_000 {
        for name in [
            format!(".out.tar.{pid}.partial"),
            format!("out.tar.part-{pid}"),
        ] {
            symlink(&target, dir.join(name)).unwrap();
        }
    }
    let out = dir.join("out.tar");
    for command in [&["save", "x", "-o"][..], &["cache", "export", "/c", "-o"]] {
        lab.kiln(command).arg(&out).output().ok();
        assert!(out.symlink_metadata().unwrap().is_file());
        std::fs::remove_file(&out).unwrap();
        canary.assert_untouched();
    }
}
