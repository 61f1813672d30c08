use proptest::prelude::*;

use super::*;

const BUILDKIT: &str = r#"{"architecture":"amd64","config":{"User":"app","ExposedPorts":{"80/tcp":{},"9/udp":{}},"Env":["PATH=/bin","A=b"],"Entrypoint":["/e"],"Cmd":["c"],"Volumes":{"/data":{}},"WorkingDir":"/w","Labels":{"a":"1","b":"2"},"StopSignal":"SIGINT","ArgsEscaped":true,"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":1000000000,"Timeout":2,"StartPeriod":3,"StartInterval":4,"Retries":5},"OnBuild":["RUN x"],"Shell":["/bin/sh","-c"]},"created":"2024-05-01T10:11:12.123456789Z","history":[{"created":"2024-05-01T10:11:12Z","created_by":"RUN x","comment":"buildkit.dockerfile.v0"},{"created_by":"CMD c","empty_layer":true}],"moby.buildkit.cache.v0":"eyJ4Ijp7fX0=","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"variant":"v2"}"#;

#[test]
fn buildkit_configs_survive_byte_for_byte() {
    let config = ImageConfig::parse(BUILDKIT.as_bytes()).unwrap();
    assert_eq!(
        String::from_utf8(config.to_json().unwrap()).unwrap(),
        BUILDKIT
    );
    assert_eq!(config.config.healthcheck.as_ref().unwrap().retries, 5);
    assert_eq!(config.platform().to_string(), "linux/amd64/v2");
    assert_eq!(config.extra.len(), 1);
}

#[test]
fn nulls_mean_empty() {
    let json = r#"{"architecture":"arm64","os":"linux","author":null,"created":null,"variant":null,
        "config":{"User":null,"Env":null,"Cmd":null,"Entrypoint":null,"Volumes":null,"Labels":null,
        "ExposedPorts":null,"OnBuild":null,"Shell":null,"Healthcheck":null,"StopSignal":null,
        "ArgsEscaped":null,"WorkingDir":null,"Hostname":"","Domainname":""},
        "rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
    let config = ImageConfig::parse(json.as_bytes()).unwrap();
    assert!(config.config.env.is_empty() && config.history.is_empty());
    assert_eq!(
        String::from_utf8(config.to_json().unwrap()).unwrap(),
        r#"{"architecture":"arm64","config":{"Domainname":"","Hostname":""},"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#
    );
    for json in [r#"{"config":null,"rootfs":null}"#, "{}"] {
        let config = ImageConfig::parse(json.as_bytes()).unwrap();
        assert_eq!(
            (&config.config, config.chain_id()),
            (&ContainerConfig::default(), None)
        );
    }
}

#[test]
fn refuses_nonsense() {
    for json in [
        "",
        "[]",
        "null",
        "{\"rootfs\":{\"diff_ids\":[\"sha256:../../x\"]}}",
        "{\"config\":{\"Env\":\"x\"}}",
        "{\"created\":\"yesterday\"}",
    ] {
        assert!(ImageConfig::parse(json.as_bytes()).is_err(), "{json}");
    }
    assert!(matches!(
        ImageConfig::parse(&vec![b' '; MAX_CONFIG_SIZE + 1]),
        Err(ConfigError::TooLarge(_))
    ));
}

#[test]
fn other_implementations_read_what_is_written() {
    let other: oci_spec::image::ImageConfiguration = serde_json::from_str(BUILDKIT).unwrap();
    let ours = ImageConfig::parse(BUILDKIT.as_bytes()).unwrap();
    assert_eq!(
        other.config().as_ref().unwrap().env().as_ref(),
        Some(&ours.config.env)
    );
    assert_eq!(other.rootfs().diff_ids().len(), ours.rootfs.diff_ids.len());
}

proptest! {
    #[test]
    fn unknown_fields_survive(
        top in proptest::collection::btree_map("x[a-z]{1,6}", "\\PC{0,8}", 0..4),
        inner in proptest::collection::btree_map("X[a-zA-Z]{1,6}", any::<i64>(), 0..4),
        env in proptest::collection::vec("[A-Z]{1,4}=\\PC{0,8}", 0..4),
        created in proptest::option::of(0i64..4_000_000_000),
    ) {
        let mut config = ImageConfig::for_platform(&Platform::host());
        config.created = created.map(|s| Timestamp::from_second(s).unwrap());
        config.extra = top.into_iter().map(|(k, v)| (k, Value::from(v))).collect();
        config.config.extra = inner.into_iter().map(|(k, v)| (k, Value::from(v))).collect();
        config.config.env = env;
        let bytes = config.to_json().unwrap();
        let back = ImageConfig::parse(&bytes).unwrap();
        prop_assert_eq!(&back, &config);
        prop_assert_eq!(back.to_json().unwrap(), bytes);
    }
}
