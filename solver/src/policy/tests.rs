use super::*;

fn policy(rules: &str) -> Policy {
    Policy::parse(format!("{{\"version\": 1, \"rules\": [{rules}]}}").as_bytes()).unwrap()
}

/// A rule in short: action, identifier, kind of match, and what it becomes.
fn rule(action: &str, identifier: &str, kind: &str, to: &str) -> String {
    let updates = match to {
        "" => String::new(),
        to => format!(", \"updates\": {{\"identifier\": \"{to}\"}}"),
    };
    format!(
        "{{\"action\": \"{action}\", \"selector\": {{\"identifier\": \"{identifier}\", \
         \"match_type\": \"{kind}\"}}{updates}}}"
    )
}

const BUSYBOX: &str = "docker-image://docker.io/library/busybox:latest";
const ALPINE: &str = "docker-image://docker.io/library/alpine:latest";

#[test]
fn images_are_allowed_denied_and_converted() {
    let deny = |what: &str| rule("DENY", what, "WILDCARD", "");
    let allow = |what: &str| rule("ALLOW", what, "WILDCARD", "");
    let convert = |from: &str, to: &str| rule("CONVERT", from, "WILDCARD", to);
    let pinned = format!("{ALPINE}@sha256:{}", "a".repeat(64));
    let cases: Vec<(Vec<String>, &str, Result<String, &str>)> = vec![
        (vec![], "busybox", Ok("busybox".into())),
        (
            vec![deny(BUSYBOX)],
            "busybox",
            Err("denies `docker-image://docker.io/library/busybox:latest` (rule 1)"),
        ),
        (vec![deny(BUSYBOX)], "busybox:1", Ok("busybox:1".into())),
        (vec![deny("*")], "busybox", Err("denies")),
        // The last one counts.
        (
            vec![deny("*"), allow("docker-image://*")],
            "busybox",
            Ok("busybox".into()),
        ),
        (
            vec![allow("docker-image://*"), deny("*")],
            "busybox",
            Err("(rule 2)"),
        ),
        (
            vec![deny("docker-image://*"), allow("docker-image://*@sha256:*")],
            "busybox",
            Err("denies"),
        ),
        (
            vec![convert(BUSYBOX, ALPINE)],
            "busybox",
            Ok("docker.io/library/alpine:latest".into()),
        ),
        (
            vec![convert(ALPINE, &pinned)],
            "alpine",
            Ok(pinned.trim_start_matches("docker-image://").into()),
        ),
        (
            vec![convert(
                "docker-image://docker.io/library/golang:*",
                "docker-image://r.example/go:${1}-x",
            )],
            "golang:1.19",
            Ok("r.example/go:1.19-x".into()),
        ),
        (
            vec![convert(
                "docker-image://docker.io/*/*:latest",
                "docker-image://r.example/$2:$1",
            )],
            "library/a",
            Ok("r.example/a:library".into()),
        ),
        (
            vec![rule(
                "CONVERT",
                "^docker-image://docker\\\\.io/(.*)",
                "REGEX",
                "docker-image://m.example/$1",
            )],
            "busybox",
            Ok("m.example/library/busybox:latest".into()),
        ),
        (
            vec![rule("DENY", "busy.ox", "REGEX", "")],
            "busybox",
            Err("denies"),
        ),
        (
            vec![rule("DENY", BUSYBOX, "EXACT", "")],
            "busybox",
            Err("denies"),
        ),
        (
            vec![rule("DENY", "docker-image://*", "EXACT", "")],
            "busybox",
            Ok("busybox".into()),
        ),
        // What is converted is looked at anew.
        (
            vec![convert(BUSYBOX, ALPINE), deny(ALPINE)],
            "busybox",
            Err("alpine:latest` (rule 2)"),
        ),
        (
            vec![convert(BUSYBOX, ALPINE), convert(ALPINE, BUSYBOX)],
            "busybox",
            Err("again and again"),
        ),
        (
            vec![convert(BUSYBOX, BUSYBOX), deny(BUSYBOX)],
            "busybox",
            Err("denies"),
        ),
        (
            vec![convert(BUSYBOX, "https://h/x")],
            "busybox",
            Err("into `https://h/x`"),
        ),
        (
            vec![convert(BUSYBOX, "oci-layout://dir:tag")],
            "busybox",
            Ok("oci-layout://dir:tag".into()),
        ),
        (
            vec![deny("oci-layout://*")],
            "oci-layout://dir",
            Err("denies"),
        ),
        // What may be the id of an image of the store.
        (vec![deny("*")], "not a name", Err("denies")),
    ];
    for (rules, name, want) in cases {
        let found = policy(&rules.join(",")).image(name);
        match (found, want) {
            (Ok(found), Ok(want)) => assert_eq!(found, want, "{rules:?}"),
            (Err(found), Err(want)) => {
                assert!(found.to_string().contains(want), "{rules:?}: {found}");
            }
            (found, want) => panic!("{rules:?}: {want:?}, and it is {found:?}"),
        }
    }
}

#[test]
fn web_files_and_repositories_are_pinned_and_moved() {
    let http = |url: &str, checksum: Option<&str>| SourceKind::Http {
        url: url.into(),
        checksum: checksum.map(Into::into),
    };
    let git = |url: &str, keep_git_dir: bool, checksum: Option<&str>| SourceKind::Git {
        url: url.into(),
        keep_git_dir,
        checksum: checksum.map(Into::into),
    };
    let attrs = |identifier: &str, key: &str, value: &str| {
        format!(
            "{{\"action\": \"CONVERT\", \"selector\": {{\"identifier\": \"{identifier}\"}}, \
             \"updates\": {{\"attrs\": {{\"{key}\": \"{value}\"}}}}}}"
        )
    };
    let deny_unpinned = "{\"action\": \"DENY\", \"selector\": {\"identifier\": \"https://*\", \
        \"constraints\": [{\"key\": \"http.checksum\", \"value\": \"^sha256:\", \
        \"condition\": \"MATCHES\"}, {\"key\": \"http.checksum\", \"value\": \"sha256:0\"}]}}";
    let wild = |from: &str, to: &str| rule("CONVERT", from, "WILDCARD", to);
    let cases: Vec<(String, SourceKind, Result<SourceKind, &str>)> = vec![
        (
            attrs("https://h/x", "http.checksum", "sha256:1"),
            http("https://h/x", None),
            Ok(http("https://h/x", Some("sha256:1"))),
        ),
        (
            attrs("https://h/*", "http.checksum", "sha256:1"),
            http("https://h/x", None),
            Ok(http("https://h/x", Some("sha256:1"))),
        ),
        (
            attrs("https://h/x", "http.mystery", "1"),
            http("https://h/x", None),
            Err("sets `http.mystery`"),
        ),
        (
            wild("https://h/*", "http://mirror/$1"),
            http("https://h/x", Some("sha256:1")),
            Ok(http("http://mirror/x", Some("sha256:1"))),
        ),
        (
            wild("https://h/*", "git://h/$1"),
            http("https://h/x", None),
            Err("into `git://h/x`"),
        ),
        (
            deny_unpinned.into(),
            http("https://h/x", Some("sha256:0")),
            Err("denies"),
        ),
        (
            deny_unpinned.into(),
            http("https://h/x", Some("sha256:1")),
            Ok(http("https://h/x", Some("sha256:1"))),
        ),
        (
            rule("DENY", "https://*", "WILDCARD", ""),
            http("https://u:p@h/x", None),
            Err("denies `https://h/x`"),
        ),
        (
            rule("DENY", "git://github.com/*", "WILDCARD", ""),
            git("https://github.com/a/b.git#v1", false, None),
            Err("denies `git://github.com/a/b.git#v1`"),
        ),
        (
            rule("DENY", "git://github.com/*", "WILDCARD", ""),
            git("git@github.com:a/b.git", false, None),
            Err("denies"),
        ),
        (
            wild("git://h/a.git#v1", "git://h/a.git#v2:dir"),
            git("https://h/a.git#v1", true, None),
            Ok(git("https://h/a.git#v2:dir", true, None)),
        ),
        (
            wild("git://h/*", "git://mirror/$1"),
            git("ssh://git@h/a.git#v1", false, None),
            Ok(git("https://mirror/a.git#v1", false, None)),
        ),
        (
            attrs("git://h/*", "git.checksum", "0123456"),
            git("https://h/a.git", false, None),
            Ok(git("https://h/a.git", false, Some("0123456"))),
        ),
        (
            attrs("git://h/*", "git.fullurl", "https://other/b.git"),
            git("https://h/a.git#v1:d", false, None),
            Ok(git("https://other/b.git#v1:d", false, None)),
        ),
    ];
    let shown = |kind: &SourceKind| format!("{kind:?}");
    for (rules, source, want) in cases {
        let asked = shown(&source);
        match (policy(&rules).source(source), want) {
            (Ok(found), Ok(want)) => assert_eq!(shown(&found), shown(&want), "{rules}"),
            (Err(found), Err(want)) => {
                assert!(found.to_string().contains(want), "{rules}: {found}");
            }
            (found, want) => panic!("{rules} {asked}: {want:?}, and it is {found:?}"),
        }
    }
}

#[test]
fn directories_can_be_denied_and_not_be_converted() {
    let all = policy(&rule("DENY", "*", "WILDCARD", ""));
    assert!(all.directory("context").is_err());
    let but = [
        rule("DENY", "*", "WILDCARD", ""),
        rule("ALLOW", "local://*", "WILDCARD", ""),
    ];
    assert!(policy(&but.join(",")).directory("context").is_ok());
    let other = policy(&rule("CONVERT", "local://*", "WILDCARD", "https://h/x"));
    assert!(other.directory("context").is_err());
    assert!(Policy::default().directory("context").is_ok());
}

/// A rule for everything has no gaps: neither ids of the store nor addresses with line feeds.
#[test]
fn a_rule_for_everything_misses_nothing() {
    let all = policy(&rule("DENY", "*", "WILDCARD", ""));
    let id = "ab".repeat(32);
    for image in ["busybox", &id, &format!("sha256:{id}"), "not a name"] {
        assert!(all.image(image).is_err(), "{image}");
    }
    let file = SourceKind::Http {
        url: "https://host/\nx".into(),
        checksum: None,
    };
    assert!(all.source(file).is_err());
}

#[test]
fn what_is_no_policy_is_refused() {
    for (json, why) in [
        ("", "EOF"),
        ("[]", "is an object"),
        ("{\"rule\": []}", "unknown field `rule`"),
        ("{\"version\": 2}", "version 2"),
        (
            "{\"rules\": [{\"action\": \"FORBID\", \"selector\": {}}]}",
            "FORBID",
        ),
        (
            "{\"rules\": [{\"selector\": {\"identifier\": \"*\"}}]}",
            "missing field `action`",
        ),
        (
            "{\"rules\": [{\"action\": \"CONVERT\", \"selector\": {\"identifier\": \"*\"}}]}",
            "rule 1: CONVERT needs updates",
        ),
        (
            "{\"rules\": [{\"action\": \"DENY\", \"selector\": {\"identifier\": \"*\"}, \"updates\": {}}]}",
            "rule 1: updates are for CONVERT alone",
        ),
        (
            "{\"rules\": [{\"action\": \"DENY\", \"selector\": {\"identifier\": \"a**\"}}]}",
            "two stars",
        ),
        (
            "{\"rules\": [{\"action\": \"DENY\", \"selector\": {\"identifier\": \"(\", \"match_type\": \"REGEX\"}}]}",
            "`(` is not a regular expression",
        ),
    ] {
        let error = Policy::parse(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{json}: {error}");
    }
    assert!(Policy::parse(b"{}").unwrap().is_empty());
}
