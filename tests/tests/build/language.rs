//! What Dockerfiles mean where a build needs more than its context: encodings, checks, policies, mounts.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::{Answer, Lab, Repository, Server, Tarball};

#[test]
fn comments_may_be_in_another_encoding() {
    let lab = Lab::new();
    let text = b"# caf\xe9\nFROM busybox\nRUN echo a \\\n  # \xe8\n  b > /out\n";
    let context = lab.context("c", &[("f", "x")]);
    context.write("Dockerfile", text);
    let path = context.path().to_str().unwrap().to_owned();
    let file = context.at("Dockerfile");
    let file = file.to_str().unwrap();
    for arguments in [&[path.as_str()][..], &["-f", file, path.as_str()]] {
        let build = lab.kiln(["build", "-q", "-t", "x"]).args(arguments);
        build.output().ok();
        assert_eq!(lab.run("x", &["cat", "/out"]), "a b");
    }
    for arguments in [&["-"][..], &["-f", "-", path.as_str()]] {
        let build = lab.kiln(["build", "-q", "-t", "x"]).args(arguments);
        build.stdin(&text[..]).output().ok();
    }
    lab.kiln(["build", "--check", &path]).output().ok();
    // What is written again as a whole would lose what is replaced.
    for file in [path.as_str(), file] {
        lab.kiln(["fmt", file])
            .fails()
            .says(&["not UTF-8 text", "iconv"]);
    }
    assert_eq!(std::fs::read(file).unwrap(), text);
    context.write("Dockerfile", b"FROM busybox\nRUN echo \xe9\n");
    let failed = lab.kiln(["build", &path]).fails();
    failed.says(&["line 2 is not UTF-8 text", "only comments"]);
    // A Dockerfile on standard input is one whatever its language, and where its first block ends.
    for text in [
        format!(
            "# {}\u{e9}\nFROM busybox\nRUN echo a b > /out\n",
            "x".repeat(509)
        ),
        format!(
            "# {}\nFROM busybox\nRUN echo a b > /out\n",
            "\u{20ac}".repeat(400)
        ),
    ] {
        let build = lab.kiln(["build", "-q", "-t", "y", "-"]).stdin(text);
        build.output().ok();
    }
}

#[test]
fn names_that_are_nearly_right_are_suggested() {
    let lab = Lab::new();
    let text = "FROM busybox AS builder\nARG VERSION=1\nRUN echo $VERSION\nFROM busybox AS other\n\
                ARG ELSEWHERE\nFROM builder\n";
    let context = lab.context(
        "c",
        &[("Dockerfile", text), ("src/main.c", "x"), ("READ.md", "x")],
    );
    let build = || lab.kiln(["build", "--progress=plain"]).last(context.path());
    for (option, value, said) in [
        (
            "--no-cache-filter",
            "bulider",
            "there is no stage `bulider` that could ignore the cache; did you mean `builder`?",
        ),
        (
            "--no-cache-filter",
            "nowhere",
            "; stages are: builder, other",
        ),
        (
            "--build-arg",
            "VERSOIN=2",
            "nothing uses it; did you mean `VERSION`?",
        ),
        (
            "--build-arg",
            "version=2",
            "nothing uses it; did you mean `VERSION`?",
        ),
        (
            "--build-arg",
            "ELSEWHERE=2",
            "nothing uses it: only stages that are not built declare it",
        ),
        (
            "--build-arg",
            "QUITE_ANOTHER=2",
            "`QUITE_ANOTHER` was given and nothing uses it",
        ),
    ] {
        build().args([option, value]).output().ok().says(&[said]);
    }
    for (source, said) in [
        (
            "src/mian.c",
            "`/src/mian.c` not found in the build context\n",
        ),
        ("src/mian.c", "did you mean `src/main.c`?"),
        ("scr/main.c", "did you mean `src/main.c`?"),
        ("READM.md", "did you mean `READ.md`?"),
        ("src/main.c/x", "`/src/main.c` is not a directory"),
    ] {
        context.dockerfile(&format!("FROM scratch\nCOPY {source} /\n"));
        build().fails().says(&[said]);
    }
    context.dockerfile("FROM scratch\nCOPY quite-another /\n");
    let failed = build().fails();
    assert!(!failed.err.contains("did you mean"), "{failed}");
    // What is left out is not suggested, and it is said by which line.
    context.write(".dockerignore", "# docs\n*.md\n!other.md\n  src/ma*  \n");
    context.dockerfile("FROM scratch\nCOPY READM.md /\n");
    let failed = build().fails();
    assert!(!failed.err.contains("did you mean"), "{failed}");
    for (source, said) in [
        ("READ.md", ".dockerignore leaves it out (line 2: `*.md`)"),
        (
            "src/main.c",
            ".dockerignore leaves it out (line 4: `src/ma*`)",
        ),
    ] {
        context.dockerfile(&format!("FROM scratch\nCOPY {source} /\n"));
        build().fails().says(&[said]);
    }
}

#[test]
fn checks_tell_what_they_can_without_images() {
    let lab = Lab::new();
    // Nobody listens there.
    let text = "FROM 127.0.0.1:1/a AS One\nARG A\nRUN --mount=type=tmpfs echo $FROM_BASE\nCMD x\nFROM 127.0.0.1:1/b\n\
                COPY --from=127.0.0.1:1/c /a /\nMAINTAINER me\nFROM busybox\nENV B=$UNSET\n";
    let context = lab.context("c", &[("Dockerfile", text)]);
    let check = lab.kiln(["build", "--check"]).last(context.path()).fails();
    let check = check.says(&[
        "cannot resolve `127.0.0.1:1/a`",
        "cannot resolve `127.0.0.1:1/b`",
        "cannot resolve `127.0.0.1:1/c`",
    ]);
    for rule in [
        "StageNameCasing",
        "MaintainerDeprecated",
        "JSONArgsRecommended",
        "`$UNSET` is not set",
    ] {
        assert!(check.stdout().contains(rule), "{rule}: {check}");
    }
    // The image may set it, and its working directory.
    assert!(!check.stdout().contains("FROM_BASE"), "{check}");
    let json = lab
        .kiln(["build", "--call=check,format=json"])
        .last(context.path())
        .fails();
    let json: serde_json::Value = serde_json::from_str(json.stdout()).unwrap();
    assert!(json["warnings"].as_array().unwrap().len() >= 4, "{json}");
    let outline = lab.kiln(["build", "--call=outline", "--target=one"]);
    let outline = outline.last(context.path()).fails();
    let lines: Vec<&str> = outline.stdout().lines().collect();
    assert!(lines.iter().any(|line| line.trim() == "A"), "{outline}");
    // A build needs them.
    let built = lab.kiln(["build", "--target", "1"]);
    let built = built.last(context.path()).fails();
    built.says(&["cannot resolve `127.0.0.1:1/b`"]);
}

#[test]
fn a_source_policy_denies_and_converts() {
    let lab = Lab::new();
    let server = Server::files(vec![
        ("/f", Answer::ok("text\n")),
        ("/g", Answer::ok("other\n")),
    ]);
    let repository = Repository::new(&lab.path("repository"));
    repository.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let commit = repository.commit();
    let git = repository.serve();
    let place = git.url("/repo.git").replace("http://", "git://");
    let rule = |action: &str, identifier: &str, rest: &str| {
        format!(
            "{{\"action\": \"{action}\", \"selector\": {{\"identifier\": \"{identifier}\"}}{rest}}}"
        )
    };
    let to = |identifier: &str| format!(", \"updates\": {{\"identifier\": \"{identifier}\"}}");
    let attr = |name: &str, value: &str| {
        format!(", \"updates\": {{\"attrs\": {{\"{name}\": \"{value}\"}}}}")
    };
    let sum = "sha256:b9e68e1bea3e5b19ca6b2f98b73a54b73daafaa250484902e09982e07a12e733";
    let wrong = format!("sha256:{}", "0".repeat(64));
    let add = format!("FROM busybox\nADD {} /f\n", server.url("/f"));
    let from_git = format!("FROM busybox\nADD {} /r\n", git.url("/repo.git"));
    let busybox = "docker-image://docker.io/library/busybox:*";
    let debian = "docker-image://docker.io/library/debian:bookworm";
    let image = "FROM busybox\nRUN cat /etc/debian_version > /f || true\n";
    let fails = |word: &'static str| Err::<&str, _>(word);
    let cases: Vec<(Vec<String>, &str, Result<&str, &str>)> = vec![
        (
            vec![rule("DENY", busybox, "")],
            image,
            fails(
                "the source policy denies `docker-image://docker.io/library/busybox:latest` (rule 1)",
            ),
        ),
        (vec![rule("CONVERT", busybox, &to(debian))], image, Ok("12")),
        (
            vec![rule("DENY", "http://*", "")],
            &add,
            fails("the source policy denies"),
        ),
        (
            vec![rule("CONVERT", &server.url("/f"), &to(&server.url("/g")))],
            &add,
            Ok("other"),
        ),
        (
            vec![rule(
                "CONVERT",
                &server.url("/f"),
                &attr("http.checksum", sum),
            )],
            &add,
            Ok("text"),
        ),
        (
            vec![rule(
                "CONVERT",
                &server.url("/f"),
                &attr("http.checksum", &wrong),
            )],
            &add,
            fails("was expected"),
        ),
        (
            vec![rule("DENY", "git://*", "")],
            &from_git,
            fails("the source policy denies"),
        ),
        (
            vec![rule("CONVERT", &place, &attr("git.checksum", &commit))],
            &from_git,
            Ok(""),
        ),
        (
            vec![rule("CONVERT", &place, &attr("git.checksum", "0000000"))],
            &from_git,
            fails("was expected"),
        ),
        (
            vec![rule("DENY", "local://*", "")],
            image,
            fails("denies `local://context`"),
        ),
        (
            vec![
                rule("DENY", "*", ""),
                rule("ALLOW", "local://*", ""),
                rule("ALLOW", busybox, ""),
            ],
            image,
            Ok(""),
        ),
        (
            vec![rule("CONVERT", busybox, &to("https://h/x"))],
            image,
            fails("cannot take its place"),
        ),
    ];
    let file = lab.path("policy.json");
    let options = ["--source-policy-file", file.to_str().unwrap()];
    let write = |rules: &[String]| {
        std::fs::write(&file, format!("{{\"rules\": [{}]}}", rules.join(", "))).unwrap();
    };
    for (rules, text, want) in cases {
        write(&rules);
        let context = lab.dockerfile(text);
        let build = lab.build(&context).args(options).tag("x");
        match want {
            Err(why) => drop(build.fails().says(&[why])),
            Ok("") => drop(build.output().ok()),
            Ok(start) => {
                build.output().ok();
                let found = lab.run("x", &["cat", "/f"]);
                assert!(found.starts_with(start), "{rules:?}: {found}");
            }
        }
    }
    // Contexts are sources, too.
    let address = git.url("/repo.git");
    let context = lab.dockerfile("FROM busybox\nCOPY --from=other Dockerfile /\n");
    let named = format!("other={address}");
    for (rules, why) in [
        (rule("DENY", "git://*", ""), "denies"),
        (
            rule("CONVERT", &place, &attr("git.checksum", "0000000")),
            "was expected",
        ),
    ] {
        write(&[rules]);
        lab.kiln(["build"])
            .args(options)
            .last(&address)
            .fails()
            .says(&[why]);
        let build = lab.build(&context).args(["--build-context", &named]);
        build.args(options).fails().says(&[why]);
    }
    // What comes on standard input is one, or a Dockerfile.
    let tar = Tarball::new()
        .file("Dockerfile", "FROM scratch\nCOPY f /\n")
        .file("x", "FROM scratch\nCOPY f /\n")
        .file("f", "1");
    let tar = tar.bytes();
    let text = b"FROM scratch\nLABEL a=b\n".to_vec();
    let session = "http://buildkit-session/*";
    type Case<'a> = (Vec<String>, &'a Vec<u8>, &'a [&'a str], &'a str);
    let cases: [Case<'_>; 9] = [
        (
            vec![rule("DENY", "local://*", "")],
            &tar,
            &["-"],
            "denies `local://context`",
        ),
        (
            vec![rule("DENY", "local://*", "")],
            &tar,
            &["-f", "x", "-"],
            "denies `local://context`",
        ),
        (
            vec![rule("DENY", session, "")],
            &tar,
            &["-"],
            "denies `http://buildkit-session/context`",
        ),
        (
            vec![rule("CONVERT", session, &to("http://h/x"))],
            &tar,
            &["-"],
            "cannot take its place",
        ),
        (
            vec![rule("DENY", "local://dockerfile", "")],
            &tar,
            &["-"],
            "",
        ),
        (
            vec![rule("DENY", "local://*", "")],
            &text,
            &["-"],
            "denies `local://dockerfile`",
        ),
        (vec![rule("DENY", "local://context", "")], &text, &["-"], ""),
        (
            vec![rule("DENY", "local://*", "")],
            &text,
            &["-f", "-", &address],
            "denies `local://dockerfile`",
        ),
        (
            vec![
                rule("DENY", "*", ""),
                rule("ALLOW", "local://*", ""),
                rule("ALLOW", session, ""),
            ],
            &tar,
            &["-"],
            "",
        ),
    ];
    for (rules, given, arguments, want) in cases {
        write(&rules);
        let build = lab.kiln(["build"]).args(options).args(arguments);
        let build = build.stdin(given.clone());
        match want {
            "" => drop(build.output().ok()),
            why => drop(build.fails().says(&[why])),
        }
    }
    write(&[rule("DENY", "docker-image://*", "")]);
    let check = lab
        .kiln(["build", "--check"])
        .args(options)
        .last(context.path());
    check.fails().says(&["the source policy denies"]);
    let build = lab.build(&context);
    let by_variable = build.env("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", &file);
    by_variable.fails().says(&["the source policy denies"]);
    std::fs::write(&file, "{\"rules\": [{\"action\": \"MAYBE\"}]}").unwrap();
    let failed = lab.build(&context).args(options).fails();
    failed.says(&["source policy", "MAYBE"]);
    std::fs::remove_file(&file).unwrap();
    lab.build(&context)
        .args(options)
        .fails()
        .says(&["cannot read source policy"]);
}

#[test]
fn mounts_without_a_target_are_checked_and_told_of() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nWORKDIR /w\nRUN --mount=type=bind --mount=type=cache,id=c --mount=type=tmpfs,target=x true\n",
    );
    lab.kiln(["build", "--check"])
        .last(context.path())
        .output()
        .ok();
    let outline = lab.kiln(["build", "--call=outline,format=json"]);
    let outline = outline.last(context.path()).output().ok();
    let outline: serde_json::Value = serde_json::from_str(outline.stdout()).unwrap();
    assert_eq!(outline["cache"][0]["ID"], "c", "{outline}");
    // What a build has to be allowed is no mistake of the file's.
    context.dockerfile("FROM busybox\nRUN --security=insecure true\n");
    lab.kiln(["build", "--check"])
        .last(context.path())
        .output()
        .ok();
    lab.kiln(["build"])
        .last(context.path())
        .fails()
        .says(&["is not allowed"]);
}

#[test]
fn caches_of_one_id_are_listed_cleared_and_removed_together() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox AS seed\nRUN mkdir /seed\nFROM busybox\nARG N\n\
         RUN --mount=type=cache,id=c,target=/c echo $N >> /c/f && cat /c/f > /one\n\
         RUN --mount=type=cache,id=c,target=/c,uid=5 echo $N >> /c/f && cat /c/f > /two\n\
         RUN --mount=type=cache,id=c,target=/c,from=seed,source=/seed echo $N >> /c/f && cat /c/f > /three\n\
         RUN --mount=type=cache,id=cc,target=/c echo $N >> /c/f && cat /c/f > /four\n",
    );
    let run = |options: &[&str]| {
        lab.build(&context).args(options).tag("x").built();
        lab.run("x", &["cat", "/one", "/two", "/three", "/four"])
    };
    assert_eq!(run(&["--build-arg", "N=1"]), "1\n1\n1\n1");
    assert_eq!(run(&["--build-arg", "N=2"]), "1\n2\n1\n2\n1\n2\n1\n2");
    assert_eq!(
        run(&["--build-arg", "N=3", "--no-cache-mounts"]),
        "3\n3\n3\n3"
    );
    let names = || {
        let list = lab.kiln(["cache", "ls", "-q"]).output().ok();
        let names: Vec<String> = list.stdout().lines().map(str::to_owned).collect();
        names
    };
    let all = names();
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(
        all.contains(&"c#uid=5,gid=0,mode=0755".to_owned()),
        "{all:?}"
    );
    let shown = lab.kiln(["cache", "inspect", "c"]).output().ok();
    let shown: serde_json::Value = serde_json::from_str(shown.stdout()).unwrap();
    assert_eq!(shown.as_array().unwrap().len(), 3, "{shown}");
    lab.kiln(["cache", "rm", "c"]).output().ok();
    assert_eq!(names(), ["cc"]);
    lab.kiln(["cache", "rm", "c"])
        .fails()
        .says(&["no cache mount `c`"]);
}

#[test]
fn what_a_base_is_for_does_not_count_beside_the_platform_that_is_asked_for() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM --platform=$BUILDPLATFORM busybox AS build\nRUN echo x > /x\nFROM scratch\nCOPY --from=build /x /\n",
    );
    for (target, platform, want) in [
        ("", "linux/arm64", ["linux", "arm64", ""]),
        ("build", "linux/arm64", ["linux", "arm64", ""]),
        ("build", "linux/arm/v6", ["linux", "arm", "v6"]),
    ] {
        let build = lab.build(&context).tag("x").args(["--platform", platform]);
        build.args(["--target", target]).built();
        let image = lab.inspect("x");
        let found =
            ["Os", "Architecture", "Variant"].map(|name| image[name].as_str().unwrap_or(""));
        assert_eq!(found, want, "{target} {platform}");
    }
}
