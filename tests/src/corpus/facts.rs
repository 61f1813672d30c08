//! What is known of a built image: its config, history and files.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::tree::Tree;

/// An image out of an archive that `docker save` or `kiln save` wrote.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Everything in the image config but times and digests, one line each.
    pub config: Vec<String>,
    /// History, one line each.
    pub history: Vec<String>,
    /// Its files.
    pub tree: Tree,
    /// Diff ids.
    pub layers: Vec<String>,
}

impl Facts {
    /// Reads an archive.
    #[must_use]
    pub fn of_archive(archive: &Path) -> Self {
        let file =
            std::fs::File::open(archive).unwrap_or_else(|e| panic!("{}: {e}", archive.display()));
        let mut members: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut links = Vec::new();
        for entry in tar::Archive::new(file).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            if let Some(target) = entry.link_name().unwrap() {
                links.push((path, target.to_string_lossy().into_owned()));
                continue;
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            members.insert(path, bytes);
        }
        // `ID/layer.tar -> ../OTHER/layer.tar`, as archives say that a layer comes twice.
        for (path, target) in links {
            if let Some(bytes) = members.get(target.trim_start_matches("../")).cloned() {
                members.insert(path, bytes);
            }
        }
        let json = |name: &str| -> Value { serde_json::from_slice(&members[name]).unwrap() };
        let manifest = json("manifest.json");
        let config = json(manifest[0]["Config"].as_str().unwrap());
        let mut tree = Tree::default();
        let mut inodes = 0;
        for layer in manifest[0]["Layers"].as_array().unwrap() {
            let bytes = &members[layer.as_str().unwrap()];
            if bytes.starts_with(&[0x1f, 0x8b]) {
                tree.apply(flate2::read::GzDecoder::new(bytes.as_slice()), &mut inodes);
            } else {
                tree.apply(bytes.as_slice(), &mut inodes);
            }
        }
        let layers = config["rootfs"]["diff_ids"].as_array();
        Self {
            history: history(&config),
            config: config_lines(&config),
            tree,
            layers: layers
                .into_iter()
                .flatten()
                .map(|l| l.as_str().unwrap_or_default().to_owned())
                .collect(),
        }
    }
}

fn history(config: &Value) -> Vec<String> {
    let entries = config["history"].as_array().into_iter().flatten();
    entries
        .map(|entry| {
            let mut line = String::new();
            for key in ["created_by", "comment", "author"] {
                if let Some(text) = entry[key].as_str() {
                    line.push_str(&format!("{key}={text:?} "));
                }
            }
            if entry["empty_layer"].as_bool() == Some(true) {
                line.push_str("empty_layer");
            }
            line.trim_end().to_owned()
        })
        .collect()
}

/// `path = value` lines. What is absent, null, empty or false is all the same to a reader.
fn config_lines(config: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    flatten("", config, &mut lines);
    lines.retain(|line| {
        let name = line.split([' ', '.', '[']).next().unwrap_or_default();
        !matches!(name, "created" | "rootfs" | "history")
    });
    lines.sort();
    lines
}

fn flatten(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Null | Value::Bool(false) => {}
        Value::String(text) if text.is_empty() => {}
        Value::Object(map) if map.is_empty() => {
            // A key with an empty object is how ports and volumes are listed.
            if !path.is_empty() && (path.contains("ExposedPorts.") || path.contains("Volumes.")) {
                lines.push(path.to_owned());
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                // An empty value of a label is a value.
                if let (true, Some("")) = (path.contains("Labels."), value.as_str()) {
                    lines.push(format!("{path} = \"\""));
                }
                flatten(&path, value, lines);
            }
        }
        Value::Array(list) => {
            if list.is_empty() && (path.ends_with("Cmd") || path.ends_with("Entrypoint")) {
                lines.push(format!("{path} = []"));
            }
            // Order counts: one line for all.
            if !list.is_empty() {
                lines.push(format!("{path} = {value}"));
            }
        }
        other => lines.push(format!("{path} = {other}")),
    }
}
