//! What gives access to remote caches is told to their servers and to nobody else.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::place::on_host;
use kiln_tests::{Context, Lab, Server, holds};

/// What must not be seen anywhere.
const SECRETS: [&str; 5] = [
    "IDGEHEIM",
    "geheimgeheim",
    "tokengeheim",
    "kennwortgeheim",
    // The same with its user, as it goes to a registry.
    "c29tZWJvZHk6a2Vubndvcn",
];

fn context(lab: &Lab) -> Context {
    lab.dockerfile("FROM busybox\nRUN echo x > /x\n")
}

fn bucket(address: &str) -> String {
    format!(
        "type=s3,bucket=bucket,region=us-east-1,endpoint_url={address},access_key_id=IDGEHEIM,\
         secret_access_key=geheimgeheim,session_token=tokengeheim"
    )
}

fn assert_silent(lab: &Lab, host: &str, out: &kiln_tests::Output, case: &str) {
    let text = format!("{}{}", String::from_utf8_lossy(&out.out), out.err);
    for secret in SECRETS {
        assert!(!text.contains(secret), "{case}: `{secret}` in: {text}");
        assert!(
            !holds(&lab.path(host), secret.as_bytes()),
            "{case}: {secret}"
        );
    }
}

/// Servers like to repeat what they were told when they refuse it.
#[test]
fn credentials_of_a_bucket_are_in_no_message_and_not_in_the_store() {
    for status in [400, 401, 403, 500, 501] {
        let (lab, server) = (Lab::new(), Server::echo(status));
        for address in [server.url(""), "http://127.0.0.1:9".to_owned()] {
            let spec = bucket(&address);
            for level in ["warn", "trace"] {
                let case = format!("{status} {address} {level}");
                let host = format!("{level}-{}", address.len());
                let build = on_host(&lab, &host, &context(&lab))
                    .env("KILN_LOG_LEVEL", level)
                    .args(["--cache-from", &spec, "--cache-to"])
                    .arg(format!("{spec},mode=max"));
                let out = build.output().ok();
                assert!(out.err.contains("s3://bucket/"), "{case}: {out}");
                assert_silent(&lab, &host, &out, &case);
            }
        }
        assert!(!server.authorizations().is_empty());
    }
}

/// The environment has credentials as well.
#[test]
fn credentials_of_the_environment_are_in_no_message() {
    let (lab, server) = (Lab::new(), Server::echo(403));
    let spec = format!("type=s3,bucket=bucket,endpoint_url={}", server.url(""));
    let build = on_host(&lab, "a", &context(&lab))
        .env("KILN_LOG_LEVEL", "trace")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "IDGEHEIM")
        .env("AWS_SECRET_ACCESS_KEY", "geheimgeheim")
        .env("AWS_SESSION_TOKEN", "tokengeheim")
        .args(["--cache-from", &spec, "--cache-to"])
        .arg(format!("{spec},mode=max"));
    assert_silent(&lab, "a", &build.output().ok(), "environment");
    assert!(
        server
            .authorizations()
            .iter()
            .any(|a| a.contains("IDGEHEIM"))
    );
}

#[test]
fn a_login_at_a_registry_is_in_no_message() {
    for status in [400, 403, 500] {
        let (lab, server) = (Lab::new(), Server::echo(status));
        let docker = lab.path("docker");
        std::fs::create_dir(&docker).unwrap();
        let auth = serde_json::json!({"auths": {server.host(): {
            "username": "somebody", "password": "kennwortgeheim",
        }}});
        std::fs::write(docker.join("config.json"), auth.to_string()).unwrap();
        let spec = format!("type=registry,ref={}/cache", server.host());
        let build = on_host(&lab, "a", &context(&lab))
            .env("KILN_LOG_LEVEL", "trace")
            .env("DOCKER_CONFIG", &docker)
            .args(["--cache-from", &spec, "--cache-to"])
            .arg(format!("{spec},mode=max"));
        let out = build.output().ok();
        assert_silent(&lab, "a", &out, &status.to_string());
    }
}

/// Descriptions that are refused are shown without what is secret in them.
#[test]
fn descriptions_that_are_refused_are_not_repeated() {
    let lab = Lab::new();
    let good = bucket("http://127.0.0.1:9");
    let wrong = [
        format!("{good},unknown=x"),
        format!("{good},unknown"),
        format!("{good},use_path_style=maybe"),
        format!("{good},bucket=twice"),
        good.replace("type=s3", "type=s4"),
        good.replace("type=s3,", ""),
        good.replace("bucket=bucket,", ""),
        good.replace(",session_token=", ","),
        good.replace("secret_access_key=", "secret-access-key="),
        good.replace("http://", "no address: "),
        good.replace("http://", "http://somebody:kennwortgeheim@["),
    ];
    for spec in &wrong {
        for option in ["--cache-from", "--cache-to"] {
            let out = on_host(&lab, "a", &context(&lab)).args([option, spec]);
            assert_silent(&lab, "a", &out.fails(), spec);
        }
    }
    let base = std::fs::read_to_string(kiln_tests::setting("KILN_TEST_CONFIG")).unwrap();
    let sections = [
        format!("to = [\"{}\"]", wrong[0]),
        // A text where a list is meant, a name that is not known, no end.
        format!("to = \"{good}\""),
        format!("too = [\"{good}\"]"),
        format!("to = [\"{good}\""),
        format!("to = [\"{good}]"),
        format!("to = [\"{good}\"] from = []"),
    ];
    for section in sections {
        let path = lab.path("config.toml");
        std::fs::write(&path, format!("{base}\n[cache]\n{section}\n")).unwrap();
        let out = on_host(&lab, "a", &context(&lab)).env("KILN_CONFIG", &path);
        let out = out.fails();
        assert!(out.err.contains("config"), "{out}");
        assert_silent(&lab, "a", &out, &section);
    }
}
