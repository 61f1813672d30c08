use proptest::prelude::*;

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn normalises_as_docker_does() {
    let pinned = format!("busybox@sha256:{HEX}");
    let both = format!("ghcr.io/a/b:v1@sha256:{HEX}");
    let cases = [
        (
            "busybox",
            "docker.io/library/busybox:latest",
            "busybox:latest",
        ),
        (
            "busybox:1.36",
            "docker.io/library/busybox:1.36",
            "busybox:1.36",
        ),
        (
            "library/busybox",
            "docker.io/library/busybox:latest",
            "busybox:latest",
        ),
        (
            "docker.io/busybox",
            "docker.io/library/busybox:latest",
            "busybox:latest",
        ),
        (
            "index.docker.io/busybox",
            "docker.io/library/busybox:latest",
            "busybox:latest",
        ),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        (
            "library/a/b",
            "docker.io/library/a/b:latest",
            "library/a/b:latest",
        ),
        (
            "localhost/app",
            "localhost/app:latest",
            "localhost/app:latest",
        ),
        (
            "localhost:5000/app:x",
            "localhost:5000/app:x",
            "localhost:5000/app:x",
        ),
        (
            "localhost",
            "docker.io/library/localhost:latest",
            "localhost:latest",
        ),
        ("[::1]:5000/x:t", "[::1]:5000/x:t", "[::1]:5000/x:t"),
        ("[::1]/x", "[::1]/x:latest", "[::1]/x:latest"),
        (
            "127.0.0.1:80/x",
            "127.0.0.1:80/x:latest",
            "127.0.0.1:80/x:latest",
        ),
        ("Foo/bar", "Foo/bar:latest", "Foo/bar:latest"),
        (
            "docker.io/a.b/c",
            "docker.io/a.b/c:latest",
            "docker.io/a.b/c:latest",
        ),
        (
            "a__b-d--e/f.g_h",
            "docker.io/a__b-d--e/f.g_h:latest",
            "a__b-d--e/f.g_h:latest",
        ),
        (&pinned, &format!("docker.io/library/{pinned}"), &pinned),
        (&both, &both, &both),
    ];
    for (text, full, familiar) in cases {
        let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(reference.to_string(), full, "{text}");
        assert_eq!(reference.familiar(), familiar, "{text}");
        assert_eq!(full.parse::<Reference>().unwrap(), reference, "{text}");
        assert_eq!(familiar.parse::<Reference>().unwrap(), reference, "{text}");
    }
}

#[test]
fn refuses_bad_references() {
    let long = "a".repeat(256);
    let long_tag = format!("a:{}", "t".repeat(129));
    let (id, long_id) = (format!("sha256:{HEX}"), format!("sha512:{HEX}{HEX}"));
    let bad_digest = format!("a@sha256:{}", HEX.to_uppercase());
    for text in [
        "",
        "/",
        ":tag",
        "a:",
        "a@",
        "A",
        "user/App",
        "../etc/passwd",
        "a/../b",
        "a//b",
        "/a",
        "a/",
        "-a",
        "a-",
        "_a",
        "a___b",
        "a..b",
        "a b",
        "a:b c",
        "a:-x",
        "a:.x",
        "docker.io/A",
        "localhost:port/x",
        "localhost:99999/x",
        "[::1/x",
        "[zz]:5000/x",
        "[::1]x/y",
        "-bad.com/x",
        "ex_ample.com:80/x",
        "a\n",
        "a@sha256:../../x",
        "http://example.com/x",
        "https://example.com/x:y",
        "é",
        HEX,
        &id,
        &long_id,
        &long,
        &long_tag,
        &bad_digest,
    ] {
        assert!(text.parse::<Reference>().is_err(), "{text:?} was accepted");
    }
    assert_eq!(
        "user/App".parse::<Reference>(),
        Err(ReferenceError::Uppercase("user/App".into()))
    );
}

#[test]
fn tags_and_digests_can_be_replaced() {
    let reference: Reference = "busybox:1".parse().unwrap();
    let digest = Digest::of(b"x");
    assert_eq!(reference.manifest_id(), "1");
    let pinned = reference.with_digest(digest.clone());
    assert_eq!(pinned.tag(), Some("1"));
    assert_eq!(pinned.manifest_id(), digest.as_str());
    assert_eq!(
        pinned.with_tag("2").unwrap().to_string(),
        "docker.io/library/busybox:2"
    );
    assert_eq!(reference.by_digest(digest).tag(), None);
    assert!(reference.with_tag("a/b").is_err());
}

proptest! {
    #[test]
    fn round_trip(
        registry in "([a-z0-9]{1,8}\\.[a-z]{2,3}|localhost)(:[1-9][0-9]{0,3})?",
        repository in "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,6}){0,3}",
        tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
        pin in any::<bool>(),
    ) {
        let digest = pin.then(|| Digest::of(repository.as_bytes()));
        let made = Reference::from_parts(&registry, &repository, tag.as_deref(), digest).unwrap();
        prop_assert_eq!(&made.to_string().parse::<Reference>().unwrap(), &made);
        prop_assert_eq!(&made.familiar().parse::<Reference>().unwrap(), &made);
    }

    #[test]
    fn any_text_is_handled(text in "\\PC{0,60}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert!(!reference.repository().contains(".."));
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
    }
}

#[test]
fn names_that_an_image_may_be_given() {
    let pinned = format!("a@sha256:{HEX}");
    for (text, fine) in [
        ("a:1", true),
        ("example.com/sha256:1", true),
        ("sha256:1", false),
        ("library/sha256", false),
        ("sha512:abc", false),
        (HEX, false),
        (&pinned, false),
    ] {
        assert_eq!(Reference::parse_new(text).is_ok(), fine, "{text}");
    }
}
