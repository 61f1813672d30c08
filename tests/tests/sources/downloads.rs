//! ADD of an address: what servers compress, how files are called, what is tried again.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use kiln_tests::{Answer, Lab, Server};

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
        ("/", Answer::ok("four")),
        ("/?q", Answer::ok("four")),
        ("/d/", Answer::ok("five")),
    ]);
    let want = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    let found = added(&lab, &server, &["/a/dir/", "/b//", "/c/?x=/y/"], "");
    assert_eq!(
        found,
        [want("b", "two"), want("c", "three"), want("dir", "one")]
    );
    // What has no name gets the one that BuildKit gives it.
    for path in ["", "/", "/?q", "/d/%2e"] {
        let found = added(&lab, &server, &[path], "");
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["__unnamed__"], "{path}");
    }
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
