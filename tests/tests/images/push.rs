//! `kiln build --push`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::place::files_below;
use kiln_tests::servers::empty_registry;
use kiln_tests::{Lab, image_in_registry, tool};
use serde_json::Value;

#[test]
fn a_build_is_pushed_under_all_its_names() {
    let (lab, registry) = (Lab::new(), empty_registry());
    let context = lab.dockerfile("FROM busybox\nRUN echo x > /x\nCMD [\"cat\", \"/x\"]\n");
    let at = registry.address();
    let names = [format!("{at}/team/app:1"), format!("{at}/other/app:latest")];
    let facts = lab.path("facts.json");
    let push = |option: &str, name: &str| {
        let build = lab.kiln(["build", option, "-t", name, "--metadata-file"]);
        build.arg(&facts).last(context.path())
    };
    let first = push("--push", &names[0]).output().ok();
    assert_eq!(first.out, b"");
    let first = first.says(&[
        &format!("The push refers to repository [{at}/team/app]"),
        ": Pushed\n",
        "1: digest: sha256:",
    ]);
    assert!(!first.err.contains("already exists"), "{first}");
    let again = push("--push", &names[0]).output().ok();
    assert!(!again.err.contains(": Pushed\n"), "{again}");
    let again = again.says(&[": Layer already exists\n"]);
    drop(again);
    // Another repository of the same registry takes the layers from there.
    push("--output=type=registry", &names[1])
        .output()
        .ok()
        .says(&[": Mounted\n"]);
    let facts: Value = serde_json::from_slice(&std::fs::read(&facts).unwrap()).unwrap();
    for name in &names {
        let place = format!("docker://{name}");
        let seen = tool("skopeo", ["inspect", "--tls-verify=false", &place]);
        let seen: Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(seen["Digest"], facts["containerimage.digest"], "{seen}");
        assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
        let other = Lab::new();
        assert_eq!(other.run(name, &["cat", "/x"]), "x");
        assert_eq!(other.inspect(name)["Id"], lab.inspect(name)["Id"]);
    }
    let quiet = lab.kiln(["build", "-q", "--push", "-t", &names[0]]);
    let quiet = quiet.last(context.path()).output().ok();
    assert_eq!(quiet.err, "");
    assert_eq!(quiet.stdout(), lab.inspect(&names[0])["Id"]);
}

#[test]
fn an_image_that_cannot_be_pushed_is_kept_and_the_build_fails() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN echo x > /x\n");
    let push = |name: &str| {
        let build = lab.kiln(["build", "--push", "-t", name]);
        build.last(context.path()).output().failed()
    };
    let dead = push("127.0.0.1:9/app:1");
    assert_eq!(dead.code(), Some(1), "{dead}");
    assert!(!dead.err.contains("mirror"), "{dead}");
    let dead = dead.says(&["cannot push `127.0.0.1:9/app:1`", "Connection refused"]);
    dead.says(&["hint: check the host and the network"]);
    lab.kiln(["inspect", "127.0.0.1:9/app:1"]).output().ok();

    let guarded = image_in_registry("app", &[]).serve_to("user:password");
    let address = guarded.host();
    push(&format!("{address}/app:1")).says(&["cannot push", "is denied", "credentials"]);

    let nameless = lab.kiln(["build", "--push"]).last(context.path()).fails();
    assert_eq!(nameless.code(), Some(2), "{nameless}");
    nameless.says(&["an image without a name cannot be pushed", "-t "]);
}

#[test]
fn a_layer_that_is_damaged_in_the_store_is_named_and_made_again() {
    let (lab, registry) = (Lab::new(), empty_registry());
    let context = lab.dockerfile("FROM busybox\nRUN echo x > /x\n");
    let push = |name: &str| {
        let name = format!("{}/{name}", registry.address());
        let build = lab.kiln(["build", "--push", "-t", &name]);
        build.last(context.path()).output()
    };
    push("first:1").ok();
    // Forgotten by the registry, so that it is sent again.
    let other = empty_registry();
    let layer = files_below(&lab.store().join("content-v1/sha256"))
        .into_iter()
        .filter(|f| std::fs::read(f).unwrap().starts_with(&[0x1f, 0x8b]))
        .min_by_key(|f| f.metadata().unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&layer, bytes).unwrap();
    let name = format!("{}/app:1", other.address());
    let again = || {
        let build = lab.kiln(["build", "--push", "-t", &name]);
        build.last(context.path()).output()
    };
    again()
        .failed()
        .says(&["was damaged in the store", "push again"]);
    again().ok();
    assert_eq!(Lab::new().run(&name, &["cat", "/x"]), "x");
}

#[test]
fn what_is_not_reproducible_is_not_pushed() {
    let (lab, registry) = (Lab::new(), empty_registry());
    let context = lab.dockerfile("FROM busybox\nRUN head -c 9 /dev/urandom > /x\n");
    let name = format!("{}/app:1", registry.address());
    let build = lab.kiln(["build", "--push", "--check-reproducible", "-t", &name]);
    build.last(context.path()).output().failed();
    let pulled = Lab::new().kiln(["pull", &name]).output().failed();
    pulled.says(&["app:1"]);
}

/// The layers of an image in a registry, as its manifest has them: type and size.
fn layers(name: &str) -> Vec<(String, u64)> {
    let place = format!("docker://{name}");
    let raw = tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &place]);
    let manifest: Value = serde_json::from_str(&raw).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let layer = |l: &Value| {
        let kind = l["mediaType"].as_str().unwrap();
        let kind = kind.strip_prefix("application/vnd.oci.image.layer.v1.");
        (kind.unwrap().to_owned(), l["size"].as_u64().unwrap())
    };
    layers.map(layer).collect()
}

#[test]
fn an_output_says_how_the_layers_of_what_is_pushed_are_compressed() {
    let (lab, registry) = (Lab::new(), empty_registry());
    let text = "some text that can be compressed\n".repeat(9000);
    let files = [
        ("Dockerfile", "FROM busybox\nCOPY text /\nRUN echo x > /x\n"),
        ("text", &text),
    ];
    let context = lab.context("context", &files);
    let build = |tag: &str, options: &str| {
        let name = format!("{}/team/app:{tag}", registry.address());
        let output = format!("{options},oci-mediatypes=true");
        let build = lab.kiln(["build", "-t", &name, "-o", &output]);
        build.last(context.path()).output().ok();
        assert_eq!(Lab::new().run(&name, &["cat", "/x"]), "x", "{options}");
        layers(&name)
    };
    let kinds = |layers: &[(String, u64)]| -> Vec<String> {
        layers.iter().map(|(kind, _)| kind.clone()).collect()
    };
    for (tag, options, wanted) in [
        ("a", "type=registry", ["tar+gzip", "tar+gzip", "tar+gzip"]),
        // What was pulled stays as it was unless it is to be made anew.
        (
            "b",
            "type=registry,compression=zstd",
            ["tar+gzip", "tar+zstd", "tar+zstd"],
        ),
        (
            "c",
            "type=image,push=true,compression=zstd,force-compression=true",
            ["tar+zstd", "tar+zstd", "tar+zstd"],
        ),
        (
            "d",
            "type=registry,compression=uncompressed,force-compression=true",
            ["tar", "tar", "tar"],
        ),
        // Again, with what the store has by now.
        (
            "e",
            "type=registry,compression=uncompressed",
            ["tar+gzip", "tar", "tar"],
        ),
    ] {
        assert_eq!(kinds(&build(tag, options)), wanted, "{options}");
    }
    let level = |level| build("f", &format!("type=registry,compression-level={level}"))[1].1;
    assert!(level(0) > text.len() as u64 && level(9) < 10_000);

    // `--push` pushes what the output describes.
    let name = format!("{}/team/app:g", registry.address());
    let zstd = ["-o", "type=image,compression=zstd"];
    let build = lab.kiln(["build", "--push", "-t", &name]).args(zstd);
    build.last(context.path()).output().ok();
    assert_eq!(kinds(&layers(&name)), ["tar+gzip", "tar+zstd", "tar+zstd"]);
}

#[test]
fn a_form_of_layers_that_nothing_has_is_refused() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\n");
    let refused = |outputs: &[&str]| {
        let outputs = outputs.iter().flat_map(|o| ["-o", o]);
        let build = lab.kiln(["build", "-t", "localhost:9/app"]).args(outputs);
        let refused = build.last(context.path()).fails();
        assert_eq!(refused.code(), Some(2), "{refused}");
        refused
    };
    for options in [
        "type=image,compression=zstd",
        "type=registry,push=false,compression=zstd",
    ] {
        refused(&[options]).says(&["is not pushed", "push=true"]);
    }
    refused(&["type=docker,force-compression=true"]).says(&["is not pushed"]);
    refused(&["type=registry,compression=estargz"]).says(&["gzip, zstd or uncompressed"]);
    refused(&["type=registry,oci-mediatypes=false"]).says(&["OCI's media types only"]);
    refused(&["type=registry", "type=registry,compression=zstd"])
        .says(&["`localhost:9/app:latest`", "two forms"]);
}
