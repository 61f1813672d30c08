//! Devices by the Container Device Interface (CDI, version 1.1): vendors say in files what a
//! container needs to use their devices, and users name a device as `vendor.com/class=name`.
//!
//! Supported are variables, device nodes, mounts and groups. A device that needs more (hooks, network
//! devices, Intel RDT) is refused.

mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kiln_sys::{FileKind, RootDir};
use spec::Spec;

use crate::describe::DeviceAccess;
use crate::launch::{Mount, MountFlags, MountSource};

/// Where files are, unless the config says otherwise; later ones take precedence.
pub const DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Devices of one class, as BuildKit names the annotation.
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// `true`: steps may use the device without being allowed to.
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";

/// Why a device cannot be given.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CdiError {
    /// A file is not what it should be.
    #[error("`{path}`: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Two files with the same precedence describe it.
    #[error("device `{name}` is described twice, in `{first}` and `{second}`")]
    Twice {
        /// The device.
        name: String,
        /// A file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// It needs what kiln cannot do.
    #[error("device `{name}` needs {what}, which kiln does not support")]
    Unsupported {
        /// The device.
        name: String,
        /// What it needs.
        what: String,
    },
    /// A node of it is not there.
    #[error("device `{name}`: `{path}`: {why}")]
    Node {
        /// The device.
        name: String,
        /// The node on this machine.
        path: PathBuf,
        /// Why it cannot be used.
        why: String,
    },
}

/// A device that was found.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its whole name.
    pub name: String,
    /// Its file lets every step use it.
    pub auto_allow: bool,
    annotations: BTreeMap<String, String>,
    /// What every device of the file needs.
    file: (PathBuf, spec::EditsSpec),
    own: spec::EditsSpec,
}

/// What a sandbox needs for its devices.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Variables as `NAME=value`.
    pub env: Vec<String>,
    /// Mounts, those of device nodes too.
    pub mounts: Vec<Mount>,
    /// What may be done with the nodes.
    pub devices: Vec<DeviceAccess>,
    /// Further groups of the process.
    pub groups: Vec<u32>,
}

/// The devices that the files of this machine describe.
#[derive(Debug)]
pub struct Registry {
    /// By name; an error where two files disagree.
    devices: BTreeMap<String, Result<Device, CdiError>>,
    /// Files that could not be read.
    broken: Vec<CdiError>,
}

impl Registry {
    /// Reads the files of `dirs`; later directories take precedence. Files that cannot be read are
    /// left out, see [`Registry::broken`].
    pub fn read(dirs: &[PathBuf]) -> Self {
        let mut devices = BTreeMap::new();
        let mut broken = Vec::new();
        for dir in dirs {
            let mut here: BTreeMap<String, (PathBuf, Result<Device, CdiError>)> = BTreeMap::new();
            for (path, spec) in spec::read_dir(dir) {
                match spec {
                    Ok(spec) => add(&mut here, &path, spec),
                    Err(error) => broken.push(error),
                }
            }
            devices.extend(here.into_iter().map(|(name, (_, found))| (name, found)));
        }
        Self { devices, broken }
    }

    /// Why some files could not be read.
    pub fn broken(&self) -> &[CdiError] {
        &self.broken
    }

    /// The devices that `name` stands for: one of that name; the first of the kind where only the
    /// kind is given; all of it for `*`; or those of a class. None is an empty list.
    ///
    /// # Errors
    /// The files contradict each other.
    pub fn find(&self, name: &str) -> Result<Vec<&Device>, CdiError> {
        let (kind, wanted) = name.split_once('=').unwrap_or((name, ""));
        let of_kind = || {
            let prefix = format!("{kind}=");
            let all = self.devices.iter();
            all.filter(move |(name, _)| name.starts_with(&prefix))
                .map(|(_, device)| device.as_ref().map_err(CdiError::clone))
        };
        match wanted {
            "" => of_kind().take(1).collect(),
            "*" => of_kind().collect(),
            _ => match self.devices.get(name) {
                Some(device) => Ok(vec![device.as_ref().map_err(CdiError::clone)?]),
                None => Ok(of_kind()
                    .flatten()
                    .filter(|d| d.annotations.get(CLASS).is_some_and(|c| c == wanted))
                    .collect()),
            },
        }
    }
}

fn add(to: &mut BTreeMap<String, (PathBuf, Result<Device, CdiError>)>, path: &Path, spec: Spec) {
    for device in spec.devices {
        let name = format!("{}={}", spec.kind, device.name);
        let mut annotations = spec.annotations.clone();
        annotations.extend(device.annotations);
        let auto_allow = annotations.get(AUTO_ALLOW).is_some_and(|v| v == "true");
        let found = match to.get(&name) {
            None => Ok(Device {
                name: name.clone(),
                auto_allow,
                annotations,
                file: (path.to_path_buf(), spec.container_edits.clone()),
                own: device.container_edits,
            }),
            Some((first, _)) => Err(CdiError::Twice {
                name: name.clone(),
                first: first.clone(),
                second: path.to_path_buf(),
            }),
        };
        to.insert(name, (path.to_path_buf(), found));
    }
}

/// What a sandbox needs for these devices.
///
/// # Errors
/// A device needs what kiln cannot do, or a node is not on this machine.
pub fn edits(devices: &[&Device]) -> Result<Edits, CdiError> {
    let mut out = Edits::default();
    let mut files = BTreeSet::new();
    for device in devices {
        let (file, of_file) = &device.file;
        // However many of its devices are used.
        let of_file = files.insert(file).then_some(of_file);
        for edits in of_file.into_iter().chain([&device.own]) {
            let unsupported = |what: &str| CdiError::Unsupported {
                name: device.name.clone(),
                what: what.to_owned(),
            };
            if !edits.hooks.is_empty() {
                return Err(unsupported("hooks"));
            }
            if !edits.net_devices.is_empty() {
                return Err(unsupported("network devices"));
            }
            if edits.intel_rdt.is_some() {
                return Err(unsupported("Intel RDT"));
            }
            out.env.extend(edits.env.iter().cloned());
            out.groups.extend(&edits.additional_gids);
            for node in &edits.device_nodes {
                let (mount, access) = self::node(&device.name, node)?;
                out.mounts.push(mount);
                out.devices.push(access);
            }
            for mount in &edits.mounts {
                let mount = bind(mount).map_err(|what| unsupported(&what))?;
                out.mounts.push(mount);
            }
        }
    }
    Ok(out)
}

fn node(device: &str, node: &spec::Node) -> Result<(Mount, DeviceAccess), CdiError> {
    let host = node.host_path.as_ref().unwrap_or(&node.path);
    let failed = |why: String| CdiError::Node {
        name: device.to_owned(),
        path: host.clone(),
        why,
    };
    let block = match node.kind.as_deref() {
        Some("b") => Some(true),
        Some("c" | "u") => Some(false),
        None | Some("") => None,
        Some(other) => {
            return Err(failed(format!(
                "devices of type `{other}` are not supported"
            )));
        }
    };
    let (block, number, mode) = match (block, node.major, node.minor) {
        (Some(block), Some(major), Some(minor)) => (block, (major, minor), 0o666),
        _ => {
            let parent = host.parent().unwrap_or(Path::new("/"));
            let name = Path::new(host.file_name().unwrap_or_default());
            let stat = RootDir::open_trusted(parent).and_then(|dir| dir.lstat(name));
            let stat = stat.map_err(|e| failed(e.source.to_string()))?;
            let block = match stat.kind {
                FileKind::BlockDevice => true,
                FileKind::CharDevice => false,
                _ => return Err(failed("it is not a device".into())),
            };
            (block, stat.rdev, stat.mode & 0o777)
        }
    };
    let mount = Mount {
        target: node.path.clone(),
        source: MountSource::Device {
            block,
            number,
            mode: node.file_mode.unwrap_or(mode) & 0o777,
            uid: node.uid.unwrap_or(0),
            gid: node.gid.unwrap_or(0),
        },
        read_only: false,
        flags: MountFlags::default(),
    };
    let permissions = node.permissions.clone().filter(|p| !p.is_empty());
    let access = DeviceAccess {
        block,
        number,
        permissions: permissions.unwrap_or_else(|| "rwm".into()),
    };
    Ok((mount, access))
}

fn bind(mount: &spec::BindMount) -> Result<Mount, String> {
    if let Some(kind) = mount.kind.as_deref()
        && !matches!(kind, "" | "bind" | "none")
    {
        return Err(format!("a mount of type `{kind}`"));
    }
    let (mut read_only, mut recursive) = (false, false);
    let mut flags = MountFlags::default();
    for option in &mount.options {
        match option.as_str() {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "rbind" => recursive = true,
            "nosuid" => flags.nosuid = true,
            "nodev" => flags.nodev = true,
            "noexec" => flags.noexec = true,
            // Nothing is ever passed on between a sandbox and the host.
            "bind" | "private" | "rprivate" | "suid" | "dev" | "exec" => {}
            other => return Err(format!("the mount option `{other}`")),
        }
    }
    Ok(Mount {
        target: mount.container_path.clone(),
        source: MountSource::Host {
            path: mount.host_path.clone(),
            below: PathBuf::new(),
            recursive,
        },
        read_only,
        flags,
    })
}
