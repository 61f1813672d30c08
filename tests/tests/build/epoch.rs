//! SOURCE_DATE_EPOCH: what it may be, and what it stands for.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::{Answer, Lab, Repository, Server};

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
    // A stage sees the arguments that it declares, and no others.
    for (declared, path, want) in [("", "/undated$P", ""), ("ARG P\n", "/$P", "1234567890")] {
        let text = file(path, "TIME").replace("ADD", &format!("{declared}ADD"));
        local.write("Dockerfile", format!("ARG P=file\n{text}"));
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
        ("yesterday", "is neither a number of seconds"),
        ("-1", "is neither a number of seconds"),
        ("1e9", "is neither a number of seconds"),
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
