//! The files of the Container Device Interface: what is in them, and where they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_sys::RootDir;
use serde::Deserialize;

use super::CdiError;

/// The largest file; those of GPUs have some dozens of kilobytes.
const MAX_FILE: u64 = 4 << 20;

/// A file: devices of one kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    pub(super) cdi_version: String,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) devices: Vec<DeviceSpec>,
    /// Made for every device of the file.
    #[serde(default)]
    pub(super) container_edits: EditsSpec,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DeviceSpec {
    pub(super) name: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) container_edits: EditsSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EditsSpec {
    #[serde(default)]
    pub(super) env: Vec<String>,
    #[serde(default)]
    pub(super) device_nodes: Vec<Node>,
    #[serde(default)]
    pub(super) mounts: Vec<BindMount>,
    #[serde(default, rename = "additionalGids")]
    pub(super) additional_gids: Vec<u32>,
    // What kiln cannot do is known all the same, to be refused.
    #[serde(default)]
    pub(super) hooks: Vec<serde::de::IgnoredAny>,
    #[serde(default)]
    pub(super) net_devices: Vec<serde::de::IgnoredAny>,
    pub(super) intel_rdt: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Node {
    pub(super) path: PathBuf,
    pub(super) host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) file_mode: Option<u32>,
    pub(super) permissions: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BindMount {
    pub(super) host_path: PathBuf,
    pub(super) container_path: PathBuf,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) options: Vec<String>,
}

/// The files of a directory in the order of their names, each as it could be read. A directory that
/// is not there has none.
pub(super) fn read_dir(dir: &Path) -> Vec<(PathBuf, Result<Spec, CdiError>)> {
    let Ok(root) = RootDir::open_trusted(dir) else {
        return Vec::new();
    };
    let Ok(mut entries) = root.read_dir(Path::new("")) else {
        return Vec::new();
    };
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let names = entries.into_iter().map(|entry| PathBuf::from(entry.name));
    let specs = names.filter(|name| {
        let extension = name.extension().and_then(|e| e.to_str());
        matches!(extension, Some("json" | "yaml" | "yml"))
    });
    specs
        .map(|name| {
            let path = dir.join(&name);
            let spec = read(&root, &name).map_err(|why| CdiError::File {
                path: path.clone(),
                why,
            });
            (path, spec)
        })
        .collect()
}

fn read(root: &RootDir, name: &Path) -> Result<Spec, String> {
    let bytes = root.read(name, MAX_FILE).map_err(|e| e.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    // JSON is YAML too.
    let spec: Spec = serde_saphyr::from_str(&text).map_err(|e| e.to_string())?;
    let major = spec.cdi_version.split('.').next();
    if !matches!(major, Some("0" | "1")) {
        return Err(format!("version {} is not known", spec.cdi_version));
    }
    Ok(spec)
}
