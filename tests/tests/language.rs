//! What Dockerfiles mean where a build needs more than its context: servers, repositories, options.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use kiln_tests::{Answer, Lab, Repository, Server};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What `ADD` of these addresses puts into `/d/`, by name.
fn added(lab: &Lab, server: &Server, paths: &[&str], flags: &str) -> Vec<(String, Vec<u8>)> {
    let addresses: Vec<String> = paths.iter().map(|path| server.url(path)).collect();
    let text = format!("FROM scratch\nADD {flags} {} /d/\n", addresses.join(" "));
    let out = lab.path("out");
    let _ = std::fs::remove_dir_all(&out);
    let build = lab.build(&lab.dockerfile(&text));
    build.arg("-o").arg(&out).output().ok();
    let mut found: Vec<(String, Vec<u8>)> = std::fs::read_dir(out.join("d"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn what_a_server_compresses_on_its_way_arrives_as_it_is() {
    let lab = Lab::new();
    let (text, archive) = (b"text\n".to_vec(), gzip(b"archive"));
    let encoded = |body: Vec<u8>| Answer::ok(body).header("Content-Encoding", "gzip");
    let etag = |answer: Answer| answer.header("ETag", "\"1\"");
    let server = Server::files(vec![
        ("/text", etag(encoded(gzip(&text)))),
        // What is an archive itself is often called encoded, and sometimes is so once more.
        ("/a.tar.gz", encoded(archive.clone())),
        ("/b.tgz", encoded(gzip(&archive))),
        ("/plain", Answer::ok(text.clone())),
        (
            "/x",
            Answer::ok(gzip(&text)).header("Content-Encoding", "x-gzip"),
        ),
        ("/wrong", encoded(text.clone())),
    ]);
    let want = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    let paths = ["/text", "/a.tar.gz", "/b.tgz", "/plain", "/x"];
    let wanted = [
        want("a.tar.gz", &archive),
        want("b.tgz", &archive),
        want("plain", &text),
        want("text", &text),
        want("x", &text),
    ];
    assert_eq!(added(&lab, &server, &paths, ""), wanted);
    // It is remembered as it is.
    assert_eq!(
        added(&lab, &server, &["/text"], "--chown=1"),
        [want("text", &text)]
    );
    let sum = "sha256:b9e68e1bea3e5b19ca6b2f98b73a54b73daafaa250484902e09982e07a12e733";
    let checked = format!("--checksum={sum}");
    assert_eq!(
        added(&lab, &server, &["/text"], &checked),
        [want("text", &text)]
    );
    let wrong = lab.dockerfile(&format!("FROM scratch\nADD {} /\n", server.url("/wrong")));
    let failed = lab.build(&wrong).fails();
    failed.says(&["it is said to be encoded by gzip, and is not"]);
}

#[test]
fn an_address_that_ends_in_a_slash_names_a_file_by_its_last_part() {
    let lab = Lab::new();
    let server = Server::files(vec![
        ("/a/dir/", Answer::ok("one")),
        ("/b//", Answer::ok("two")),
        ("/c/", Answer::ok("three")),
    ]);
    let want = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    let found = added(&lab, &server, &["/a/dir/", "/b//", "/c/?x=/y/"], "");
    assert_eq!(
        found,
        [want("b", "two"), want("c", "three"), want("dir", "one")]
    );
    let bare = lab.dockerfile(&format!("FROM scratch\nADD {} /d/\n", server.url("/")));
    lab.build(&bare).fails().says(&["has no file name"]);
}

#[test]
fn a_download_is_tried_again_where_that_may_help() {
    for (resets, unavailable, works) in [
        (1, 0, true),
        (0, 1, true),
        (1, 1, true),
        (0, 3, false),
        (3, 0, false),
    ] {
        let lab = Lab::new();
        let files = vec![("/f", Answer::ok("text"))];
        let server = Server::stumbling(resets, unavailable, files);
        let context = lab.dockerfile(&format!("FROM scratch\nADD {} /\n", server.url("/f")));
        let build = lab.build(&context);
        match works {
            true => drop(build.output().ok()),
            false => drop(build.fails().says(&["cannot download"])),
        }
        assert_eq!(
            server.seen().len(),
            if works { resets + unavailable + 1 } else { 3 }
        );
    }
    // What is refused is not asked for again.
    let lab = Lab::new();
    let server = Server::files(Vec::new());
    let context = lab.dockerfile(&format!("FROM scratch\nADD {} /\n", server.url("/f")));
    lab.build(&context).fails();
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn the_epoch_is_that_of_what_was_last_changed() {
    let lab = Lab::new();
    let repository = Repository::new(&lab.path("repository"));
    let dockerfile = "ARG SOURCE_DATE_EPOCH=context\nFROM scratch\nARG SOURCE_DATE_EPOCH\nCOPY f /\n\
                      LABEL epoch=$SOURCE_DATE_EPOCH\n";
    repository
        .write("Dockerfile", dockerfile)
        .write("f", "text");
    repository.git(&["add", "-A"]);
    let date = "1000000000 +0200";
    let mut commit = std::process::Command::new("git");
    commit.arg("-C").arg(repository.path());
    commit.args(["commit", "-q", "-m", "change", "--date", date]);
    assert!(
        commit
            .env("GIT_COMMITTER_DATE", date)
            .status()
            .unwrap()
            .success()
    );
    let git = repository.serve();

    let tar = |time: u64| {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text, time) in [("Dockerfile", dockerfile, time), ("f", "text", time - 5)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(time);
            builder
                .append_data(&mut header, name, text.as_bytes())
                .unwrap();
        }
        builder.into_inner().unwrap()
    };
    let server = Server::files(vec![
        ("/bare.tar", Answer::ok(tar(1_100_000_000))),
        (
            "/dated.tar",
            Answer::ok(tar(1_100_000_000)).header("Last-Modified", "Fri, 13 Feb 2009 23:31:30 GMT"),
        ),
        (
            "/file",
            Answer::ok("text").header("Last-Modified", "Fri, 13 Feb 2009 23:31:30 GMT"),
        ),
        ("/undated", Answer::ok("text")),
    ]);
    let local = lab.context("local", &[("Dockerfile", dockerfile), ("f", "text")]);
    let file = |path: &str, value: &str| {
        let address = server.url(path);
        format!(
            "ARG SOURCE_DATE_EPOCH={value}\nFROM scratch AS time\nADD {address} /\nFROM scratch\n\
             ARG SOURCE_DATE_EPOCH\nCOPY f /\nLABEL epoch=$SOURCE_DATE_EPOCH\n"
        )
    };
    let build = |context: &str, options: &[&str]| {
        let build = lab.kiln(["build", "-q", "-t", "x"]).args(options);
        build.last(context).output().ok();
        let labels = lab.inspect("x")["Config"]["Labels"]["epoch"].clone();
        let found = labels.as_str().unwrap().to_owned();
        let times = [
            ("5", "1970-01-01T00:00:05Z"),
            ("1000000000", "2001-09-09T01:46:40Z"),
            ("1100000000", "2004-11-09T11:33:20Z"),
            ("1234567890", "2009-02-13T23:31:30Z"),
        ];
        if let Some((_, time)) = times.iter().find(|(number, _)| *number == found) {
            assert_eq!(lab.inspect("x")["Created"], *time);
        }
        found
    };
    let local_path = local.path().to_str().unwrap();
    assert_eq!(build(&git.url("/repo.git"), &[]), "1000000000");
    assert_eq!(build(&server.url("/bare.tar"), &[]), "1100000000");
    assert_eq!(build(&server.url("/dated.tar"), &[]), "1234567890");
    assert_eq!(build(local_path, &[]), "");
    // What is given counts before what the file says.
    let given = ["--build-arg", "SOURCE_DATE_EPOCH=5"];
    assert_eq!(build(&git.url("/repo.git"), &given), "5");
    let named = format!("other={}", git.url("/repo.git"));
    let options = [
        "--build-arg",
        "SOURCE_DATE_EPOCH=other",
        "--build-context",
        &named,
    ];
    assert_eq!(build(local_path, &options), "1000000000");
    for (path, want) in [
        ("/file", "1234567890"),
        ("/undated", ""),
        ("/bare.tar", "1100000000"),
    ] {
        local.write("Dockerfile", file(path, "TIME"));
        assert_eq!(build(local_path, &[]), want, "{path}");
    }
    // Standard input is an archive too.
    let build = lab
        .kiln(["build", "-q", "-t", "y", "-"])
        .stdin(tar(1_200_000_000));
    build.output().ok();
    assert_eq!(lab.inspect("y")["Config"]["Labels"]["epoch"], "1200000000");
}

#[test]
fn an_epoch_that_makes_no_sense_is_refused() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM scratch AS build\nCOPY Dockerfile /\n");
    for (value, why) in [
        ("yesterday", "is no number of seconds"),
        ("-1", "is no number of seconds"),
        ("1e9", "is no number of seconds"),
        ("99999999999999", "later than the year 9999"),
        ("buidl", "did you mean the stage `build`?"),
        ("build", "which has more than an ADD: COPY"),
    ] {
        let failed = lab.build(&context).env("SOURCE_DATE_EPOCH", value).fails();
        failed.says(&[why]);
    }
    // An empty value is none.
    let build = lab.build(&context).env("SOURCE_DATE_EPOCH", "");
    build.output().ok();
}
