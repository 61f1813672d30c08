//! Layers and archives as all kinds of programs write them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use kiln_tests::{Lab, Tarball, registry_of, tool};
use tar::EntryType;

/// An image of these layers, on top of one with busybox.
fn image(lab: &Lab, layers: Vec<Tarball>) -> String {
    let mut all = vec![Tarball::busybox().bytes()];
    all.extend(layers.into_iter().map(Tarball::bytes));
    image_of(lab, &all)
}

/// An image of these layers, which stays in the store when its registry is gone.
fn image_of(lab: &Lab, layers: &[Vec<u8>]) -> String {
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let server = registry_of("app", &layers);
    let name = format!("{}/app:latest", server.host());
    lab.kiln(["pull", &name]).output().ok();
    name
}

/// What is in an image, written to a directory: each path but that of programs, sorted.
fn listed(lab: &Lab, name: &str) -> Vec<String> {
    let context = lab.context("list", &[("Dockerfile", &format!("FROM {name}\n"))]);
    let out = lab.path("listed");
    let _ = std::fs::remove_dir_all(&out);
    let output = format!("type=local,dest={}", out.display());
    lab.kiln(["build", "-o", &output])
        .last(context.path())
        .output()
        .ok();
    let found = tool(
        "find",
        [out.to_str().unwrap(), "-mindepth", "1", "-printf", "%P\n"],
    );
    let own = ["bin", "dev", "etc", "proc", "sys", "tmp"];
    let is_own = |path: &&str| !own.contains(&path.split('/').next().unwrap());
    let mut names: Vec<String> = found.lines().filter(is_own).map(Into::into).collect();
    names.sort();
    names
}

#[test]
fn whiteouts_hide_what_is_below_and_are_seen_nowhere() {
    let lab = Lab::new();
    let new = Tarball::new;
    let below = || {
        new()
            .dir("a", 0o755)
            .file("a/low", "1")
            .file("b", "1")
            .dir("d", 0o755)
            .file("d/low", "1")
    };
    for (what, layers, left) in [
        (
            "what hides nothing, in a directory that is nowhere else",
            vec![
                below(),
                new()
                    .dir("n", 0o755)
                    .file("n/.wh.nothing", "")
                    .file("n/f", "1"),
            ],
            vec!["a", "a/low", "b", "d", "d/low", "n", "n/f"],
        ),
        (
            "the same in the lowest layer",
            vec![
                new()
                    .dir("n", 0o755)
                    .file("n/.wh.nothing", "")
                    .file(".wh.x", ""),
            ],
            vec!["n"],
        ),
        (
            "the same where what is below was removed in between",
            vec![
                new().dir("p", 0o755).dir("p/d", 0o755).file("p/d/k", "1"),
                new().file(".wh.p", ""),
                new()
                    .dir("p", 0o755)
                    .dir("p/d", 0o755)
                    .file("p/d/.wh.k", ""),
            ],
            vec!["p", "p/d"],
        ),
        (
            "a file of the same layer",
            vec![
                below(),
                new()
                    .file("b", "2")
                    .file(".wh.b", "")
                    .file(".wh.a", "")
                    .file("a", "2"),
            ],
            vec!["a", "b", "d", "d/low"],
        ),
        (
            "a directory of the same layer",
            vec![
                below(),
                new().file(".wh.a", "").dir("a", 0o755).file("a/new", "2"),
                new().dir("d", 0o755).file("d/new", "2").file(".wh.d", ""),
            ],
            vec!["a", "a/new", "b", "d", "d/new"],
        ),
        (
            "a whiteout in what is gone",
            vec![below(), new().file(".wh.a", "").file("a/.wh.low", "")],
            vec!["b", "d", "d/low"],
        ),
        (
            "whiteouts in an opaque directory",
            vec![
                below(),
                new()
                    .dir("a", 0o755)
                    .file("a/.wh.none", "")
                    .file("a/.wh..wh..opq", "")
                    .file("a/new", "2"),
            ],
            vec!["a", "a/new", "b", "d", "d/low"],
        ),
        (
            "an opaque root",
            vec![
                below(),
                new().file("b", "2").file(".wh.none", ""),
                Tarball::busybox()
                    .file(".wh..wh..opq", "")
                    .file(".wh.a", "")
                    .file("b", "3"),
                new().dir("p", 0o755).file("p/.wh.none", ""),
            ],
            vec!["b", "p"],
        ),
    ] {
        let name = image(&lab, layers);
        assert_eq!(listed(&lab, &name), left, "{what}");
        // A step sees the same, and nothing that is not there.
        let script = "find / -xdev -mindepth 1 ! -path '/bin*' ! -path '/dev*' ! -path '/etc*' \
                      ! -path '/proc*' ! -path '/sys*' ! -path '/tmp'; \
                      for d in a d n p; do if [ -e /$d ]; then ls -lR /$d; fi; done >/dev/null";
        let run = lab.kiln([
            "run",
            "--rm",
            "--network",
            "none",
            &name,
            "sh",
            "-c",
            script,
        ]);
        let run = run.output().ok();
        assert!(!run.err.contains("No such file"), "{what}: {run}");
        let mut seen: Vec<&str> = run
            .stdout()
            .lines()
            .map(|l| l.trim_start_matches('/'))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, left, "{what}");
        let copy = format!(
            "FROM {name} AS app\nFROM {name}\nCOPY --from=app / /copy/\nRUN ls -lR /copy > /dev/null \
             && rm -r /copy\n"
        );
        lab.build(&lab.context("copy", &[("Dockerfile", &copy)]))
            .output()
            .ok();
    }
}

#[test]
fn layers_of_usr_merged_roots_are_taken() {
    let lab = Lab::new();
    let merged = Tarball::new()
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .link("lib", "usr/lib")
        .file("lib/x", "through the link")
        .link("conf", "/etc")
        .file("conf/made", "absolute")
        .link("up", "../../..")
        .file("up/top", "root")
        .hard_link("lib/y", "lib/x");
    let name = image(&lab, vec![merged]);
    let script = "cat /usr/lib/x /lib/y /etc/made /top && readlink /lib";
    let seen = lab.run(&name, &["sh", "-c", script]);
    assert_eq!(seen, "through the linkthrough the linkabsoluterootusr/lib");
    let circle = Tarball::new()
        .link("a", "b")
        .link("b", "a")
        .file("a/x", "1");
    let server = registry_of("app", &[&Tarball::busybox().bytes(), &circle.bytes()]);
    let name = format!("{}/app:latest", server.host());
    let failed = lab.kiln(["pull", &name]).fails();
    failed.says(&["`a/x`", "links in a circle", &format!("of `{name}`")]);
}

/// Archives of one directory `top` that GNU tar writes, and what is in them.
fn archives(dir: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let top = dir.join("top");
    std::fs::create_dir_all(top.join("sub")).unwrap();
    let file = std::fs::File::create(top.join("holes")).unwrap();
    file.write_all_at(b"start", 0).unwrap();
    file.write_all_at(b"middle", 5 << 20).unwrap();
    file.set_len(9 << 20).unwrap();
    std::fs::write(top.join("sub/plain"), "plain").unwrap();
    let with = |arguments: &[&str]| {
        let out = Command::new("tar")
            .args(["-C", dir.to_str().unwrap(), "-cf", "-"])
            .args(arguments)
            .arg("top")
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        out.stdout
    };
    let snapshot = format!("--listed-incremental={}", dir.join("snapshot").display());
    vec![
        (
            "sparse 0.0",
            with(&["--format=pax", "-S", "--sparse-version=0.0"]),
        ),
        (
            "sparse 0.1",
            with(&["--format=pax", "-S", "--sparse-version=0.1"]),
        ),
        (
            "sparse 1.0",
            with(&["--format=pax", "-S", "--sparse-version=1.0"]),
        ),
        ("incremental", with(&["--format=gnu", &snapshot])),
        (
            "global header",
            with(&["--format=pax", "--pax-option=globexthdr.name=g,comment=x"]),
        ),
    ]
}

#[test]
fn archives_of_all_kinds_are_read_wherever_one_comes_in() {
    let lab = Lab::new();
    let check = "FROM busybox AS check\nCOPY --from=made /top /top\nRUN set -e; cd /top; \
        test $(stat -c %s holes) = 9437184; test \"$(head -c 5 holes)\" = start; \
        test \"$(dd if=holes bs=1 skip=5242880 count=6 2>/dev/null)\" = middle; \
        test \"$(cat sub/plain)\" = plain\n";
    for (what, tar) in archives(&lab.path("source")) {
        let context = lab.context("add", &[]);
        let add = format!("FROM scratch AS made\nADD a.tar /\n{check}");
        context.dockerfile(&add).write("a.tar", &tar);
        let built = lab.kiln(["build"]).last(context.path()).output();
        assert!(built.succeeded(), "ADD, {what}: {built}");

        let with = Tarball::new().file(
            "Dockerfile",
            &format!("FROM scratch AS made\nCOPY top /top\n{check}"),
        );
        // Two archives in one, without the end of the first.
        let mut whole = with.bytes();
        whole.truncate(whole.len() - 1024);
        whole.extend(&tar);
        let built = lab.kiln(["build", "-"]).stdin(whole).output();
        assert!(built.succeeded(), "context, {what}: {built}");

        lab.import(&tar, "made");
        let layer = image_of(&lab, &[tar]);
        for name in ["made", &layer] {
            let text = check.replace("--from=made", &format!("--from={name}"));
            let context = lab.context("image", &[("Dockerfile", &text)]);
            let built = lab.kiln(["build"]).last(context.path()).output();
            assert!(built.succeeded(), "{name}, {what}: {built}");
        }
    }
}

#[test]
fn an_archive_of_images_may_be_sparse() {
    let lab = Lab::new();
    lab.import(
        &Tarball::busybox().file("f", &"\0".repeat(1 << 20)).bytes(),
        "app:1",
    );
    let saved = lab.path("saved.tar");
    lab.kiln(["save", "-o"])
        .arg(&saved)
        .arg("app:1")
        .output()
        .ok();
    let dir = lab.path("saved");
    std::fs::create_dir(&dir).unwrap();
    tool(
        "tar",
        ["-C", dir.to_str().unwrap(), "-xf", saved.to_str().unwrap()],
    );
    // The layer, not compressed, with holes in it.
    tool(
        "sh",
        [
            "-c",
            &format!(
                "cd {} && for f in $(find . -type f); do cp --sparse=always $f x && mv x $f; done",
                dir.display()
            ),
        ],
    );
    for version in ["0.0", "0.1", "1.0"] {
        let tar = lab.path("sparse.tar");
        let version = format!("--sparse-version={version}");
        let (dir, to) = (dir.to_str().unwrap(), tar.to_str().unwrap());
        tool(
            "tar",
            ["-C", dir, "-cf", to, "--format=pax", "-S", &version, "."],
        );
        let other = Lab::new();
        other.kiln(["load", "-i"]).arg(&tar).output().ok();
        assert_eq!(other.inspect("app:1")["Id"], lab.inspect("app:1")["Id"]);
        assert_eq!(other.run("app:1", &["stat", "-c", "%s", "/f"]), "1048576");
    }
}

#[test]
fn an_old_sparse_file_is_named_as_the_user_knows_it() {
    let lab = Lab::new();
    let dir = lab.path("source");
    std::fs::create_dir_all(dir.join("data")).unwrap();
    std::fs::File::create(dir.join("data/holes"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let context = lab.context(
        "add",
        &[("Dockerfile", "FROM scratch\nADD files/old.tar /\n")],
    );
    context.dir("files");
    let to = context.at("files/old.tar");
    tool(
        "tar",
        [
            "-C",
            dir.to_str().unwrap(),
            "-Scf",
            to.to_str().unwrap(),
            "--format=gnu",
            "data",
        ],
    );
    let failed = lab.kiln(["build"]).last(context.path()).fails();
    failed.says(&[
        "cannot unpack `files/old.tar`",
        "`data/holes` is a sparse file in the old form of GNU tar",
    ]);
    let failed = lab.kiln(["import"]).arg(&to).fails();
    failed.says(&["old.tar", "`data/holes` is a sparse file"]);
}

#[test]
fn a_text_is_told_from_a_tar() {
    let lab = Lab::new();
    let small = lab.path("notes.txt");
    std::fs::write(&small, "no archive\n").unwrap();
    let large = lab.path("more.txt");
    std::fs::write(&large, "no archive\n".repeat(1000)).unwrap();
    for file in [&small, &large] {
        let name = file.display();
        let failed = lab.kiln(["import"]).arg(file).fails();
        failed.says(&[&format!(
            "cannot import `{name}`: it is not a tar archive\n"
        )]);
        let failed = lab.kiln(["cache", "import", "id"]).arg(file).fails();
        failed.says(&[&format!(
            "cannot import `{name}`: it is not a tar archive\n"
        )]);
        let text = std::fs::read(file).unwrap();
        let failed = lab.kiln(["import", "-"]).stdin(text.clone()).fails();
        failed.says(&["cannot import what standard input gives: it is not a tar archive\n"]);
        let failed = lab.kiln(["cache", "import", "id"]).stdin(text).fails();
        failed.says(&["cannot import what standard input gives: it is not a tar archive\n"]);
    }
    let failed = lab.kiln(["cache", "import", "id", "/nosuch"]).fails();
    failed.says(&["cannot import `/nosuch`: cannot read it: No such file"]);
}

#[test]
fn entries_of_a_layer_say_what_files_look_like() {
    let lab = Lab::new();
    let layer = Tarball::new()
        .raw("./", EntryType::Directory, 0o700, "", b"")
        .raw("", EntryType::Regular, 0o600, "", b"nothing")
        .file("f", "x")
        .raw("g", EntryType::Link, 0o4711, "f", b"");
    let name = image(&lab, vec![layer]);
    let script = "stat -c '%a %n' / /f /g";
    assert_eq!(
        lab.run(&name, &["sh", "-c", script]),
        "755 /\n4711 /f\n4711 /g"
    );
    // By itself the image has the same root as below a step.
    let text =
        format!("FROM busybox\nRUN --mount=from={name},target=/m test $(stat -c %a /m) = 755\n");
    lab.build(&lab.dockerfile(&text)).output().ok();
}

#[test]
fn a_device_that_would_remove_a_file_is_not_copied() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[("Dockerfile", "FROM busybox\nCOPY dir /bin/\n")],
    );
    context.dir("dir/deep");
    let node = context.at("dir/deep/cat");
    tool("mknod", [node.to_str().unwrap(), "c", "0", "0"]);
    let failed = lab.kiln(["build"]).last(context.path()).fails();
    failed.says(&["`dir/deep/cat`", "device 0:0"]);
}

#[test]
fn attributes_survive_and_an_image_is_the_same_after_save_and_load() {
    let lab = Lab::new();
    // Perl knows these system calls by their numbers only.
    let (set, get) = if cfg!(target_arch = "aarch64") {
        ("5", "8")
    } else {
        ("188", "191")
    };
    let context = lab.context(
        "context",
        &[
            ("f", "x"),
            (
                "Dockerfile",
                "FROM debian:bookworm\n\
        RUN --mount=target=/c cp /c/set /set && sh /set\n\
        FROM debian:bookworm\nCOPY --from=0 /made /made\nCOPY --from=0 --parents /made/dir/g /kept/\n",
            ),
        ],
    );
    // Names with an equals sign, an ACL with another user, one that is inherited.
    context.write("set", "mkdir -p /made/dir\ntouch /made/f /made/dir/g\n\
        perl -e 'use strict; sub at { my ($f, $n, $v) = @_; syscall(SETXATTR, $f, $n, $v, length $v, 0) == 0 or die \"$n: $!\" } \
        my $acl = pack(\"V\", 2) . join(\"\", map { pack(\"vvV\", @$_) } \
            [1, 6, 0xffffffff], [2, 4, 1234], [4, 4, 0xffffffff], [16, 4, 0xffffffff], [32, 0, 0xffffffff]); \
        at(\"/made/f\", \"user.a=b\", \"v=w\"); at(\"/made/f\", \"user.plain\", \"p\"); \
        at(\"/made/f\", \"system.posix_acl_access\", $acl); \
        at(\"/made/dir\", \"system.posix_acl_default\", $acl);'\n".replace("SETXATTR", set));
    lab.build(&context).tag("app:1").output().ok();
    let read = "perl -e 'for my $f (\"/made/f\", \"/made/dir\", \"/made/dir/g\", \"/kept/made/dir\", \"/kept/made/dir/g\") { \
        for my $n (\"user.a=b\", \"user.plain\", \"system.posix_acl_access\", \"system.posix_acl_default\") { \
        my ($p, $a) = ($f, $n); my $v = \"\\0\" x 200; my $l = syscall(GETXATTR, $p, $a, $v, 200); \
        print \"$f $n \", unpack(\"H*\", substr($v, 0, $l)), \"\\n\" if $l >= 0 } }'".replace("GETXATTR", get);
    let read = &*read;
    let before = lab.run("app:1", &["sh", "-c", read]);
    let lines: Vec<&str> = before
        .lines()
        .map(|l| l.rsplit_once(' ').unwrap().0)
        .collect();
    assert_eq!(
        lines,
        [
            "/made/f user.a=b",
            "/made/f user.plain",
            "/made/f system.posix_acl_access",
            "/made/dir system.posix_acl_default",
            "/kept/made/dir system.posix_acl_default",
        ],
        "{before}"
    );
    let saved = lab.path("saved.tar");
    lab.kiln(["save", "-o"])
        .arg(&saved)
        .arg("app:1")
        .output()
        .ok();
    let other = Lab::new();
    other.kiln(["load", "-i"]).arg(&saved).output().ok();
    assert_eq!(other.run("app:1", &["sh", "-c", read]), before);
    assert_eq!(other.inspect("app:1")["Id"], lab.inspect("app:1")["Id"]);
}

/// Bytes that a directory takes on the disk.
fn allocated(path: &Path) -> u64 {
    let text = tool("du", ["-s", "-B1", path.to_str().unwrap()]);
    text.split('\t').next().unwrap().parse().unwrap()
}

#[test]
fn a_gigabyte_of_holes_costs_no_room() {
    const SIZE: u64 = 1 << 30;
    let lab = Lab::new();
    let context = lab.context("context", &[("Dockerfile", "FROM busybox AS first\nCOPY disk.img /disk.img\n\
        FROM busybox\nCOPY --from=first /disk.img /copy.img\nRUN cp /copy.img /again.img; rm /again.img\n")]);
    let file = std::fs::File::create(context.at("disk.img")).unwrap();
    file.write_all_at(b"somewhere", 1 << 29).unwrap();
    file.set_len(SIZE).unwrap();
    drop(file);
    lab.kiln(["build", "-t", "app:1"])
        .last(context.path())
        .output()
        .ok();
    let used = allocated(&lab.store());
    assert!(used < 200 << 20, "{used}");
    let out = lab.path("out");
    let to = format!("type=local,dest={}", out.display());
    lab.kiln(["build", "-o", &to])
        .last(context.path())
        .output()
        .ok();
    let copy = std::fs::metadata(out.join("copy.img")).unwrap();
    assert_eq!(copy.len(), SIZE);
    assert!(copy.blocks() * 512 < 1 << 20, "{}", copy.blocks());
    let saved = lab.path("saved.tar");
    let to = format!("type=oci,dest={}", saved.display());
    lab.kiln(["build", "-o", &to])
        .last(context.path())
        .output()
        .ok();
    let other = Lab::new();
    other.kiln(["load", "-i"]).arg(&saved).output().ok();
    assert!(allocated(&other.store()) < 200 << 20);
}
