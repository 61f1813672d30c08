use std::collections::HashMap;

use super::*;
use crate::digest::Digest;

/// Manifests by digest, and the descriptor of each.
#[derive(Default)]
struct Store(HashMap<Digest, Manifest>);

impl Store {
    fn put(&mut self, kind: &str, json: &str) -> Descriptor {
        let descriptor = Descriptor::of(kind, json.as_bytes());
        let manifest = Manifest::parse(json.as_bytes(), Some(kind)).unwrap();
        self.0.insert(descriptor.digest.clone(), manifest);
        descriptor
    }

    fn image(&mut self, name: &str) -> Descriptor {
        self.with(name, media_type::OCI_CONFIG, media_type::OCI_LAYER_GZIP)
    }

    /// A manifest with this type of config and of its one layer.
    fn with(&mut self, name: &str, config: &str, layer: &str) -> Descriptor {
        let blob = |kind: &str| serde_json::to_string(&Descriptor::of(kind, b"x")).unwrap();
        let json = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}],"annotations":{{"n":"{name}"}}}}"#,
            blob(config),
            blob(layer)
        );
        self.put(media_type::OCI_MANIFEST, &json)
    }

    fn index(&mut self, entries: &[Descriptor]) -> Descriptor {
        let json = ImageIndex::oci(entries.to_vec()).to_json().unwrap();
        self.put(media_type::OCI_INDEX, std::str::from_utf8(&json).unwrap())
    }

    /// The name of the image that is found, and how many indexes lie around it.
    fn search(&self, first: &Descriptor) -> Result<(String, usize), SearchError> {
        let wanted = "linux/arm64".parse().unwrap();
        let mut search = Search::new(self.0[&first.digest].clone(), &wanted)?;
        loop {
            match search.step()? {
                Next::Read(entry) => search.give(self.0[&entry.digest].clone())?,
                Next::Found(found) => {
                    let name = found.manifest.value.annotations["n"].clone();
                    return Ok((name, found.through.len()));
                }
            }
        }
    }
}

fn on(mut entry: Descriptor, platform: &str) -> Descriptor {
    let (platform, features) = platform.split_once('+').unwrap_or((platform, ""));
    let mut platform: Platform = match platform {
        "unknown" => Platform::new("unknown", "unknown", None),
        text => text.parse().unwrap(),
    };
    platform.os_features = features.split_terminator(',').map(Into::into).collect();
    entry.platform = Some(platform);
    entry
}

#[test]
fn images_are_found_however_they_are_wrapped() {
    const SIGNATURE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
    let mut s = Store::default();
    let (arm64, amd64, arm) = (s.image("arm64"), s.image("amd64"), s.image("arm"));
    let helm = s.with("helm", "application/vnd.cncf.helm.config.v1+json", "tgz");
    let signature = s.with("signature", media_type::OCI_CONFIG, SIGNATURE);
    let old = s.with("old", "application/octet-stream", media_type::DOCKER_LAYER);
    let flat = s.index(&[
        on(amd64.clone(), "linux/amd64"),
        on(arm64.clone(), "linux/arm64"),
    ]);
    let only_amd64 = s.index(&[on(amd64.clone(), "linux/amd64")]);
    let only_arm = s.index(&[on(arm.clone(), "linux/arm/v7")]);
    let lone = s.index(std::slice::from_ref(&arm64));
    let attested = s.index(&[
        on(amd64.clone(), "unknown").with_annotation("vnd.docker.reference.type", "x"),
        arm64.clone(),
    ]);
    let artifacts_beside = s.index(&[
        on(helm.clone(), "linux/arm64"),
        on(signature.clone(), "linux/arm64"),
        Descriptor::of("application/spdx+json", b"sbom"),
        on(arm64.clone(), "linux/arm64"),
    ]);
    let twice = s.index(&[only_amd64.clone(), flat.clone()]);
    let with_platform = s.index(&[
        on(only_amd64.clone(), "linux/amd64"),
        on(lone.clone(), "linux/arm64"),
    ]);
    let better_inside = s.index(&[on(arm.clone(), "linux/arm/v7"), flat.clone()]);
    let first_of_equals = s.index(&[flat.clone(), on(old.clone(), "linux/arm64")]);
    let featured = s.index(&[
        on(amd64.clone(), "linux/arm64+erofs"),
        on(arm64.clone(), "linux/arm64"),
    ]);
    for (what, first, name, depth) in [
        ("an image", &arm64, "arm64", 0),
        ("a config of an old client", &old, "old", 0),
        ("an index", &flat, "arm64", 1),
        ("one that names no platform", &lone, "arm64", 1),
        ("an attestation beside", &attested, "arm64", 1),
        ("artifacts beside", &artifacts_beside, "arm64", 1),
        ("two indexes inside", &twice, "arm64", 2),
        ("indexes for platforms", &with_platform, "arm64", 2),
        ("an older variant alone", &only_arm, "arm", 1),
        ("the better one is inside", &better_inside, "arm64", 2),
        ("the first of equals", &first_of_equals, "arm64", 2),
        ("a feature that is not there", &featured, "arm64", 1),
    ] {
        assert_eq!(s.search(first), Ok((name.into(), depth)), "{what}");
    }

    let none = s.index(&[]);
    let none_deep = s.index(&[none.clone(), none.clone()]);
    let unnamed = s.index(&[amd64.clone(), arm.clone()]);
    let only_featured = s.index(&[on(arm64.clone(), "linux/arm64+erofs")]);
    let only_artifacts = s.index(&[on(helm.clone(), "linux/arm64"), signature.clone()]);
    for (first, text) in [
        (
            &only_amd64,
            "has no image for linux/arm64; it has images for linux/amd64",
        ),
        (&unnamed, "has no image for linux/arm64"),
        (
            &only_featured,
            "has no image for linux/arm64; it has images for linux/arm64 with erofs",
        ),
        (
            &helm,
            "is an artifact of type `application/vnd.cncf.helm.config.v1+json`, not an image",
        ),
        (
            &signature,
            "is an artifact of type `application/vnd.dev.cosign.simplesigning.v1+json`, not an image",
        ),
        (
            &only_artifacts,
            "is an artifact of type `application/vnd.cncf.helm.config.v1+json`, not an image",
        ),
        (&none, "is an index without images"),
        (&none_deep, "is an index without images"),
    ] {
        assert_eq!(s.search(first).unwrap_err().to_string(), text);
    }
}

#[test]
fn depth_and_number_are_bounded() {
    let mut s = Store::default();
    let mut at = s.image("deep");
    for depth in 1..=MAX_DEPTH + 1 {
        at = s.index(&[at]);
        let result = s.search(&at);
        if depth <= MAX_DEPTH {
            assert_eq!(result, Ok(("deep".into(), depth)));
        } else {
            assert_eq!(result, Err(SearchError::TooDeep));
        }
    }
    // One that holds another many times.
    let empty = s.index(&[]);
    let wide = s.index(&vec![empty; MAX_READ + 1]);
    assert_eq!(s.search(&wide), Err(SearchError::TooMany));
}
