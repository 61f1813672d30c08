//! Where a build's files come from.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::io::Write as _;

use kiln_tests::{Answer, Lab, Repository, Server, Tarball, tool};

const COPY_ALL: &str = "FROM busybox\nCOPY . /c\n";

fn files(lab: &Lab, image: &str) -> String {
    lab.run(
        image,
        &["sh", "-c", "cd /c; find . -type f | sort | tr '\\n' ' '"],
    )
    .trim()
    .to_owned()
}

#[test]
fn dockerfiles_are_found_in_all_places() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[
            ("Dockerfile", "FROM busybox\nCOPY a /from-default\n"),
            ("a", "1"),
            ("sub/Other", "FROM busybox\nCOPY a /from-other\n"),
        ],
    );
    let outside = lab.path("Outside");
    std::fs::write(&outside, "FROM busybox\nCOPY a /from-outside\n").unwrap();
    let check = |name: &str| assert_eq!(lab.run("x", &["cat", name]), "1");
    lab.build(&context).tag("x").built();
    check("/from-default");
    lab.build(&context)
        .arg("-f")
        .arg(context.at("sub/Other"))
        .tag("x")
        .built();
    check("/from-other");
    lab.build(&context).arg("-f").arg(&outside).tag("x").built();
    check("/from-outside");
    lab.build(&context)
        .args(["-f", "-"])
        .stdin("FROM busybox\nCOPY a /from-stdin\n")
        .tag("x")
        .built();
    check("/from-stdin");
    lab.kiln(["build", "-t", "x", "."])
        .dir(context.path())
        .output()
        .ok();
    check("/from-default");
    let empty = lab.context("empty", &[]);
    lab.build(&empty).fails().says(&["Dockerfile"]);
    lab.kiln(["build", "/no/such/dir"])
        .fails()
        .says(&["/no/such/dir"]);
}

#[test]
fn a_context_on_standard_input() {
    let lab = Lab::new();
    let tar = Tarball::new()
        .file("Dockerfile", COPY_ALL)
        .dir("d", 0o755)
        .file("d/f", "tar")
        .bytes();
    let build = || lab.kiln(["build", "-t", "x", "-"]);
    build().stdin(tar.clone()).output().ok();
    assert_eq!(lab.run("x", &["cat", "/c/d/f"]), "tar");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar).unwrap();
    build().stdin(gz.finish().unwrap()).output().ok();
    assert_eq!(files(&lab, "x"), "./Dockerfile ./d/f");
    // A Dockerfile alone, without a context.
    build()
        .stdin("FROM busybox\nRUN echo alone > /alone\n")
        .output()
        .ok();
    assert_eq!(lab.run("x", &["cat", "/alone"]), "alone");
    lab.kiln(["build", "-"])
        .stdin("FROM busybox\nCOPY a /a\n")
        .fails();
}

#[test]
fn ignore_files_leave_out_and_let_in() {
    let lab = Lab::new();
    let all = [
        ("a.log", ""),
        ("keep.log", ""),
        ("src/x.c", ""),
        ("src/x.o", ""),
        ("node_modules/m/i.js", ""),
        ("docs/a.md", ""),
        ("docs/README.md", ""),
    ];
    let context = lab.context("context", &all);
    context.dockerfile(COPY_ALL);
    context.write(".dockerignore", "# comment\n*.log\n!keep.log\n**/*.o\nnode_modules\ndocs/*\n!docs/README.md\n.dockerignore\nDockerfile\n");
    lab.build(&context).tag("x").built();
    assert_eq!(files(&lab, "x"), "./docs/README.md ./keep.log ./src/x.c");
    // What is left out is no change either.
    context
        .write("b.log", "")
        .write("node_modules/m/new.js", "");
    lab.build(&context).tag("x").built().assert_all_cached();
    // One for a Dockerfile of its own goes first.
    context
        .write("Special", COPY_ALL)
        .write("Special.dockerignore", "*\n!src/**\n");
    lab.build(&context)
        .arg("-f")
        .arg(context.at("Special"))
        .tag("y")
        .built();
    assert_eq!(files(&lab, "y"), "./src/x.c ./src/x.o");
    context.dockerfile("FROM busybox\nCOPY a.log /a\n");
    lab.build(&context).fails().says(&["a.log"]);
}

#[test]
fn a_git_repository_as_the_context() {
    let lab = Lab::new();
    let repository = Repository::new(&lab.path("repository"));
    repository
        .write("Dockerfile", COPY_ALL)
        .write("f", "one")
        .commit();
    repository.git(&["checkout", "-q", "-b", "branch"]);
    repository
        .write("f", "two")
        .write("sub/Dockerfile", COPY_ALL)
        .write("sub/g", "three")
        .commit();
    repository.git(&["checkout", "-q", "main"]);
    let server = repository.serve();
    let url = server.url("/repo.git");
    for (place, expected) in [
        (url.clone(), "./Dockerfile ./f"),
        (
            format!("{url}#branch"),
            "./Dockerfile ./f ./sub/Dockerfile ./sub/g",
        ),
        (format!("{url}#branch:sub"), "./Dockerfile ./g"),
    ] {
        lab.kiln(["build", "-t", "x", &place]).output().ok();
        assert_eq!(files(&lab, "x"), expected, "{place}");
    }
    lab.kiln(["build", &format!("{url}#nosuchbranch")])
        .fails()
        .says(&["nosuchbranch"]);
}

#[test]
fn an_archive_on_the_web_as_the_context() {
    let lab = Lab::new();
    let tar = Tarball::new()
        .file("Dockerfile", COPY_ALL)
        .file("f", "web")
        .bytes();
    let server = Server::files(vec![
        ("/c.tar", Answer::ok(tar)),
        ("/Dockerfile", Answer::ok("FROM busybox\nRUN echo d > /d\n")),
    ]);
    lab.kiln(["build", "-t", "x", &server.url("/c.tar")])
        .output()
        .ok();
    assert_eq!(lab.run("x", &["cat", "/c/f"]), "web");
    lab.kiln(["build", "-t", "y", &server.url("/Dockerfile")])
        .output()
        .ok();
    assert_eq!(lab.run("y", &["cat", "/d"]), "d");
    lab.kiln(["build", &server.url("/none.tar")])
        .fails()
        .says(&["404"]);
}

#[test]
fn named_contexts_of_every_kind() {
    let lab = Lab::new();
    let directory = lab.context("directory", &[("f", "directory")]);
    let base = lab.context(
        "base",
        &[("Dockerfile", "FROM busybox\nRUN echo replaced > /base\n")],
    );
    lab.build(&base).tag("own-base:1").built();
    let layout = lab.path("layout");
    let archive = lab.path("a.tar");
    lab.kiln(["save", "--format", "oci", "-o"])
        .arg(&archive)
        .arg("own-base:1")
        .output()
        .ok();
    tool(
        "skopeo",
        [
            "copy",
            "--quiet",
            &format!("oci-archive:{}", archive.display()),
            &format!("oci:{}:v", layout.display()),
        ],
    );
    let repository = Repository::new(&lab.path("repository"));
    repository.write("f", "git").commit();
    let server = repository.serve();
    let context = lab.dockerfile("FROM alias\nCOPY --from=extra /f /f\n");
    for (alias, extra, expected) in [
        (
            "docker-image://own-base:1".to_owned(),
            directory.path().display().to_string(),
            "replaced\ndirectory",
        ),
        (
            format!("oci-layout://{}:v", layout.display()),
            server.url("/repo.git"),
            "replaced\ngit",
        ),
    ] {
        lab.build(&context)
            .args([
                "--build-context",
                &format!("alias={alias}"),
                "--build-context",
                &format!("extra={extra}"),
            ])
            .tag("x")
            .built();
        assert_eq!(lab.run("x", &["cat", "/base", "/f"]), expected, "{alias}");
    }
}

#[test]
fn a_store_in_the_context_is_no_part_of_it() {
    let lab = Lab::new();
    let context = lab.context("context", &[("Dockerfile", COPY_ALL), ("f", "f")]);
    let store = context.at("deep/store");
    let kiln = |line: &[&str]| lab.kiln(line).env("KILN_ROOT", &store);
    for _ in 0..2 {
        let build = kiln(&["build", "-t", "x"]);
        build.last(context.path()).output().ok();
    }
    let again = kiln(&["build", "--progress=plain"]);
    again.last(context.path()).output().ok().says(&["0 ran"]);
    let all = kiln(&["run", "--rm", "x", "find", "/c", "-type", "f"]);
    let all = all.output().ok();
    let mut found: Vec<&str> = all.stdout().lines().collect();
    found.sort_unstable();
    assert_eq!(found, ["/c/Dockerfile", "/c/f"]);
    context.dockerfile("FROM busybox\nCOPY deep/store/meta-v1.db /x\n");
    let named = kiln(&["build"]).last(context.path()).fails();
    named.says(&["kiln's own store leaves it out"]);
}

#[test]
fn a_directory_is_read_in_place() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[
            ("Dockerfile", "FROM busybox\nCOPY small /small\n"),
            ("small", "s"),
        ],
    );
    // A sparse file of 8 GB: whoever copies the context would notice.
    std::fs::File::create(context.at("huge"))
        .unwrap()
        .set_len(8 << 30)
        .unwrap();
    let built = lab.build(&context).tag("x").built();
    assert!(built.wall.as_secs() < 20, "{:?}", built.wall);
}
