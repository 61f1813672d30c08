//! A repository with manifests of any kind, as a registry or an OCI layout has it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::http::{Answer, Server};
use crate::registry::StoredImage;
use crate::tools::sha256;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Manifests and blobs by digest.
#[derive(Clone, Debug, Default)]
pub struct Repository {
    manifests: HashMap<String, (String, Vec<u8>)>,
    tags: HashMap<String, String>,
    blobs: HashMap<String, Vec<u8>>,
}

impl Repository {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a manifest or index; gives its descriptor.
    pub fn manifest(&mut self, media_type: &str, content: &[u8]) -> Value {
        let digest = sha256(content);
        let held = (media_type.to_owned(), content.to_vec());
        self.manifests.insert(digest.clone(), held);
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Adds an image.
    pub fn image(&mut self, image: &StoredImage) -> Value {
        self.blobs.extend(image.blobs.clone());
        let manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
        self.manifest(manifest["mediaType"].as_str().unwrap(), &image.manifest)
    }

    /// Adds an artifact of one blob, whose config has this type.
    pub fn artifact(&mut self, config_type: &str, layer_type: &str) -> Value {
        let mut blob = |kind: &str, bytes: &[u8]| {
            let digest = sha256(bytes);
            self.blobs.insert(digest.clone(), bytes.to_vec());
            json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
        };
        let (config, layer) = (blob(config_type, b"{}"), blob(layer_type, b"artifact"));
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config,
            "layers": [layer]});
        self.manifest(kind, manifest.to_string().as_bytes())
    }

    /// Adds an index of these entries.
    pub fn index(&mut self, entries: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        self.manifest(INDEX, index.to_string().as_bytes())
    }

    /// Gives what a descriptor names a tag.
    pub fn tag(&mut self, tag: &str, descriptor: &Value) {
        let digest = descriptor["digest"].as_str().unwrap().to_owned();
        self.tags.insert(tag.to_owned(), digest);
    }

    /// A registry that has it under this name.
    #[must_use]
    pub fn serve(&self, name: &str) -> Server {
        let (repository, base) = (self.clone(), format!("/v2/{name}/"));
        Server::start(Arc::new(move |request| {
            let path = request.path.strip_prefix(&base);
            let answer = match path.and_then(|path| path.split_once('/')) {
                None if request.path == "/v2/" => Some(Answer::ok("{}")),
                Some(("manifests", of)) => {
                    let digest = repository.tags.get(of).map_or(of, String::as_str);
                    let found = repository.manifests.get(digest);
                    found.map(|(kind, content)| {
                        let answer = Answer::ok(content.clone()).header("Content-Type", kind);
                        answer.header("Docker-Content-Digest", digest)
                    })
                }
                Some(("blobs", digest)) => repository.blobs.get(digest).map(|b| Answer::ok(&**b)),
                _ => None,
            };
            answer.unwrap_or(Answer {
                status: 404,
                headers: Vec::new(),
                body: Vec::new(),
            })
        }))
    }

    /// Writes it as an OCI layout whose index has these entries.
    pub fn write_layout(&self, dir: &Path, entries: &[Value]) {
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let manifests = self.manifests.iter().map(|(d, (_, content))| (d, content));
        for (digest, content) in self.blobs.iter().chain(manifests) {
            let name = digest.strip_prefix("sha256:").unwrap();
            std::fs::write(blobs.join(name), content).unwrap();
        }
        let layout = json!({"imageLayoutVersion": "1.0.0"});
        std::fs::write(dir.join("oci-layout"), layout.to_string()).unwrap();
        let index = json!({"schemaVersion": 2, "manifests": entries});
        std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    }
}

/// A descriptor with a platform.
#[must_use]
pub fn on_platform(descriptor: &Value, os: &str, architecture: &str) -> Value {
    let mut descriptor = descriptor.clone();
    descriptor["platform"] = json!({"os": os, "architecture": architecture});
    descriptor
}

/// A descriptor with an annotation.
#[must_use]
pub fn annotated(descriptor: &Value, key: &str, value: &str) -> Value {
    let mut descriptor = descriptor.clone();
    descriptor["annotations"][key] = json!(value);
    descriptor
}
