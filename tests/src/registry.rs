//! A registry that serves one image, truthfully or not.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::http::{Answer, Server};
use crate::tools::sha256;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image as a registry has it.
#[derive(Clone, Debug)]
pub struct StoredImage {
    name: String,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Everything else by digest.
    pub blobs: HashMap<String, Vec<u8>>,
}

/// An image of these layers (tar archives), whatever is in them.
#[must_use]
pub fn image_in_registry(name: &str, layers: &[&[u8]]) -> StoredImage {
    let mut blobs = HashMap::new();
    let mut add = |bytes: Vec<u8>, kind: &str| {
        let digest = sha256(&bytes);
        let descriptor = json!({"mediaType": kind, "digest": digest, "size": bytes.len()});
        blobs.insert(digest, bytes);
        descriptor
    };
    let diff_ids: Vec<String> = layers.iter().map(|l| sha256(l)).collect();
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
            gz.write_all(layer).unwrap();
            add(
                gz.finish().unwrap(),
                "application/vnd.oci.image.layer.v1.tar+gzip",
            )
        })
        .collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = add(
        config.to_string().into_bytes(),
        "application/vnd.oci.image.config.v1+json",
    );
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    StoredImage {
        name: name.to_owned(),
        manifest: manifest.to_string().into_bytes(),
        blobs,
    }
}

/// A registry with such an image, under the tag `latest`.
#[must_use]
pub fn registry_of(name: &str, layers: &[&[u8]]) -> Server {
    let image = image_in_registry(name, layers);
    image.serve(image.manifest.clone(), MANIFEST)
}

impl StoredImage {
    /// Serves `manifest` under this media type, and the blobs.
    #[must_use]
    pub fn serve(&self, manifest: Vec<u8>, media_type: &str) -> Server {
        self.start(manifest, media_type, None)
    }

    /// Serves the image to who brings these credentials (`user:password`).
    #[must_use]
    pub fn serve_to(&self, credentials: &str) -> Server {
        self.start(
            self.manifest.clone(),
            MANIFEST,
            Some(credentials.to_owned()),
        )
    }

    fn start(&self, manifest: Vec<u8>, media_type: &str, credentials: Option<String>) -> Server {
        let (image, media_type) = (self.clone(), media_type.to_owned());
        let wanted = credentials.map(|c| format!("Basic {}", crate::tools::base64(c.as_bytes())));
        Server::start(Arc::new(move |request| {
            if wanted.is_some() && request.headers.get("authorization") != wanted.as_ref() {
                let answer = Answer {
                    status: 401,
                    headers: Vec::new(),
                    body: Vec::new(),
                };
                return answer.header("WWW-Authenticate", "Basic realm=\"test\"");
            }
            let base = format!("/v2/{}/", image.name);
            let answer = match request
                .path
                .strip_prefix(&base)
                .and_then(|p| p.split_once('/'))
            {
                None if request.path == "/v2/" => Some(Answer::ok("{}")),
                Some(("manifests", _)) => {
                    let digest = sha256(&manifest);
                    let answer = Answer::ok(manifest.clone()).header("Content-Type", &media_type);
                    Some(answer.header("Docker-Content-Digest", &digest))
                }
                Some(("blobs", digest)) => image.blobs.get(digest).map(|b| Answer::ok(b.clone())),
                _ => None,
            };
            answer.unwrap_or(Answer {
                status: 404,
                headers: Vec::new(),
                body: Vec::new(),
            })
        }))
    }
}
