//! What is said of base images and other sources: whether they were transferred.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::{Built, Lab, Outcome, Output};
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
