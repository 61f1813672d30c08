//! The seccomp filter: which system calls a sandbox may make.
//!
//! Allowed is every call that the table knows, but those named here; a number outside the table
//! answers `ENOSYS`, so that programs fall back as on an older kernel. The numbers are searched
//! by halving: loading and running the filter stay cheap.

use std::sync::OnceLock;

use kiln_sys::caps::CapSet;

const NET_RAW: u32 = 13;
const SYS_ADMIN: u32 = 21;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_KILL: u32 = 0x8000_0000;

/// `CLONE_NEW*` bits that `clone` must not carry.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;

// Families and types of sockets.
const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const AF_PACKET: u32 = 17;
const AF_ALG: u32 = 38;
const AF_VSOCK: u32 = 40;
const SOCK_RAW: u32 = 3;
const SOCK_PACKET: u32 = 10;
/// The bits of a type that are no flags.
const SOCK_TYPE_MASK: u32 = 0xf;

const X32_BIT: u32 = 0x4000_0000;

/// Calls that need a capability which a sandbox lacks, or that reach kernel parts which
/// containers have no use for.
const DENIED: &[&str] = &[
    "_sysctl",
    "acct",
    "add_key",
    "afs_syscall",
    "bdflush",
    "bpf",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_settime",
    "clock_settime64",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_kernel_syms",
    "get_mempolicy",
    "getpmsg",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mbind",
    "migrate_pages",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "open_tree_attr",
    "perf_event_open",
    "pivot_root",
    "putpmsg",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "security",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "sysfs",
    "syslog",
    "tuxcall",
    "umount",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "ustat",
    "vhangup",
    "vm86",
    "vm86old",
    "vserver",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Errno(u32),
    /// `clone` without new namespaces.
    Clone,
    /// `socket` outside families that reach the host's machines, or the kernel's cryptography
    /// (CVE-2026-31431).
    Socket,
    /// `socket` of a sandbox in a network that others use: families that every program has, and none of
    /// their raw types.
    SharedSocket,
    /// `personality` with a harmless value.
    Personality,
}

fn action(name: &str, caps: CapSet) -> Action {
    let admin = caps.contains(SYS_ADMIN);
    match name {
        "clone" if !admin => Action::Clone,
        // Its flags are behind a pointer that a filter cannot read; the C library then uses clone.
        "clone3" if !admin => Action::Errno(ENOSYS),
        "socket" if caps.contains(NET_RAW) => Action::Socket,
        "socket" => Action::SharedSocket,
        "personality" => Action::Personality,
        _ if DENIED.contains(&name) && !admin => Action::Errno(EPERM),
        _ => Action::Allow,
    }
}

type Op = (u16, u8, u8, u32);
const LD_ABS: u16 = 0x20;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const AND: u16 = 0x54;
const JA: u16 = 0x05;
const RET: u16 = 0x06;

fn ret(value: u32) -> Op {
    (RET, 0, 0, value)
}

fn leaf(action: Action) -> Vec<Op> {
    let deny = ret(RET_ERRNO | EPERM);
    match action {
        Action::Allow => vec![ret(RET_ALLOW)],
        Action::Errno(errno) => vec![ret(RET_ERRNO | errno)],
        Action::Clone => {
            vec![
                (LD_ABS, 0, 0, 16),
                (JSET, 0, 1, CLONE_NAMESPACES),
                deny,
                ret(RET_ALLOW),
            ]
        }
        Action::Socket => vec![
            (LD_ABS, 0, 0, 16),
            (JEQ, 1, 0, AF_VSOCK),
            (JEQ, 0, 1, AF_ALG),
            deny,
            ret(RET_ALLOW),
        ],
        // Old programs of 32 bits call `socketcall`, whose arguments a filter cannot read: what
        // needs CAP_NET_RAW is out of their reach all the same.
        Action::SharedSocket => vec![
            (LD_ABS, 0, 0, 16),
            (JEQ, 9, 0, AF_UNIX),
            (JEQ, 8, 0, AF_NETLINK),
            (JEQ, 3, 0, AF_INET),
            (JEQ, 2, 0, AF_INET6),
            (JEQ, 6, 0, AF_PACKET),
            ret(RET_ERRNO | EAFNOSUPPORT),
            (LD_ABS, 0, 0, 24),
            (AND, 0, 0, SOCK_TYPE_MASK),
            (JEQ, 2, 0, SOCK_RAW),
            (JEQ, 1, 0, SOCK_PACKET),
            ret(RET_ALLOW),
            // As the kernel has it: then `ping` tries the sockets that need no capability.
            deny,
        ],
        Action::Personality => vec![
            (LD_ABS, 0, 0, 16),
            (JEQ, 5, 0, 0),           // PER_LINUX
            (JEQ, 4, 0, 0x0008),      // PER_LINUX32
            (JEQ, 3, 0, 0x0002_0000), // UNAME26
            (JEQ, 2, 0, 0x0002_0008),
            (JEQ, 1, 0, 0xffff_ffff), // query
            deny,
            ret(RET_ALLOW),
        ],
    }
}

/// Code for `ranges` (start, action), sorted by start, the first from 0.
fn tree(ranges: &[(u32, Action)]) -> Vec<Op> {
    match ranges {
        [] => vec![ret(RET_ERRNO | ENOSYS)],
        [(_, action)] => leaf(*action),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let (below, above) = (tree(low), tree(high));
            let over = u32::try_from(below.len()).unwrap_or(u32::MAX);
            let mut code = vec![(JGE, 0, 1, high[0].0), (JA, 0, 0, over)];
            code.extend(below);
            code.extend(above);
            code
        }
    }
}

fn table(known: impl Iterator<Item = (u32, &'static str)>, caps: CapSet) -> Vec<Op> {
    let mut calls: Vec<(u32, Action)> = known.map(|(nr, name)| (nr, action(name, caps))).collect();
    calls.sort_by_key(|(nr, _)| *nr);
    let mut ranges: Vec<(u32, Action)> = vec![(0, Action::Errno(ENOSYS))];
    let mut next = 0;
    let mut put = |start: u32, action: Action| match ranges.last_mut() {
        Some(last) if last.0 == start => last.1 = action,
        Some(last) if last.1 == action => {}
        _ => ranges.push((start, action)),
    };
    for (nr, action) in calls {
        if nr > next {
            put(next, Action::Errno(ENOSYS));
        }
        put(nr, action);
        next = nr + 1;
    }
    put(next, Action::Errno(ENOSYS));
    tree(&ranges)
}

macro_rules! known {
    ($arch:ident) => {
        syscalls::$arch::Sysno::iter()
            .map(|s| (u32::try_from(s.id()).unwrap_or(u32::MAX), s.name()))
    };
}

fn build(caps: CapSet) -> Vec<Op> {
    #[cfg(target_arch = "x86_64")]
    let arches = [
        (
            0xc000_003e,
            [
                vec![(JGE, 0, 1, X32_BIT), ret(RET_ERRNO | ENOSYS)],
                table(known!(x86_64), caps),
            ]
            .concat(),
        ),
        (0x4000_0003, table(known!(x86), caps)),
    ];
    #[cfg(target_arch = "aarch64")]
    let arches = [
        (0xc000_00b7, table(known!(aarch64), caps)),
        (0x4000_0028, table(known!(arm), caps)),
    ];
    let mut code = vec![];
    for (arch, calls) in arches {
        let over = u32::try_from(calls.len() + 1).unwrap_or(u32::MAX);
        code.extend([
            (LD_ABS, 0, 0, 4),
            (JEQ, 1, 0, arch),
            (JA, 0, 0, over),
            (LD_ABS, 0, 0, 0),
        ]);
        code.extend(calls);
    }
    code.push(ret(RET_KILL));
    code
}

/// The filter for a sandbox with these capabilities.
pub(super) fn program(caps: CapSet) -> Vec<Op> {
    static CACHE: OnceLock<(CapSet, Vec<Op>)> = OnceLock::new();
    let cached = CACHE.get_or_init(|| (caps, build(caps)));
    if cached.0 == caps {
        cached.1.clone()
    } else {
        build(caps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would.
    fn verdict(code: &[Op], arch: u32, nr: u32, args: [u32; 2]) -> u32 {
        let (mut at, mut acc) = (0, 0);
        loop {
            let (op, jt, jf, k) = code[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { jt } else { jf });
            match op {
                LD_ABS => {
                    acc = match k {
                        0 => nr,
                        4 => arch,
                        16 => args[0],
                        24 => args[1],
                        _ => panic!("load {k}"),
                    }
                }
                AND => acc &= k,
                JEQ => at += jump(acc == k),
                JGE => at += jump(acc >= k),
                JSET => at += jump(acc & k != 0),
                JA => at += k as usize,
                RET => return k,
                _ => panic!("op {op:#x}"),
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn known_calls_get_their_verdict() {
        let code = build(CapSet::parse(["CHOWN"]).unwrap());
        let (native, i386) = (0xc000_003e, 0x4000_0003);
        let deny = RET_ERRNO | EPERM;
        let cases = [
            ("read", native, 0, 0, RET_ALLOW),
            ("openat2", native, 437, 0, RET_ALLOW),
            ("mount", native, 165, 0, deny),
            ("unshare", native, 272, 0, deny),
            ("bpf", native, 321, 0, deny),
            ("io_uring_setup", native, 425, 0, deny),
            ("clone plain", native, 56, 17, RET_ALLOW),
            ("clone user namespace", native, 56, 0x1000_0000, deny),
            ("clone3", native, 435, 0, RET_ERRNO | ENOSYS),
            ("personality query", native, 135, 0xffff_ffff, RET_ALLOW),
            ("personality no-randomize", native, 135, 0x0040_0000, deny),
            ("unknown", native, 5000, 0, RET_ERRNO | ENOSYS),
            ("x32 read", native, X32_BIT, 0, RET_ERRNO | ENOSYS),
            ("i386 mount", i386, 21, 0, deny),
            ("i386 read", i386, 3, 0, RET_ALLOW),
            ("foreign architecture", 0x1234, 0, 0, RET_KILL),
        ];
        for (what, arch, nr, arg, want) in cases {
            assert_eq!(verdict(&code, arch, nr, [arg, 0]), want, "{what}");
        }
        assert!(
            code.len() < 4096,
            "the kernel takes at most 4096 instructions"
        );
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn sockets_of_a_shared_network_see_nothing_of_others() {
        const SOCK_DGRAM: u32 = 2;
        const SOCK_CLOEXEC: u32 = 0o2_000_000;
        let (raw, shared) = (
            build(CapSet::parse(["NET_RAW"]).unwrap()),
            build(CapSet::default()),
        );
        let (allow, deny) = (RET_ALLOW, RET_ERRNO | EPERM);
        let unknown = RET_ERRNO | EAFNOSUPPORT;
        for (family, kind, own, others) in [
            (AF_UNIX, SOCK_RAW, allow, allow),
            (AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, allow, allow),
            (AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, allow, allow),
            (AF_INET6, SOCK_DGRAM, allow, allow),
            (AF_INET, SOCK_RAW, allow, deny),
            (AF_INET, SOCK_RAW | SOCK_CLOEXEC, allow, deny),
            (AF_INET, SOCK_PACKET, allow, deny),
            (AF_INET6, SOCK_RAW, allow, deny),
            (AF_PACKET, SOCK_DGRAM, allow, deny),
            // The bus of a vehicle, Bluetooth.
            (29, SOCK_RAW, allow, unknown),
            (31, SOCK_RAW, allow, unknown),
            (AF_ALG, 5, deny, unknown),
            (AF_VSOCK, 1, deny, unknown),
        ] {
            // By either number of `socket`: of 64 and of 32 bits.
            for (arch, nr) in [(0xc000_003e, 41), (0x4000_0003, 359)] {
                let found = [&raw, &shared].map(|code| verdict(code, arch, nr, [family, kind]));
                assert_eq!(found, [own, others], "{family} {kind}");
            }
        }
    }

    #[test]
    fn every_denied_name_exists_somewhere() {
        let all: Vec<&str> = known!(x86_64)
            .chain(known!(x86))
            .chain(known!(aarch64))
            .map(|(_, n)| n)
            .collect();
        let missing: Vec<_> = DENIED.iter().filter(|n| !all.contains(n)).collect();
        let unknown_to_the_table = ["open_tree_attr", "sysctl"];
        assert!(
            missing.iter().all(|n| unknown_to_the_table.contains(n)),
            "{missing:?}"
        );
    }
}
