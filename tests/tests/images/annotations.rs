//! Annotations of images, in archives and in the store.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::path::Path;

use kiln_tests::{Context, Lab, tool};
use serde_json::{Value, json};

/// Annotations of the manifest in an archive, as another tool finds it.
fn annotations(archive: &Path) -> Value {
    let source = format!("oci-archive:{}", archive.display());
    let raw = tool("skopeo", ["inspect", "--raw", &source]);
    let manifest: Value = serde_json::from_str(&raw).unwrap();
    manifest["annotations"].clone()
}

fn small(lab: &Lab) -> Context {
    let files = [("Dockerfile", "FROM busybox\nCOPY f /\n"), ("f", "1")];
    lab.context("context", &files)
}

#[test]
fn annotations_reach_the_manifest_and_its_entry() {
    let lab = Lab::new();
    let context = small(&lab);
    let out = lab.path("o.tar");
    lab.build(&context)
        .args(["-o", &format!("type=oci,dest={}", out.display())])
        .args(["--annotation", "org.example.a=b"])
        .args(["--annotation", "manifest[linux/amd64]:org.example.c=d"])
        .args(["--annotation", "manifest-descriptor:org.example.e=f"])
        .built();
    let wanted = json!({"org.example.a": "b", "org.example.c": "d"});
    assert_eq!(annotations(&out), wanted);
    let index = tool("tar", ["xOf", out.to_str().unwrap(), "index.json"]);
    let index: Value = serde_json::from_str(&index).unwrap();
    assert_eq!(
        index["manifests"][0]["annotations"]["org.example.e"], "f",
        "{index}"
    );
}

#[test]
fn annotations_stay_with_an_image_of_the_store() {
    let lab = Lab::new();
    let context = small(&lab);
    let wanted = json!({"org.example.a": "b"});
    let annotated = || {
        lab.build(&context)
            .args(["--annotation", "org.example.a=b"])
    };
    annotated().tag("web").built();
    lab.build(&context).tag("bare").built();
    lab.kiln(["tag", "web", "web:2"]).output().ok();
    // Annotations are no part of the config: both are the same image by its id.
    assert_eq!(lab.inspect("web")["Id"], lab.inspect("bare")["Id"]);
    for (name, wanted) in [("web", &wanted), ("web:2", &wanted), ("bare", &json!({}))] {
        assert_eq!(&lab.inspect(name)["Annotations"], wanted, "{name}");
    }
    for form in ["oci", "docker"] {
        let out = lab.path(form);
        lab.kiln(["save", "--format", form, "-o"])
            .arg(&out)
            .arg("web:2")
            .output()
            .ok();
        assert_eq!(annotations(&out), wanted, "{form}");
        // And in another store, which has nothing but the archive.
        let other = Lab::new();
        other.kiln(["load", "-i"]).arg(&out).output().ok();
        assert_eq!(other.inspect("web:2")["Annotations"], wanted, "{form}");
        assert_eq!(other.run("web:2", &["cat", "/f"]), "1");
    }
    assert_eq!(lab.run("web", &["cat", "/f"]), "1");
    // A step on top of it has it as its base, and does not take the annotations along.
    let above = lab.context("above", &[("Dockerfile", "FROM web\nRUN cat /f\n")]);
    lab.build(&above).tag("above").built();
    assert_eq!(lab.inspect("above")["Annotations"], json!({}));
    // Without a name it is annotated as well, also if it was there without.
    lab.kiln(["rmi", "web", "web:2", "bare"]).output().ok();
    let id = lab
        .build(&context)
        .arg("-q")
        .output()
        .ok()
        .stdout()
        .to_owned();
    assert_eq!(lab.inspect(&id)["Annotations"], json!({}));
    annotated().built();
    assert_eq!(lab.inspect(&id)["Annotations"], wanted);
}

#[test]
fn annotations_without_a_place_are_refused() {
    let lab = Lab::new();
    let context = small(&lab);
    let out = format!("type=local,dest={}", lab.path("out").display());
    for (annotation, output, why) in [
        ("index:a=b", "type=image", "no index to annotate"),
        ("index-descriptor:a=b", "type=image", "no index to annotate"),
        (
            "manifest-descriptor:a=b",
            "type=image",
            "index of an archive",
        ),
        ("a=b", out.as_str(), "no manifest to annotate"),
        ("a", "type=image", "write NAME=VALUE"),
    ] {
        let failed = lab
            .build(&context)
            .args(["--annotation", annotation, "-o", output])
            .fails()
            .says(&["--annotation", why]);
        assert_eq!(failed.code(), Some(2), "{annotation}");
    }
    // A build without a name changes nothing about the image of a name, and says so.
    lab.build(&context).tag("web").built();
    lab.build(&context)
        .args(["--annotation", "a=b"])
        .output()
        .ok()
        .says(&["give a name with -t"]);
    assert_eq!(lab.inspect("web")["Annotations"], json!({}));
}

#[test]
fn an_annotated_image_is_saved_without_asking_a_registry() {
    let lab = Lab::new();
    let server = kiln_tests::Server::files(Vec::new());
    let name = format!("{}/app:1", server.host());
    let context = lab.dockerfile("FROM busybox\nRUN echo x > /x\n");
    let build = lab.kiln(["build", "--annotation", "a=b", "-t", &name]);
    build.last(context.path()).output().ok();
    let save = lab.kiln(["save", "-o"]).arg(lab.path("out.tar"));
    save.arg(&name).output().ok();
    assert!(server.seen().is_empty(), "{:?}", server.seen());
}
