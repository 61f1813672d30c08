//! Limits on memory and processor of what is born into a group, in version 2 and version 1.

use std::path::{Path, PathBuf};

use super::{Above, Group, Hierarchies};
use crate::error::{Context as _, FsError, Result};

/// What a group may use; what is none is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; -1 is no limit on swap. Needs `memory`.
    pub memory_swap: Option<i64>,
    /// Weight against other groups, 2 to 262144; 1024 is usual.
    pub cpu_shares: Option<u64>,
    /// Microseconds of the period that the quota is counted in.
    pub cpu_period: Option<u64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<i64>,
    /// Processors, as `0-3,5`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, as `0,1`.
    pub cpuset_mems: Option<String>,
    /// The group above, as a path from the root of each hierarchy, in place of that of this process.
    pub parent: Option<String>,
}

impl CgroupLimits {
    /// Whether anything at all is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The controllers that this needs.
    fn controllers(&self) -> Vec<&'static str> {
        let memory = self.memory.is_some() || self.memory_swap.is_some();
        let cpu =
            self.cpu_shares.is_some() || self.cpu_period.is_some() || self.cpu_quota.is_some();
        let cpuset = self.cpuset_cpus.is_some() || self.cpuset_mems.is_some();
        [(memory, "memory"), (cpu, "cpu"), (cpuset, "cpuset")]
            .into_iter()
            .filter_map(|(needed, name)| needed.then_some(name))
            .collect()
    }

    /// Files of version 2 with what they are to hold, of one controller.
    fn unified(&self, controller: &str) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        match controller {
            "memory" => {
                let memory = self.memory.unwrap_or(u64::MAX);
                out.extend(self.memory.map(|bytes| ("memory.max", bytes.to_string())));
                out.extend(self.memory_swap.map(|both| {
                    let swap = u64::try_from(both).map(|both| both.saturating_sub(memory));
                    let text = swap.map_or_else(|_| "max".to_owned(), |swap| swap.to_string());
                    ("memory.swap.max", text)
                }));
            }
            "cpu" => {
                out.extend(self.cpu_shares.map(|shares| {
                    // The range of shares onto that of weights, as the OCI runtime
                    // specification's implementations do it.
                    let shares = shares.clamp(2, 262_144);
                    let weight = 1 + (shares - 2) * 9999 / 262_142;
                    ("cpu.weight", weight.to_string())
                }));
                if self.cpu_quota.is_some() || self.cpu_period.is_some() {
                    let quota = self.cpu_quota.filter(|quota| *quota > 0);
                    let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
                    let period = self.cpu_period.unwrap_or(DEFAULT_PERIOD_MICROS);
                    out.push(("cpu.max", format!("{quota} {period}")));
                }
            }
            _ => out.extend(self.cpuset()),
        }
        out
    }

    /// The same for version 1. A limit of both kinds of memory must not be below that of one, so the
    /// order counts.
    fn version_1(&self, controller: &str) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        match controller {
            "memory" => {
                out.extend((self.memory).map(|n| ("memory.limit_in_bytes", n.to_string())));
                let both = self.memory_swap.map(|n| n.to_string());
                out.extend(both.map(|n| ("memory.memsw.limit_in_bytes", n)));
            }
            "cpu" => {
                out.extend(self.cpu_shares.map(|n| ("cpu.shares", n.to_string())));
                out.extend(
                    self.cpu_period
                        .map(|n| ("cpu.cfs_period_us", n.to_string())),
                );
                out.extend(self.cpu_quota.map(|n| ("cpu.cfs_quota_us", n.to_string())));
            }
            _ => out.extend(self.cpuset()),
        }
        out
    }

    fn cpuset(&self) -> Vec<(&'static str, String)> {
        let cpus = self.cpuset_cpus.clone().map(|list| ("cpuset.cpus", list));
        let mems = self.cpuset_mems.clone().map(|list| ("cpuset.mems", list));
        cpus.into_iter().chain(mems).collect()
    }
}

/// Microseconds of a period, where only the quota is given.
const DEFAULT_PERIOD_MICROS: u64 = 100_000;

/// Groups of the version 1 controllers that limits need. Those of version 2 are files of the one group
/// that everything is born into.
#[derive(Debug, Default)]
pub struct Limited {
    groups: Vec<Group>,
    /// The file that counts processes killed for want of memory.
    kills: Option<PathBuf>,
}

impl Hierarchies {
    /// Makes the version 2 group of a process with these limits; none where there is no such hierarchy.
    ///
    /// Version 2 allows limits only below groups without processes of their own (cgroup-v2.rst, "No Internal
    /// Process Constraint"). So a group with limits stands beside that of this process, not in it.
    ///
    /// # Errors
    /// The parent leads upwards, a controller cannot be had there, or the group cannot be made.
    pub fn unified_group(&self, limits: &CgroupLimits, name: &str) -> Result<Option<Group>> {
        let (Some(own), Some(root)) = (&self.unified, &self.unified_root) else {
            return Ok(None);
        };
        let is_v1 = |name: &&str| self.controllers.iter().any(|of| of.name == *name);
        let needed: Vec<&str> = limits
            .controllers()
            .into_iter()
            .filter(|c| !is_v1(c))
            .collect();
        let (parent, above) = match &limits.parent {
            Some(parent) => below(root, parent)?,
            None if needed.is_empty() => (own.clone(), Above::default()),
            None => {
                let beside = own.parent().filter(|dir| dir.starts_with(root));
                (beside.unwrap_or(root).to_path_buf(), Above::default())
            }
        };
        enable(root, &parent, &needed)?;
        Group::create(&parent, name, above, self.list.as_ref()).map(Some)
    }

    /// Puts limits on `group`, and on groups of the version 1 controllers that have to be joined as
    /// well ([`Limited::join`]).
    ///
    /// # Errors
    /// A controller is in neither version, or a value is refused; the error names the file.
    pub fn limit(
        &self,
        limits: &CgroupLimits,
        name: &str,
        group: Option<&Group>,
    ) -> Result<Limited> {
        let mut out = Limited::default();
        for controller in limits.controllers() {
            let v1 = self.controllers.iter().find(|of| of.name == controller);
            if let Some(v1) = v1 {
                let (parent, above) = match &limits.parent {
                    Some(parent) => below(&v1.root, parent)?,
                    None => (v1.own.clone(), Above::default()),
                };
                let path = parent.join(name);
                // Controllers may be mounted together.
                if out.groups.iter().all(|group| group.path() != path) {
                    let group = Group::create(&parent, name, above, self.list.as_ref())?;
                    out.groups.push(group);
                }
                if controller == "cpuset" {
                    inherit_cpuset(&v1.root, &path)?;
                }
                for (file, value) in limits.version_1(controller) {
                    set(&path, file, &value)?;
                }
                if controller == "memory" {
                    limit_swap(limits, &path, "memory.memsw.limit_in_bytes");
                    out.kills = Some(path.join("memory.oom_control"));
                }
                continue;
            }
            let Some(group) = group else {
                return Err(missing(controller));
            };
            for (file, value) in limits.unified(controller) {
                if !group.path().join(file).exists() {
                    return Err(missing(controller));
                }
                set(group.path(), file, &value)?;
            }
            if controller == "memory" {
                limit_swap(limits, group.path(), "memory.swap.max");
                out.kills = Some(group.path().join("memory.events"));
            }
        }
        Ok(out)
    }
}

impl Limited {
    /// The files through which a process joins the groups, by writing `0`.
    pub fn doors(&self) -> Vec<PathBuf> {
        let groups = self.groups.iter();
        groups
            .map(|group| group.path().join("cgroup.procs"))
            .collect()
    }

    /// Makes this process a member of the groups behind `doors`.
    ///
    /// # Errors
    /// A group is gone or full.
    pub fn join(doors: &[PathBuf]) -> Result<()> {
        for door in doors {
            std::fs::write(door, "0").ctx("join cgroup", door)?;
        }
        Ok(())
    }

    /// Whether the kernel killed a process of the group for want of memory.
    pub fn ran_out_of_memory(&self) -> bool {
        let text = self.kills.as_ref().map(|path| read(path));
        let text = text.and_then(Result::ok).unwrap_or_default();
        text.lines().any(|line| {
            let count = line.strip_prefix("oom_kill ");
            count.is_some_and(|n| n.trim() != "0")
        })
    }

    /// The groups, to be removed when they are empty.
    pub fn into_groups(self) -> Vec<Group> {
        self.groups
    }
}

/// Gives a version 1 group, and those above it that are new, the processors and memory nodes of the group
/// above: a new group has none, and nothing can be in it then.
fn inherit_cpuset(root: &Path, group: &Path) -> Result<()> {
    let Some(parent) = group.parent().filter(|_| group != root) else {
        return Ok(());
    };
    inherit_cpuset(root, parent)?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if read(&group.join(file))?.trim().is_empty() {
            write(group, file, read(&parent.join(file))?.trim())?;
        }
    }
    Ok(())
}

fn missing(controller: &str) -> FsError {
    missing_for(controller, "its files are not there")
}

/// As with docker, memory without a word on swap may use as much swap again. Where the kernel does not count
/// swap there is nothing to set.
fn limit_swap(limits: &CgroupLimits, group: &Path, file: &str) {
    if let (Some(memory), None) = (limits.memory, limits.memory_swap) {
        let value = match file {
            "memory.swap.max" => memory,
            _ => memory.saturating_mul(2),
        };
        let _ = std::fs::write(group.join(file), value.to_string());
    }
}

/// Has the groups from `root` down to `at` pass controllers on.
fn enable(root: &Path, at: &Path, controllers: &[&str]) -> Result<()> {
    let mut levels: Vec<&Path> = at
        .ancestors()
        .take_while(|dir| dir.starts_with(root))
        .collect();
    levels.reverse();
    for level in levels {
        let file = level.join("cgroup.subtree_control");
        for controller in controllers {
            if read(&file)?
                .split_whitespace()
                .any(|name| name == *controller)
            {
                continue;
            }
            // The true root has no type, and may do both.
            let is_inner = level.join("cgroup.type").exists();
            if is_inner && !read(&level.join("cgroup.procs"))?.trim().is_empty() {
                let why = format!("the group {} holds processes", level.display());
                return Err(missing_for(controller, &why));
            }
            std::fs::write(&file, format!("+{controller}"))
                .map_err(|e| missing_for(controller, &e.to_string()))?;
        }
    }
    Ok(())
}

fn missing_for(controller: &str, why: &str) -> FsError {
    let why = format!("this host has no {controller} controller that kiln may use: {why}");
    FsError::new(
        "limit",
        controller,
        std::io::Error::new(std::io::ErrorKind::Unsupported, why),
    )
}

/// The directory `path` below the root of a hierarchy, made where it is missing, and what was made, the
/// lowest first.
fn below(root: &Path, path: &str) -> Result<(PathBuf, Above)> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    if parts.iter().any(|part| *part == ".." || *part == ".") {
        let why = std::io::Error::from(std::io::ErrorKind::InvalidInput);
        return Err(FsError::new("use cgroup parent", path, why));
    }
    let (mut at, mut made) = (root.to_path_buf(), Above::default());
    for part in parts {
        at.push(part);
        match std::fs::create_dir(&at) {
            Ok(()) => made.0.insert(0, at.clone()),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).ctx("make cgroup", &at),
        }
    }
    Ok((at, made))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).ctx("read", path)
}

/// Writes a value that somebody asked for; the error says what this machine has where that is the matter.
fn set(group: &Path, file: &str, value: &str) -> Result<()> {
    let failed = match write(group, file, value) {
        Err(error) => error,
        done => return done,
    };
    let all = match file {
        "cpuset.cpus" => std::fs::read_to_string("/sys/devices/system/cpu/online"),
        "cpuset.mems" => std::fs::read_to_string("/sys/devices/system/node/online"),
        _ => return Err(failed),
    };
    let Ok(all) = all else { return Err(failed) };
    let what = if file == "cpuset.cpus" {
        "processors"
    } else {
        "memory nodes"
    };
    let why = format!(
        "`{value}`: this machine has the {what} {} ({})",
        all.trim(),
        failed.source
    );
    Err(FsError::new(
        "set",
        file,
        std::io::Error::new(failed.source.kind(), why),
    ))
}

fn write(group: &Path, file: &str, value: &str) -> Result<()> {
    let path = group.join(file);
    std::fs::write(&path, value).ctx("write", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_each_version() {
        let limits = CgroupLimits {
            memory: Some(1000),
            memory_swap: Some(1500),
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpuset_cpus: Some("0-1".into()),
            ..CgroupLimits::default()
        };
        let text = |list: Vec<(&str, String)>| {
            let all: Vec<String> = list.iter().map(|(f, v)| format!("{f}={v}")).collect();
            all.join(" ")
        };
        let all = limits.controllers();
        assert_eq!(all, ["memory", "cpu", "cpuset"]);
        let cases = [
            (
                "memory",
                "memory.max=1000 memory.swap.max=500",
                "memory.limit_in_bytes=1000 memory.memsw.limit_in_bytes=1500",
            ),
            (
                "cpu",
                "cpu.weight=39 cpu.max=50000 100000",
                "cpu.shares=1024 cpu.cfs_quota_us=50000",
            ),
            ("cpuset", "cpuset.cpus=0-1", "cpuset.cpus=0-1"),
        ];
        for (controller, unified, version_1) in cases {
            assert_eq!(text(limits.unified(controller)), unified);
            assert_eq!(text(limits.version_1(controller)), version_1);
        }
        let endless = CgroupLimits {
            memory_swap: Some(-1),
            cpu_quota: Some(-1),
            ..CgroupLimits::default()
        };
        assert_eq!(text(endless.unified("memory")), "memory.swap.max=max");
        assert_eq!(text(endless.unified("cpu")), "cpu.max=max 100000");
        assert!(CgroupLimits::default().controllers().is_empty());
    }

    #[test]
    fn a_parent_stays_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let made = vec![at("a/b"), at("a")];
        let (deep, above) = below(dir.path(), "/a//b").unwrap();
        assert_eq!((deep, &above.0), (at("a/b"), &made));
        let (high, none) = below(dir.path(), "a").unwrap();
        assert_eq!((high, &none.0), (at("a"), &vec![]));
        drop(above);
        assert!(!at("a").exists(), "what was made goes");
        for bad in ["..", "a/../../b", "./a"] {
            assert!(below(dir.path(), bad).is_err(), "{bad}");
        }
    }
}
