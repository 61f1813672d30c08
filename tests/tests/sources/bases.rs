//! What is said of base images and other sources: whether they were transferred.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::servers::empty_registry;
use kiln_tests::{Built, Lab, Outcome, Output, Tarball, image_in_registry};
use serde_json::Value;

/// The events of the base image in their order, without those that only tell of it.
fn of_base(output: &Output) -> Vec<String> {
    let events = output
        .err
        .lines()
        .filter_map(|l| serde_json::from_str(l).ok());
    let events: Vec<Value> = events.collect();
    let is_base = |e: &&Value| {
        e["event"] == "planned" && e["name"].as_str().is_some_and(|n| n.contains("FROM"))
    };
    let vertex = &events.iter().find(is_base).unwrap()["vertex"];
    let words = events.iter().filter(|e| e["vertex"] == *vertex);
    let words = words.map(|e| e["event"].as_str().unwrap().to_owned());
    words.collect()
}

#[test]
fn a_base_image_is_cached_only_if_no_layer_was_transferred() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN echo a > /a\n");
    let first = lab.build(&context).output().ok();
    let events = of_base(&first);
    let built = Built::of(&first);
    assert_eq!(
        built.step("FROM").outcome,
        Some(Outcome::Fetched),
        "{first}"
    );
    assert_eq!(built.counts, (0, 1));
    // What is transferred is told before it is over.
    assert_eq!(events[..2], ["planned", "started"]);
    assert!(events.contains(&"progress".to_owned()), "{events:?}");
    assert_eq!(events.last().unwrap(), "finished");
    // It is here now, whether its step runs again or not.
    for options in [&[][..], &["--no-cache"]] {
        let again = lab.build(&context).args(options).built();
        let outcome = again.step("FROM").outcome;
        assert_eq!(outcome, Some(Outcome::Cached), "{options:?}");
    }
    let plain = |lab: &Lab| {
        let build = lab.kiln(["build", "--progress=plain"]).last(context.path());
        build.output().ok().err
    };
    let other = Lab::new();
    let shown = plain(&other);
    assert!(!shown.contains("CACHED"), "{shown}");
    assert!(shown.contains("(0 cached, 1 fetched, 1 ran)"), "{shown}");
    let shown = plain(&other);
    assert!(shown.contains("#1 CACHED"), "{shown}");
}

#[test]
fn a_base_image_that_no_step_needs_is_not_fetched_and_a_pull_says_that_it_is() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nLABEL a=b\n");
    let built = lab.build(&context).built();
    assert_eq!(built.step("FROM").outcome, Some(Outcome::Cached));
    let pull = || {
        let pull = lab.kiln(["pull", "--progress=rawjson", "busybox"]);
        pull.output().ok()
    };
    // Only what the image consists of was known.
    let first = pull().says(&["Downloaded newer image"]);
    assert_eq!(
        Built::of(&first).step("pull").outcome,
        Some(Outcome::Fetched)
    );
    let second = pull().says(&["Image is up to date"]);
    assert_eq!(
        Built::of(&second).step("pull").outcome,
        Some(Outcome::Cached)
    );
}

#[test]
fn a_base_image_that_only_an_output_needs_is_fetched_as_part_of_the_build() {
    for (spec, outcome) in [
        ("type=local,dest=DEST", Outcome::Fetched),
        ("type=tar,dest=DEST", Outcome::Fetched),
        ("type=oci,dest=DEST", Outcome::Fetched),
        ("type=docker,dest=DEST", Outcome::Fetched),
        ("type=registry,name=REGISTRY/x", Outcome::Fetched),
        ("type=image", Outcome::Cached),
        ("type=cacheonly", Outcome::Cached),
    ] {
        let (lab, registry) = (Lab::new(), empty_registry());
        let context = lab.dockerfile("FROM busybox\nLABEL a=b\n");
        let spec = spec.replace("DEST", lab.path("out").to_str().unwrap());
        let spec = spec.replace("REGISTRY", &registry.address());
        let build = || lab.build(&context).args(["-o", &spec]).output().ok();
        let first = build();
        let built = Built::of(&first);
        assert_eq!(built.step("FROM").outcome, Some(outcome), "{spec}: {first}");
        let events = of_base(&first);
        assert_eq!(events.last().unwrap(), "finished", "{spec}: {events:?}");
        let fetched = outcome == Outcome::Fetched;
        let moved = events.contains(&"progress".to_owned());
        assert_eq!(moved, fetched, "{spec}: {events:?}");
        let said = format!("\"fetched\":{}", usize::from(fetched));
        first.says(&[&said]);
        let again = Built::of(&build());
        assert_eq!(again.step("FROM").outcome, Some(Outcome::Cached), "{spec}");
    }
}

/// One layer is made of those that another host has made, and of what the base lets through.
#[test]
fn a_base_image_that_only_squashing_needs_is_fetched_as_part_of_the_build() {
    let (lab, other) = (Lab::new(), Lab::new());
    let shared = lab.path("cache");
    let shared = shared.to_str().unwrap();
    let text = "FROM busybox\nRUN echo a > /a\nRUN echo b > /b\n";
    let to = format!("type=local,dest={shared},mode=max");
    let first = lab.build(&lab.dockerfile(text));
    first.args(["--cache-to", &to]).built();
    let from = format!("type=local,src={shared}");
    let context = other.dockerfile(text);
    let build = || other.build(&context).args(["--cache-from", &from]);
    assert_eq!(build().built().step("FROM").outcome, Some(Outcome::Cached));
    let squashed = build().arg("--squash").tag("x").output().ok();
    let built = Built::of(&squashed);
    assert_eq!(built.step("FROM").outcome, Some(Outcome::Fetched));
    assert!(built.ran().is_empty(), "{squashed}");
    assert_eq!(of_base(&squashed).last().unwrap(), "finished");
    assert_eq!(other.run("x", &["cat", "/a", "/b"]), "a\nb");
}

#[test]
fn a_layer_that_only_an_output_needs_and_nobody_has_fails_the_build() {
    let lab = Lab::new();
    let mut image = image_in_registry("base", &[&Tarball::new().dir("etc", 0o755).bytes()]);
    let manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    image.blobs.remove(layer).unwrap();
    let kind = manifest["mediaType"].as_str().unwrap();
    let server = image.serve(image.manifest.clone(), kind);
    let from = format!("FROM {}/base\nLABEL a=b\n", server.host());
    let context = lab.dockerfile(&from);
    let build = |options: &[&str]| {
        let build = lab.kiln(["build", "--progress=plain"]).args(options);
        build.last(context.path())
    };
    build(&[]).output().ok();
    let out = lab.path("out");
    let failed = build(&["-o", out.to_str().unwrap()]).fails();
    failed.says(&["not built (", "failed to build: ", "layer "]);
    assert!(!out.exists());
}

#[test]
fn a_base_image_whose_layers_came_another_way_is_cached() {
    let lab = Lab::new();
    let archive = lab.path("busybox.tar");
    let from = Lab::new();
    from.kiln(["pull", "busybox"]).output().ok();
    let save = from.kiln(["save", "--format", "oci", "-o"]);
    save.arg(&archive).arg("busybox").output().ok();
    lab.kiln(["load", "-i"]).arg(&archive).output().ok();
    let context = lab.dockerfile("FROM busybox\nRUN echo a > /a\n");
    let built = lab.build(&context).built();
    assert_eq!(built.step("FROM").outcome, Some(Outcome::Cached));
    built.assert_ran(&["RUN echo a"]);
}
