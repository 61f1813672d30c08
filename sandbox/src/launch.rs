//! What the child that enters a sandbox is told, and what it reports.

use std::collections::HashMap;
use std::path::PathBuf;

use kiln_sys::cgroup::CgroupLimits;
use kiln_sys::devices::DeviceRule;
use kiln_sys::idmap::IdMap;
use oci_spec::runtime::LinuxDeviceType;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Everything the child needs: the OCI runtime spec of the sandbox, and what that type cannot
/// say about layered roots and mounts below them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    /// The description after the OCI runtime specification.
    pub spec: oci_spec::runtime::Spec,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Mounts beside those of the specification, in order.
    pub mounts: Vec<Mount>,
    /// `USER` as text, resolved inside the root file system.
    pub user: String,
    /// Seccomp filter as (code, jt, jf, k); none means unfiltered.
    pub filter: Option<Vec<(u16, u8, u8, u32)>>,
    /// Abstract Unix sockets of other processes are out of reach, where the kernel can do that.
    pub sockets_apart: bool,
    /// Make the working directory if it is missing.
    pub create_cwd: bool,
    /// No device of any mount but `/dev` can be used.
    pub nodev: bool,
}

impl Launch {
    /// The limits on memory and processors.
    pub(crate) fn cgroup_limits(&self) -> CgroupLimits {
        let Some(linux) = self.spec.linux() else {
            return CgroupLimits::default();
        };
        let resources = linux.resources().as_ref();
        let memory = resources.and_then(|r| r.memory().as_ref());
        let cpu = resources.and_then(|r| r.cpu().as_ref());
        let parent = linux.cgroups_path().as_ref();
        CgroupLimits {
            memory: memory
                .and_then(oci_spec::runtime::LinuxMemory::limit)
                .and_then(|n| u64::try_from(n).ok()),
            memory_swap: memory.and_then(oci_spec::runtime::LinuxMemory::swap),
            cpu_shares: cpu.and_then(oci_spec::runtime::LinuxCpu::shares),
            cpu_period: cpu.and_then(oci_spec::runtime::LinuxCpu::period),
            cpu_quota: cpu.and_then(oci_spec::runtime::LinuxCpu::quota),
            cpuset_cpus: cpu.and_then(|cpu| cpu.cpus().clone()),
            cpuset_mems: cpu.and_then(|cpu| cpu.mems().clone()),
            parent: parent.map(|path| path.to_string_lossy().into_owned()),
        }
    }

    /// The devices that may be read or written; none is all of them.
    pub(crate) fn device_rules(&self) -> Option<Vec<DeviceRule>> {
        let resources = self.spec.linux().as_ref()?.resources().as_ref()?;
        let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
        let rules = resources.devices().as_ref()?.iter();
        // The first rule forbids everything, the others allow: another list is never described.
        let allowed = rules.filter(|rule| rule.allow());
        let rules = allowed.map(|rule| {
            let access = rule.access().as_deref().unwrap_or_default();
            DeviceRule {
                block: rule.typ() == Some(LinuxDeviceType::B),
                major: number(rule.major()),
                minor: number(rule.minor()),
                read: access.contains('r'),
                write: access.contains('w'),
            }
        });
        // Making nodes is always allowed.
        Some(rules.filter(|rule| rule.read || rule.write).collect())
    }
}

/// A root file system made of layers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rootfs {
    /// Layer directories, the topmost first; never empty.
    pub lowers: Vec<PathBuf>,
    /// Upper and work directory; none makes the root read-only.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// A directory of the store to hang the root on; it stays empty outside the sandbox.
    pub mount_point: PathBuf,
    /// Another one, to hang on what is only passed on by a part.
    pub staging: PathBuf,
}

/// One mount of a step or container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Where, resolved inside the root.
    pub target: PathBuf,
    /// What.
    pub source: MountSource,
    /// Whether it is read-only.
    pub read_only: bool,
    /// What is not possible on it.
    pub flags: MountFlags,
}

/// What is not possible on a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountFlags {
    /// To become another user by executing a file.
    pub nosuid: bool,
    /// To use devices.
    pub nodev: bool,
    /// To execute files.
    pub noexec: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MountSource {
    /// A trusted directory or file of the host, and a path below it that is resolved without
    /// leaving it.
    Host {
        /// Trusted path.
        path: PathBuf,
        /// Untrusted path below it; empty for all of it.
        below: PathBuf,
        /// Whether mounts inside come along.
        recursive: bool,
    },
    /// A stack of layers, and a path in it.
    Layers {
        /// Layer directories, the topmost first.
        lowers: Vec<PathBuf>,
        /// Upper and work directory, for writes that are thrown away.
        upper: Option<(PathBuf, PathBuf)>,
        /// Untrusted path below it.
        below: PathBuf,
        /// User and group whose files in the lowest layer are shown as root's, where the file
        /// system can do that.
        owner: Option<(u32, u32)>,
    },
    /// An empty file system in memory, whose root has the mode of the directory that it covers,
    /// or is open to everybody where there is none.
    Tmpfs {
        /// Size limit in bytes; none is the kernel's default of half the memory.
        size: Option<u64>,
    },
    /// The node of a device, made for the sandbox.
    Device {
        /// A block device and not a character device.
        block: bool,
        /// Major and minor number.
        number: (u32, u32),
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A file that exists in memory only.
    Content {
        /// Its bytes.
        bytes: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// Maps that show files of an owner as root's; none where the kernel cannot.
pub(crate) type IdMaps = HashMap<(u32, u32), Option<IdMap>>;

/// What the child tells before it executes the command, or instead of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// A mount point that was missing was made, at this path below the root.
    Stub(PathBuf),
    /// Set-up failed.
    Failed(String),
    /// The command is not there.
    NotFound(String),
    /// The command cannot be executed.
    NotExecutable(String, String),
    /// The user cannot be resolved: spec, reason.
    User(String, String),
}

impl Report {
    /// What was reported in place of running the command, if that was so.
    pub fn failure_in(reports: &[Self]) -> Option<Error> {
        reports.iter().find_map(|report| match report {
            Self::Stub(_) => None,
            Self::Failed(text) => Some(Error::Setup(text.clone())),
            Self::NotFound(name) => Some(Error::CommandNotFound(name.clone())),
            Self::NotExecutable(name, why) => {
                Some(Error::CommandNotExecutable(name.clone(), why.clone()))
            }
            Self::User(spec, why) => Some(Error::User {
                spec: spec.clone(),
                why: why.clone(),
            }),
        })
    }
}
