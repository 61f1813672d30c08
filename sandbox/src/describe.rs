//! The one place where a sandbox is described, for build steps and containers alike, so that no
//! way in can forget a restriction.

use std::path::PathBuf;
use std::sync::OnceLock;

use kiln_sys::caps::CapSet;
use kiln_sys::cgroup::CgroupLimits;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxCpuBuilder, LinuxDeviceCgroup,
    LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxMemoryBuilder, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxResources, LinuxResourcesBuilder, MountBuilder, PosixRlimitBuilder,
    PosixRlimitType, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use crate::error::{Error, Result};
use crate::filter;
use crate::launch::{Launch, Mount, Rootfs};

/// Which network a sandbox sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The host's connectivity, and nothing of what others do there: no packets of theirs, and no
    /// abstract sockets.
    #[default]
    Shared,
    /// All of the host's network, as Docker's `--network host`; only for callers that asked for it.
    Host,
    /// Loopback only.
    None,
}

/// How much a sandbox may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Default capabilities, seccomp filter, masked paths.
    #[default]
    Sandbox,
    /// All capabilities and devices, no filter; only for callers that were entitled to it.
    Insecure,
}

/// Limits of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `--ulimit`: name without `RLIMIT_`, soft, hard; `u64::MAX` is unlimited.
    pub ulimits: Vec<(String, u64, u64)>,
    /// Size of /dev/shm in bytes; none is 64 MiB.
    pub shm_size: Option<u64>,
    /// Memory and processors.
    pub cgroup: CgroupLimits,
}

/// Leave to use a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAccess {
    /// A block device and not a character device.
    pub block: bool,
    /// Major and minor number.
    pub number: (u32, u32),
    /// Some of `rwm`: read, write, make.
    pub permissions: String,
}

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Command and arguments.
    pub argv: Vec<String>,
    /// Environment as `NAME=value`.
    pub env: Vec<String>,
    /// Working directory inside the root.
    pub cwd: String,
    /// User as text.
    pub user: String,
    /// Host name.
    pub hostname: String,
    /// Root file system.
    pub rootfs: Rootfs,
    /// Mounts of its own.
    pub mounts: Vec<Mount>,
    /// Network.
    pub network: Network,
    /// Security mode.
    pub security: Security,
    /// Limits.
    pub limits: Limits,
    /// Devices beside the usual ones.
    pub devices: Vec<DeviceAccess>,
    /// Groups of the process beside those of its user.
    pub groups: Vec<u32>,
    /// Whether standard streams are a terminal.
    pub terminal: bool,
}

/// The capabilities of a container, as Docker's default.
const DEFAULT_CAPS: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The capability to see and make any packet: in a network that others use, their traffic too.
const NET_RAW: &str = "NET_RAW";

/// Paths that a sandbox does not see, as Docker's default.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Numbers of the processors that this machine may have, as the kernel lists them.
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// All that a sandbox does not see. How often a processor got too hot, or how much power it takes, tells
/// of what others compute.
fn masked() -> Vec<String> {
    static THROTTLING: OnceLock<Vec<String>> = OnceLock::new();
    let throttling = THROTTLING.get_or_init(|| {
        let possible = std::fs::read_to_string(POSSIBLE_CPUS).unwrap_or_default();
        throttling(&possible)
    });
    words(&MASKED)
        .into_iter()
        .chain(throttling.iter().cloned())
        .collect()
}

/// The directories about the heat of these processors, a list such as `0-3,8`.
fn throttling(possible: &str) -> Vec<String> {
    let ranges = possible.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    });
    ranges
        .flatten()
        .map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"))
        .collect()
}

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The character devices that every sandbox may use, as Docker's default: null, zero, full, random,
/// urandom, tty, ptmx, and all of devpts. Without a number: every one.
const DEVICES: [(i64, Option<i64>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// Limits of open files, soft and hard: some programs close every possible descriptor one by
/// one, and crawl under a limit of a billion.
const NOFILE: (u64, u64) = (1024, 1 << 20);

/// The default limits of open files, as far as this process may give them.
fn open_files() -> (u64, u64) {
    let most = kiln_sys::process::max_open_files();
    (NOFILE.0.min(most), NOFILE.1.min(most))
}

fn bad(e: impl std::fmt::Display) -> Error {
    Error::Spec(e.to_string())
}

fn mount(target: &str, fstype: &str, options: &[String]) -> Result<oci_spec::runtime::Mount> {
    MountBuilder::default()
        .destination(target)
        .typ(fstype)
        .source(fstype)
        .options(options.to_vec())
        .build()
        .map_err(bad)
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// Memory that processes share.
const SHM: &str = "/dev/shm";

fn file_systems(request: &Request) -> Result<Vec<oci_spec::runtime::Mount>> {
    let insecure = request.security == Security::Insecure;
    let guard = ["nosuid", "nodev", "noexec"];
    let system = if insecure {
        words(&guard)
    } else {
        [words(&guard), words(&["ro"])].concat()
    };
    let shm = request.limits.shm_size.unwrap_or(64 << 20);
    let shm = [
        words(&guard),
        vec!["mode=1777".into(), format!("size={shm}")],
    ]
    .concat();
    let mut all = vec![
        mount("/proc", "proc", &words(&guard))?,
        mount(
            "/dev",
            "tmpfs",
            &words(&["nosuid", "mode=755", "size=65536k"]),
        )?,
        mount(
            "/dev/pts",
            "devpts",
            &words(&[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ]),
        )?,
        mount(SHM, "tmpfs", &shm)?,
        mount("/dev/mqueue", "mqueue", &words(&guard))?,
        mount("/sys", "sysfs", &system)?,
        mount("/sys/fs/cgroup", "cgroup2", &system)?,
    ];
    // A mount of the caller's takes the place of the usual one.
    let is_given = request
        .mounts
        .iter()
        .any(|own| own.target.as_os_str() == SHM);
    all.retain(|m| m.destination().as_os_str() != SHM || !is_given);
    Ok(all)
}

fn capabilities(set: CapSet) -> Result<oci_spec::runtime::LinuxCapabilities> {
    let list: std::collections::HashSet<Capability> = CapSet::NAMES
        .iter()
        .zip(0_u32..)
        .filter(|(_, number)| set.contains(*number))
        .filter_map(|(name, _)| name.parse().ok())
        .collect();
    // Nothing is inheritable or ambient: a program that changes user keeps no privilege.
    LinuxCapabilitiesBuilder::default()
        .bounding(list.clone())
        .effective(list.clone())
        .permitted(list)
        .inheritable(std::collections::HashSet::new())
        .ambient(std::collections::HashSet::new())
        .build()
        .map_err(bad)
}

fn rlimits(request: &Request) -> Result<Vec<oci_spec::runtime::PosixRlimit>> {
    let mut list: Vec<(String, u64, u64)> = vec![("nofile".into(), open_files().0, open_files().1)];
    for (name, soft, hard) in &request.limits.ulimits {
        list.retain(|(n, _, _)| n != name);
        list.push((name.clone(), *soft, *hard));
    }
    list.into_iter()
        .map(|(name, soft, hard)| {
            let typ: PosixRlimitType =
                serde_json::from_value(format!("RLIMIT_{}", name.to_uppercase()).into())
                    .map_err(|_| Error::Spec(format!("unknown ulimit `{name}`")))?;
            PosixRlimitBuilder::default()
                .typ(typ)
                .soft(soft)
                .hard(hard)
                .build()
                .map_err(bad)
        })
        .collect()
}

/// What may be done with devices: nothing but make nodes, and use the usual ones and those given.
fn device_rules(given: &[DeviceAccess]) -> Result<Vec<LinuxDeviceCgroup>> {
    let rule = || LinuxDeviceCgroupBuilder::default();
    let mut rules = vec![rule().allow(false).access("rwm").build().map_err(bad)?];
    for typ in [LinuxDeviceType::C, LinuxDeviceType::B] {
        let make = rule().allow(true).typ(typ).access("m").build();
        rules.push(make.map_err(bad)?);
    }
    for (major, minor) in DEVICES {
        let mut rule = rule()
            .allow(true)
            .typ(LinuxDeviceType::C)
            .major(major)
            .access("rwm");
        if let Some(minor) = minor {
            rule = rule.minor(minor);
        }
        rules.push(rule.build().map_err(bad)?);
    }
    for device in given {
        let typ = if device.block {
            LinuxDeviceType::B
        } else {
            LinuxDeviceType::C
        };
        let rule = rule()
            .allow(true)
            .typ(typ)
            .major(i64::from(device.number.0))
            .minor(i64::from(device.number.1))
            .access(device.permissions.clone());
        rules.push(rule.build().map_err(bad)?);
    }
    Ok(rules)
}

/// What of the host's resources may be used; none if there is no limit at all.
fn resources(request: &Request) -> Result<Option<LinuxResources>> {
    let limits = &request.limits.cgroup;
    let insecure = request.security == Security::Insecure;
    if insecure && limits.is_empty() {
        return Ok(None);
    }
    let out = LinuxResourcesBuilder::default();
    let mut memory = LinuxMemoryBuilder::default();
    if let Some(bytes) = limits.memory {
        memory = memory.limit(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    if let Some(bytes) = limits.memory_swap {
        memory = memory.swap(bytes);
    }
    let mut cpu = LinuxCpuBuilder::default();
    if let Some(shares) = limits.cpu_shares {
        cpu = cpu.shares(shares);
    }
    if let Some(period) = limits.cpu_period {
        cpu = cpu.period(period);
    }
    if let Some(quota) = limits.cpu_quota {
        cpu = cpu.quota(quota);
    }
    if let Some(cpus) = &limits.cpuset_cpus {
        cpu = cpu.cpus(cpus.clone());
    }
    if let Some(mems) = &limits.cpuset_mems {
        cpu = cpu.mems(mems.clone());
    }
    let out = out.memory(memory.build().map_err(bad)?);
    let out = out.cpu(cpu.build().map_err(bad)?);
    let mut out = out.build().map_err(bad)?;
    // What is built has a rule against all devices already.
    out.set_devices(match insecure {
        true => None,
        false => Some(device_rules(&request.devices)?),
    });
    Ok(Some(out))
}

/// The set of capabilities that a mode of security gives in a network.
fn capability_set(security: Security, network: Network) -> Result<CapSet> {
    let is_kept = |name: &&str| *name != NET_RAW || network != Network::Shared;
    match security {
        Security::Sandbox => CapSet::parse(DEFAULT_CAPS.into_iter().filter(is_kept)).map_err(bad),
        // No more than this process has itself: a container around it may hold some back.
        Security::Insecure => Ok(kiln_sys::caps::effective()?),
    }
}

/// The complete description of the sandbox that `request` asks for.
///
/// # Errors
/// A value that the runtime specification does not know, such as the name of a limit.
pub fn describe(request: Request) -> Result<Launch> {
    let caps = capability_set(request.security, request.network)?;
    let insecure = request.security == Security::Insecure;
    let process = ProcessBuilder::default()
        .terminal(request.terminal)
        .user(
            UserBuilder::default()
                .uid(0_u32)
                .gid(0_u32)
                .additional_gids(request.groups.clone())
                .build()
                .map_err(bad)?,
        )
        .args(request.argv.clone())
        .env(request.env.clone())
        .cwd(PathBuf::from(&request.cwd))
        .capabilities(capabilities(caps)?)
        .rlimits(rlimits(&request)?)
        // Off as in Docker: images that use sudo or su in a step rely on set-user-id programs.
        .no_new_privileges(false)
        .build()
        .map_err(bad)?;
    let mut kinds = vec![
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
    ];
    if request.network == Network::None {
        kinds.push(LinuxNamespaceType::Network);
    }
    let namespaces = kinds
        .into_iter()
        .map(|kind| {
            LinuxNamespaceBuilder::default()
                .typ(kind)
                .build()
                .map_err(bad)
        })
        .collect::<Result<Vec<_>>>()?;
    let (masked, read_only) = if insecure {
        (vec![], vec![])
    } else {
        (masked(), words(&READ_ONLY))
    };
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .masked_paths(masked)
        .readonly_paths(read_only);
    if let Some(parent) = &request.limits.cgroup.parent {
        linux = linux.cgroups_path(parent);
    }
    let mut linux = linux.build().map_err(bad)?;
    linux.set_resources(resources(&request)?);
    let root = RootBuilder::default()
        .path(request.rootfs.mount_point.clone())
        .readonly(request.rootfs.upper.is_none())
        .build()
        .map_err(bad)?;
    let spec: Spec = SpecBuilder::default()
        .version("1.2.0")
        .hostname(request.hostname.clone())
        .root(root)
        .process(process)
        .mounts(file_systems(&request)?)
        .linux(linux)
        .build()
        .map_err(bad)?;
    Ok(Launch {
        spec,
        filter: (!insecure).then(|| filter::program(caps)),
        sockets_apart: !insecure && request.network == Network::Shared,
        rootfs: request.rootfs,
        mounts: request.mounts,
        user: request.user,
        create_cwd: true,
        nodev: false,
    })
}

/// Takes devices away from a sandbox where the kernel cannot watch over their use: the nodes of
/// images and volumes are dead, and none can be made.
///
/// # Errors
/// None that is known; building a part of the description may fail.
pub(crate) fn without_devices(launch: &mut Launch) -> Result<()> {
    launch.nodev = true;
    let Some(process) = launch.spec.process_mut() else {
        return Ok(());
    };
    let had = process
        .capabilities()
        .as_ref()
        .and_then(|c| c.bounding().as_ref());
    let names = had
        .into_iter()
        .flatten()
        .filter(|c| **c != Capability::Mknod);
    let names: Vec<String> = names.map(ToString::to_string).collect();
    let left = CapSet::parse(names.iter().map(String::as_str)).map_err(bad)?;
    process.set_capabilities(Some(capabilities(left)?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(network: Network, security: Security) -> Request {
        Request {
            argv: vec!["true".into()],
            env: Vec::new(),
            cwd: "/".into(),
            user: String::new(),
            hostname: "h".into(),
            rootfs: Rootfs::default(),
            mounts: Vec::new(),
            network,
            security,
            limits: Limits::default(),
            devices: Vec::new(),
            groups: Vec::new(),
            terminal: false,
        }
    }

    fn has_raw(launch: &Launch) -> bool {
        let process = launch.spec.process().as_ref().unwrap();
        let caps = process.capabilities().as_ref().unwrap();
        let sets = [caps.bounding(), caps.permitted(), caps.effective()];
        let have = sets.map(|s| s.as_ref().is_some_and(|s| s.contains(&Capability::NetRaw)));
        assert!(have == [true; 3] || have == [false; 3], "{have:?}");
        have[0]
    }

    /// Whether raw sockets are possible, and abstract ones kept apart.
    fn check_network(network: Network, security: Security, (raw, apart): (bool, bool)) {
        let mut launch = describe(request(network, security)).unwrap();
        let found = (has_raw(&launch), launch.sockets_apart);
        assert_eq!(found, (raw, apart), "{network:?} {security:?}");
        without_devices(&mut launch).unwrap();
        assert_eq!(has_raw(&launch), raw, "{network:?} {security:?}");
    }

    #[test]
    fn a_network_that_others_use_is_guarded() {
        for (network, found) in [
            (Network::Shared, (false, true)),
            (Network::Host, (true, false)),
            (Network::None, (true, false)),
        ] {
            check_network(network, Security::Sandbox, found);
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn who_may_do_all_has_raw_sockets_in_any_network() {
        check_network(Network::Shared, Security::Insecure, (true, false));
    }

    #[test]
    fn devices_are_all_there_for_who_may_do_all() {
        for memory in [None, Some(1 << 30)] {
            for (security, watched) in [(Security::Sandbox, true), (Security::Insecure, false)] {
                let mut request = request(Network::Shared, security);
                request.limits.cgroup.memory = memory;
                let rules = describe(request).unwrap().device_rules();
                assert_eq!(rules.is_some(), watched, "{security:?} {memory:?}");
            }
        }
    }

    #[test]
    fn heat_and_power_of_the_machine_are_masked() {
        let paths = throttling("0-2,5\n");
        let of = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
        assert_eq!(paths, [0, 1, 2, 5].map(of));
        assert!(throttling("").is_empty());
        let launch = describe(request(Network::Shared, Security::Sandbox)).unwrap();
        let masked = launch.spec.linux().as_ref().unwrap().masked_paths();
        let masked = masked.as_ref().unwrap();
        for path in ["/sys/devices/virtual/powercap", &of(0)] {
            assert!(masked.iter().any(|m| m == path), "{path}");
        }
    }
}
