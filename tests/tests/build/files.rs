//! COPY and ADD.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

use kiln_tests::{Answer, Lab, Repository, Server, Tarball, tool};

/// Builds `lines` on busybox with the context of this test and returns `find` of /out: type, mode,
/// owner and name of everything, sorted.
fn listing(lab: &Lab, image: &str) -> Vec<String> {
    let script = "cd /out && find . | sort | while read f; do stat -c '%A %u:%g %n' \"$f\"; done";
    lab.run(image, &["sh", "-c", script])
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn copy_keeps_types_modes_and_links() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[("Dockerfile", "FROM busybox\nCOPY tree /out/\n")],
    );
    context.write("tree/file", "1").mode("tree/file", 0o640);
    context
        .write("tree/run.sh", "#!/bin/sh\n")
        .mode("tree/run.sh", 0o4755);
    context.dir("tree/empty").mode("tree/empty", 0o1777);
    context
        .link("tree/link", "file")
        .link("tree/dangling", "/nowhere/else");
    std::fs::hard_link(context.at("tree/file"), context.at("tree/hard")).unwrap();
    lab.build(&context).tag("x").built();
    assert_eq!(
        listing(&lab, "x"),
        [
            "drwxr-xr-x 0:0 .",
            "lrwxrwxrwx 0:0 ./dangling",
            "drwxrwxrwt 0:0 ./empty",
            "-rw-r----- 0:0 ./file",
            "-rw-r----- 0:0 ./hard",
            "lrwxrwxrwx 0:0 ./link",
            "-rwsr-xr-x 0:0 ./run.sh",
        ]
    );
    assert_eq!(
        lab.run("x", &["readlink", "/out/dangling"]),
        "/nowhere/else"
    );
}

#[test]
fn what_is_not_there_is_told_with_where_it_was_looked_for() {
    let lab = Lab::new();
    let other = lab.context("other", &[("f", "1")]);
    let named = format!("other={}", other.path().display());
    let told = |text: &str, place: &str| {
        let files = [
            ("Dockerfile", text),
            ("kept", ""),
            ("x.md", ""),
            ("d/f", ""),
        ];
        let context = lab.context("context", &files);
        context.write(".dockerignore", "*.md\nd\n");
        let build = lab.kiln(["build", "--progress=plain", "--build-context", &named]);
        let build = build.last(context.path());
        let wanted = format!("not found in {place}\n");
        build.fails().says(&[&wanted]);
    };
    for (line, place) in [
        ("COPY nosuch /", "the build context"),
        ("ADD kept nosuch /d/", "the build context"),
        (
            "COPY x.md /",
            "the build context: .dockerignore leaves it out (line 1: `*.md`)",
        ),
        (
            "COPY d/f /",
            "the build context: .dockerignore leaves it out (line 2: `d`)",
        ),
        ("COPY --from=one /nosuch /", "stage `one`"),
        ("COPY --from=1 /nosuch /", "stage 1"),
        (
            "COPY --from=busybox:latest /nosuch /",
            "image `busybox:latest`",
        ),
        ("COPY --from=other nosuch /", "context `other`"),
        (
            "RUN --mount=source=nosuch,target=/x true",
            "the build context",
        ),
        (
            "RUN --mount=from=one,source=nosuch,target=/x true",
            "stage `one`",
        ),
        (
            "RUN --mount=type=cache,from=one,source=nosuch,target=/x true",
            "stage `one`",
        ),
    ] {
        let text = format!("FROM busybox AS one\nFROM busybox\nFROM busybox\n{line}\n");
        told(&text, place);
    }
    let context = lab.context(
        "own",
        &[("Dockerfile", "FROM busybox\nCOPY a /\n"), ("a", "")],
    );
    context.write("Dockerfile.dockerignore", "a\n");
    let why = "in the build context: Dockerfile.dockerignore leaves it out";
    lab.build(&context).fails().says(&[why]);
}

#[test]
fn copy_of_many_forms() {
    let lab = Lab::new();
    let files = [
        ("a.txt", "a"),
        ("b.txt", "b"),
        ("c.md", "c"),
        ("d/e.txt", "e"),
        ("d/f/g.txt", "g"),
        ("sp ace", "s"),
    ];
    for (line, expected) in [
        ("COPY a.txt /out/", "./a.txt"),
        ("COPY a.txt /out/renamed", "./renamed"),
        ("COPY *.txt /out/", "./a.txt ./b.txt"),
        ("COPY [a-b].txt c.md /out/", "./a.txt ./b.txt ./c.md"),
        ("COPY d /out/", "./e.txt ./f ./f/g.txt"),
        ("COPY d/ /out/d/", "./d ./d/e.txt ./d/f ./d/f/g.txt"),
        ("COPY d/*/g.txt /out/", "./g.txt"),
        (
            "COPY --parents d/f/g.txt a.txt /out/",
            "./a.txt ./d ./d/f ./d/f/g.txt",
        ),
        ("COPY --parents ./d/./f/g.txt /out/", "./f ./f/g.txt"),
        (
            "COPY --exclude=**/*.txt . /out/",
            "./Dockerfile ./c.md ./d ./d/f ./sp ace",
        ),
        (
            "COPY --exclude=d --exclude=Dockerfile . /out/",
            "./a.txt ./b.txt ./c.md ./sp ace",
        ),
        ("COPY [\"sp ace\", \"/out/\"]", "./sp ace"),
        ("WORKDIR /out\nCOPY a.txt .", "./a.txt"),
        ("WORKDIR /\nCOPY a.txt out/x", "./x"),
        ("ENV T=/out\nCOPY a.txt ${T}/y", "./y"),
    ] {
        let lab_context = lab.context("context", &files);
        lab_context.dockerfile(&format!("FROM busybox\nRUN mkdir /out\n{line}\n"));
        lab.build(&lab_context).tag("x").built();
        let found = lab.run("x", &["sh", "-c", "cd /out; find . -mindepth 1 | sort"]);
        let expected: Vec<&str> = expected
            .split(" .")
            .map(|s| s.trim_start_matches('.'))
            .collect();
        let found: Vec<&str> = found.lines().map(|s| s.trim_start_matches('.')).collect();
        assert_eq!(found, expected, "{line}");
    }
}

#[test]
fn owners_and_modes_can_be_set() {
    let lab = Lab::new();
    for (flags, expected) in [
        ("--chown=33:100", "-rw-r--r-- 33:100"),
        ("--chown=www-data", "-rw-r--r-- 33:33"),
        ("--chown=www-data:users", "-rw-r--r-- 33:100"),
        ("--chown=7", "-rw-r--r-- 7:7"),
        ("--chmod=600", "-rw------- 0:0"),
        ("--chmod=0755", "-rwxr-xr-x 0:0"),
        ("--chmod=u+x,go-r", "-rwx------ 0:0"),
        ("--chmod=a=r --chown=1:2", "-r--r--r-- 1:2"),
        ("--link --chown=5:6 --chmod=711", "-rwx--x--x 5:6"),
    ] {
        let context = lab.context("context", &[("f", "x")]);
        context.mode("f", 0o644);
        context.dockerfile(&format!("FROM busybox\nCOPY {flags} f /out/f\n"));
        lab.build(&context).tag("x").built();
        assert_eq!(listing(&lab, "x")[1], format!("{expected} ./f"), "{flags}");
    }
    let context = lab.context("context", &[("f", "x")]);
    context.dockerfile("FROM busybox\nCOPY --chown=nobodyhere f /f\n");
    // As Docker: a name that the image does not have means root; kiln says so.
    let built = lab.build(&context).tag("x").built();
    let [warning] = &built.warnings[..] else {
        panic!("{built:?}");
    };
    assert!(warning.contains("nobodyhere"), "{warning}");
    assert_eq!(lab.run("x", &["stat", "-c", "%u:%g", "/f"]), "0:0");
}

#[test]
fn copy_between_stages_and_images() {
    let lab = Lab::new();
    let other = lab.context(
        "other",
        &[
            ("Dockerfile", "FROM scratch\nCOPY f /etc/\n"),
            ("f", "image"),
        ],
    );
    lab.build(&other).tag("other:1").built();
    let context = lab.dockerfile(
        "FROM busybox AS one\nRUN mkdir /d && echo 1 > /d/f && ln /d/f /d/hard && ln -s f /d/soft && chown -R 33:33 /d\n\
         FROM busybox\nCOPY --from=one /d /out\nCOPY --from=0 /d/f /index\nCOPY --from=other:1 /etc/f /image\n\
         COPY --from=one --chown=1:1 /d /owned\n",
    );
    lab.build(&context).tag("x").built();
    assert_eq!(
        listing(&lab, "x"),
        [
            "drwxr-xr-x 0:0 .",
            "-rw-r--r-- 33:33 ./f",
            "-rw-r--r-- 33:33 ./hard",
            "lrwxrwxrwx 33:33 ./soft"
        ]
    );
    assert_eq!(lab.run("x", &["cat", "/index", "/image"]), "1\nimage");
    assert_eq!(
        lab.run("x", &["stat", "-c", "%u %h", "/owned/f", "/out/f"]),
        "1 2\n33 2"
    );
}

#[test]
fn copy_replaces_and_follows_links_as_docker_does() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[("f", "new"), ("d/inner", "in"), ("only/deep/x", "x")],
    );
    context.dockerfile(
        "FROM busybox\nRUN mkdir /real /has && ln -s /real /alias && echo old > /has/f && echo keep > /has/keep && mkdir -p /m/deep && echo y > /m/deep/y\n\
         COPY f /alias/\nCOPY f /has/f\nCOPY d /has\nCOPY only /m\n",
    );
    lab.build(&context).tag("x").built();
    assert_eq!(
        lab.run(
            "x",
            &["cat", "/real/f", "/has/f", "/has/inner", "/has/keep"]
        ),
        "newnewinkeep"
    );
    assert_eq!(
        lab.run("x", &["sh", "-c", "ls /m/deep; readlink /alias"]),
        "x\ny\n/real"
    );
    let context = lab.context("clash", &[("f", "file")]);
    context.dockerfile("FROM busybox\nRUN mkdir -p /x/f/sub\nCOPY f /x/f\n");
    lab.build(&context).tag("y").built();
    assert_eq!(lab.run("y", &["cat", "/x/f/f"]), "file");
}

#[test]
fn xattrs_and_capabilities_are_copied() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[
            ("f", "x"),
            ("Dockerfile", "FROM busybox\nCOPY f /f\nRUN true\n"),
        ],
    );
    let file = context.at("f");
    tool(
        "setfattr",
        ["-n", "user.colour", "-v", "red", file.to_str().unwrap()],
    );
    lab.build(&context).tag("x").built();
    let out = lab.path("out");
    lab.build(&context)
        .args(["-o", &format!("type=local,dest={}", out.display())])
        .built();
    let read = tool(
        "getfattr",
        [
            "--only-values",
            "-n",
            "user.colour",
            out.join("f").to_str().unwrap(),
        ],
    );
    assert_eq!(read, "red");
    // A changed attribute is a change.
    tool(
        "setfattr",
        ["-n", "user.colour", "-v", "blue", file.to_str().unwrap()],
    );
    lab.build(&context)
        .tag("x")
        .built()
        .assert_ran(&["COPY f", "RUN true"]);
}

#[test]
fn add_unpacks_local_archives() {
    let lab = Lab::new();
    let context = lab.context("context", &[("src/a/b.txt", "b"), ("src/c.txt", "c")]);
    let (dir, src) = (context.path().to_str().unwrap().to_owned(), "src");
    for (flag, name) in [
        ("-cf", "t.tar"),
        ("-czf", "t.tar.gz"),
        ("-cjf", "t.tar.bz2"),
        ("-cJf", "t.tar.xz"),
        ("--zstd", "t.tar.zst"),
    ] {
        let archive = context.at(name).to_str().unwrap().to_owned();
        let packing = if flag == "--zstd" {
            ["--zstd", "-cf"]
        } else {
            ["--numeric-owner", flag]
        };
        let owner = ["--owner=1234", "--group=1234", "-C", &dir];
        let arguments = owner
            .into_iter()
            .chain(packing)
            .chain([archive.as_str(), src]);
        tool("tar", arguments);
        context.dockerfile(&format!("FROM busybox\nADD {name} /out/\nADD --unpack=false {name} /kept/\nCOPY {name} /copied/\n"));
        lab.build(&context).tag("x").built();
        assert_eq!(
            lab.run("x", &["cat", "/out/src/a/b.txt", "/out/src/c.txt"]),
            "bc",
            "{name}"
        );
        assert_eq!(
            lab.run("x", &["stat", "-c", "%u", "/out/src/c.txt"]),
            "1234",
            "{name}"
        );
        assert_eq!(
            lab.run("x", &["ls", "/kept", "/copied"]),
            format!("/copied:\n{name}\n\n/kept:\n{name}")
        );
    }
    context
        .write("notes.txt", "plain")
        .dockerfile("FROM busybox\nADD notes.txt /out/\n");
    lab.build(&context).tag("x").built();
    assert_eq!(lab.run("x", &["cat", "/out/notes.txt"]), "plain");
}

#[test]
fn add_fetches_urls() {
    let lab = Lab::new();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&Tarball::new().file("inside", "unpacked").bytes())
        .unwrap();
    let server = Server::files(vec![
        (
            "/dir/file.txt",
            Answer::ok("from the web").header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ),
        (
            "/x.tar.gz",
            Answer::ok(gz.finish().unwrap()).header("ETag", "\"1\""),
        ),
        ("/plain", Answer::ok("no way to ask for changes")),
    ]);
    let sum = "sha256:64a8a9d2f4a4f9d3a2a9d1e5f0d59c4ccd0f2ea6f6a3f4ad92f5e3b2c9d0a1b2";
    let context = lab.context("context", &[]);
    let url = server.url("/dir/file.txt");
    context.dockerfile(&format!(
        "FROM busybox\nADD {url} /out/\nADD --chmod=640 --chown=33 {url} /named\nADD {} /kept/\nADD --unpack=true {} /un/\n",
        server.url("/x.tar.gz"), server.url("/x.tar.gz")
    ));
    lab.build(&context).tag("x").built();
    assert_eq!(
        lab.run("x", &["cat", "/out/file.txt", "/named", "/un/inside"]),
        "from the webfrom the webunpacked"
    );
    assert_eq!(
        lab.run("x", &["stat", "-c", "%a %u %Y", "/out/file.txt", "/named"]),
        "600 0 1445412480\n640 33 1445412480"
    );
    assert_eq!(lab.run("x", &["ls", "/kept"]), "x.tar.gz");
    // The server says that nothing changed: nothing is transferred.
    let again = lab.build(&context).tag("x").built();
    again.assert_all_cached();
    assert!(again.fetched().is_empty(), "{:?}", again.fetched());
    // A server that cannot tell sends the file again, and no step runs for that.
    let plain = server.url("/plain");
    context.dockerfile(&format!("FROM busybox\nADD {plain} /f\n"));
    lab.build(&context).built().assert_ran(&["ADD"]);
    let again = lab.build(&context).built();
    again.assert_all_cached();
    assert_eq!(again.fetched().len(), 1, "{again:?}");

    context.dockerfile(&format!("FROM busybox\nADD --checksum={sum} {url} /f\n"));
    lab.build(&context).fails().says(&["checksum"]);
    let right = tool(
        "sh",
        ["-c", "printf 'from the web' | sha256sum | cut -d' ' -f1"],
    );
    context.dockerfile(&format!(
        "FROM busybox\nADD --checksum=sha256:{} {url} /f\n",
        right.trim()
    ));
    lab.build(&context).built();
    context.dockerfile(&format!("FROM busybox\nADD {} /f\n", server.url("/gone")));
    lab.build(&context).fails().says(&["404"]);
    // Nothing listens on port 1.
    context.dockerfile("FROM busybox\nADD http://127.0.0.1:1/f /f\n");
    lab.build(&context).fails().says(&["Connection refused"]);
}

#[test]
fn downloads_are_called_as_their_addresses_end() {
    let names = [
        ("/a[1].txt", "a[1].txt"),
        ("/d/two%20words", "two words"),
        ("/star*", "star*"),
        ("/nul%00", "nul%00"),
    ];
    let answer = |(path, _): &(&'static str, _)| (*path, Answer::ok(*path));
    let server = Server::files(names.iter().map(answer).collect());
    let lab = Lab::new();
    let mut dockerfile = "FROM busybox\n".to_owned();
    for (path, _) in names {
        dockerfile += &format!("ADD [\"{}?x=/y\", \"/out/\"]\n", server.url(path));
    }
    lab.build(&lab.dockerfile(&dockerfile)).tag("x").built();
    for (path, name) in names {
        assert_eq!(lab.run("x", &["cat", &format!("/out/{name}")]), path);
    }
}

#[test]
fn add_checks_out_git_repositories() {
    let lab = Lab::new();
    let repository = Repository::new(&lab.path("repository"));
    repository.write("README", "one").write("sub/file", "s");
    let first = repository.commit();
    repository.git(&["tag", "v1"]);
    repository.write("README", "two").commit();
    let server = repository.serve();
    let url = server.url("/repo.git");
    let context = lab.dockerfile(&format!(
        "FROM busybox\nADD {url} /head\nADD {url}#v1 /tag\nADD {url}#{first} /commit\nADD {url}#main:sub /sub\n\
         ADD --keep-git-dir=true {url} /kept\n"
    ));
    lab.build(&context).tag("x").built();
    assert_eq!(
        lab.run(
            "x",
            &[
                "cat",
                "/head/README",
                "/tag/README",
                "/commit/README",
                "/sub/file"
            ]
        ),
        "twooneones"
    );
    assert_eq!(
        lab.run(
            "x",
            &["sh", "-c", "ls -d /head/.git 2>/dev/null; ls -d /kept/.git"]
        ),
        "/kept/.git"
    );
    lab.build(&context).tag("x").built().assert_all_cached();
    repository.write("README", "three").commit();
    let built = lab.build(&context).tag("x").built();
    assert!(
        built.ran().iter().any(|s| s.contains("/head")),
        "{:?}",
        built.ran()
    );
    assert_eq!(lab.run("x", &["cat", "/head/README"]), "three");
}

#[test]
fn link_layers_survive_another_base() {
    let lab = Lab::new();
    let context = lab.context("context", &[("f", "x")]);
    context.dockerfile("FROM busybox\nRUN echo 1 > /base\nCOPY --link f /linked/f\n");
    lab.build(&context).tag("one").built();
    let layers = |name: &str| {
        lab.inspect(name)["RootFS"]["Layers"]
            .as_array()
            .unwrap()
            .clone()
    };
    let first = layers("one");
    context.dockerfile("FROM busybox\nRUN echo 2 > /base\nCOPY --link f /linked/f\n");
    let second = lab.build(&context).tag("two").built();
    second.assert_ran(&["RUN echo 2"]);
    assert_eq!(
        first.last(),
        layers("two").last(),
        "the linked layer is the same"
    );
    assert_eq!(lab.run("two", &["cat", "/base", "/linked/f"]), "2\nx");
}

#[test]
fn only_what_is_copied_counts() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[
            ("used/a", "1"),
            ("unused/b", "1"),
            ("Dockerfile", "FROM busybox\nCOPY used /used\n"),
        ],
    );
    let first = lab.build(&context).built();
    context.write("unused/b", "2").write("new", "x");
    // Neither other files nor other times are a change.
    let file = std::fs::File::options()
        .write(true)
        .open(context.at("used/a"))
        .unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    let second = lab.build(&context).built();
    second.assert_all_cached();
    assert_eq!(first.image, second.image);
    context.mode("used/a", 0o600);
    lab.build(&context).built().assert_ran(&["COPY used"]);
    assert_eq!(
        std::fs::metadata(context.at("used/a")).unwrap().mode() & 0o777,
        0o600
    );
}

#[test]
fn special_files_and_odd_names_are_copied_or_refused() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[
            ("Dockerfile", "FROM busybox\nCOPY d /out\n"),
            ("d/-rf", "1"),
            ("d/new\nline", "2"),
            ("d/ünï", "3"),
        ],
    );
    lab.build(&context).tag("x").built();
    assert_eq!(
        lab.run("x", &["sh", "-c", "cat /out/-rf /out/new*line /out/*ï"]),
        "123"
    );
    tool("mkfifo", [context.at("d/fifo").to_str().unwrap()]);
    let out = lab.build(&context).output().orderly();
    assert!(out.wall.as_secs() < 20, "hung on a FIFO: {out}");
}

#[test]
fn a_tree_of_more_directories_than_a_process_may_open_is_copied() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[("Dockerfile", "FROM busybox\nCOPY src /out\n")],
    );
    for number in 0..600 {
        context.write(&format!("src/{number}/file"), number.to_string());
    }
    lab.build(&context).tag("x").after("ulimit -n 256").built();
    let all = lab.run("x", &["sh", "-c", "cat /out/*/file | wc -c"]);
    assert_eq!(all.trim(), (10 + 90 * 2 + 500 * 3).to_string());
}

#[test]
fn names_that_are_not_utf8_keep_their_bytes() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[(
            "Dockerfile",
            "FROM busybox AS first\nCOPY src /src\nFROM busybox\nCOPY --from=first /src /out\n",
        )],
    );
    context.dir("src");
    for (name, text) in [(b"a\xff", "one"), (b"a\xfe", "two")] {
        let name = std::ffi::OsStr::from_bytes(name);
        let dir = context.at("src").join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join(name), text).unwrap();
    }
    lab.build(&context).tag("x").built();
    let script = "cd /out && printf '%s\\n' * | od -An -tx1 && cat */*";
    let shown = lab.run("x", &["sh", "-c", script]);
    assert_eq!(shown.trim(), "61 fe 0a 61 ff 0a\ntwoone");

    context.dockerfile("FROM busybox\nCOPY src/* /out/\n");
    lab.build(&context)
        .fails()
        .says(&["whose name is not UTF-8"]);
    // What is ignored is in nobody's way.
    context.write(".dockerignore", "src/a*");
    context.write("src/b", "b");
    lab.build(&context).tag("x").built();
    assert_eq!(lab.run("x", &["ls", "/out"]).trim(), "b");
    // What is left in lies below such a name.
    context.write(".dockerignore", "src\n!src/*/b\n");
    for name in [b"a\xff", b"a\xfe"] {
        let dir = context.at("src").join(std::ffi::OsStr::from_bytes(name));
        std::fs::write(dir.join("b"), "b").unwrap();
    }
    context.dockerfile("FROM busybox\nCOPY src /out\nRUN --mount=target=/c cp -r /c/src /c-out\n");
    lab.build(&context).tag("x").built();
    for out in ["/out", "/c-out"] {
        let script = format!("cd {out} && find . -type f | sort | od -An -tx1");
        let shown = lab.run("x", &["sh", "-c", &script]);
        let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(shown, "2e 2f 61 fe 2f 62 0a 2e 2f 61 ff 2f 62 0a", "{out}");
    }
}

/// A link on the way may lead elsewhere, less deep or deeper than its name is.
#[test]
fn parents_look_like_the_directories_that_a_link_leads_to() {
    let lab = Lab::new();
    let context = lab.context("context", &[("d/e/f", "x"), ("g/h/i/f", "x")]);
    for (dir, mode) in [("d", 0o750), ("d/e", 0o711), ("g", 0o700), ("g/h", 0o755)] {
        context.mode(dir, mode);
    }
    context.mode("g/h/i", 0o705);
    context.link("deep", "g/h/i");
    context.link("d/up", "../d");
    context.dockerfile("FROM busybox\nCOPY --parents deep/f d/up/e/f /out/\n");
    lab.build(&context).tag("x").built();
    let script = "cd /out; for f in deep d d/up d/up/e; do stat -c '%n %a' $f; done";
    let found = lab.run("x", &["sh", "-c", script]);
    assert_eq!(found.trim(), "deep 705\nd 750\nd/up 750\nd/up/e 711");
}
