//! The file of `--metadata-file`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::path::Path;

use kiln_tests::servers::empty_registry;
use kiln_tests::{Context, Kiln, Lab, tool};
use serde_json::{Value, json};

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The raw manifest of an archive, as another tool finds it.
fn manifest(archive: &Path) -> String {
    let source = format!("oci-archive:{}", archive.display());
    tool("skopeo", ["inspect", "--raw", &source])
}

fn small(lab: &Lab) -> Context {
    let files = [("Dockerfile", "FROM busybox\nCOPY f /\n"), ("f", "1")];
    lab.context("context", &files)
}

fn to(kiln: Kiln, form: &str, path: &Path) -> Kiln {
    kiln.args(["-o", &format!("type={form},dest={}", path.display())])
}

/// Builds, and reads what `--metadata-file` has.
fn metadata(lab: &Lab, kiln: Kiln) -> Value {
    let path = lab.path("metadata.json");
    kiln.arg("--metadata-file").arg(&path).built();
    json_of(&path)
}

#[test]
fn metadata_names_the_manifest_of_an_archive() {
    let lab = Lab::new();
    let context = small(&lab);
    for form in ["oci", "docker"] {
        let out = lab.path(form);
        let build = to(lab.build(&context), form, &out)
            .tag("web")
            .args(["--annotation", "manifest-descriptor:org.example.e=f"]);
        let facts = metadata(&lab, build);
        let raw = manifest(&out);
        let source = format!("oci-archive:{}", out.display());
        let digest = tool(
            "skopeo",
            ["inspect", "--format", "{{.Digest}}", source.as_str()],
        );
        let digest = digest.trim();
        assert_eq!(facts["containerimage.digest"], digest, "{form}");
        assert_eq!(
            facts["containerimage.descriptor"],
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest, "size": raw.len(),
                "platform": {"architecture": "amd64", "os": "linux"},
                "annotations": {"org.example.e": "f"},
            })
        );
        let raw: Value = serde_json::from_str(&raw).unwrap();
        assert_eq!(
            facts["containerimage.config.digest"],
            raw["config"]["digest"]
        );
        assert_eq!(facts["image.name"], "docker.io/library/web:latest");
    }
}

#[test]
fn metadata_of_a_layout_and_of_several_outputs() {
    let lab = Lab::new();
    let context = small(&lab);
    let layout = lab.path("layout");
    let spec = format!("type=oci,tar=false,name=b:2,dest={}", layout.display());
    let build = to(lab.build(&context), "docker", &lab.path("first.tar"));
    let build = build.args(["-o", &spec, "-o", "type=image"]).tag("a:1");
    let facts = metadata(&lab, build);
    let entry = &json_of(&layout.join("index.json"))["manifests"][0];
    assert_eq!(facts["containerimage.digest"], entry["digest"]);
    assert_eq!(
        facts["image.name"],
        "docker.io/library/a:1,docker.io/library/b:2"
    );
}

#[test]
fn metadata_names_the_manifest_that_is_pushed() {
    let (lab, registry) = (Lab::new(), empty_registry());
    let context = small(&lab);
    let name = format!("{}/team/web:1", registry.address());
    for options in [
        "type=registry",
        "type=image,push=true,compression=zstd,force-compression=true",
    ] {
        let build = lab.build(&context).tag(&name).args(["-o", options]);
        let facts = metadata(&lab, build);
        let place = format!("docker://{name}");
        let raw = tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &place]);
        let format = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}"];
        let digest = tool("skopeo", format.into_iter().chain([&*place]));
        let raw: (usize, Value) = (raw.len(), serde_json::from_str(&raw).unwrap());
        assert_eq!(
            facts["containerimage.descriptor"],
            json!({
                "mediaType": raw.1["mediaType"], "digest": digest.trim(), "size": raw.0,
                "platform": {"architecture": "amd64", "os": "linux"},
            }),
            "{options}"
        );
        assert_eq!(facts["containerimage.digest"], digest.trim());
        assert_eq!(
            facts["containerimage.config.digest"],
            raw.1["config"]["digest"]
        );
        assert_eq!(facts["image.name"], name);
        // An image without an attestation has no provenance to tell of.
        assert_eq!(facts["buildx.build.provenance"], Value::Null);
    }
}

#[test]
fn metadata_says_nothing_of_a_manifest_that_is_not_written() {
    let lab = Lab::new();
    let context = small(&lab);
    let stored = metadata(&lab, lab.build(&context).tag("web"));
    assert_eq!(
        stored["containerimage.config.digest"],
        lab.inspect("web")["Id"]
    );
    let files = metadata(&lab, to(lab.build(&context), "local", &lab.path("out")));
    for facts in [&stored, &files] {
        assert_eq!(facts["containerimage.digest"], Value::Null);
        assert_eq!(facts["containerimage.descriptor"], Value::Null);
    }
    assert_eq!(stored["image.name"], "docker.io/library/web:latest");
    assert_eq!(files["image.name"], Value::Null);
}
