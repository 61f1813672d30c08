//! Capabilities of the calling process.

use rustix::thread::{
    self, CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use crate::error::{Context as _, Result};

/// A set of capabilities by their numbers in `capability.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(pub u64);

impl CapSet {
    /// Names in `capability.h` order, without `CAP_`.
    pub const NAMES: [&'static str; 41] = [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ];

    /// The set of these names, with or without `CAP_`, in any case; unknown names are returned.
    pub fn parse<'a>(
        names: impl IntoIterator<Item = &'a str>,
    ) -> std::result::Result<Self, String> {
        let mut bits = 0;
        for name in names {
            let upper = name.to_ascii_uppercase();
            let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
            match Self::NAMES.iter().position(|n| *n == short) {
                Some(at) => bits |= 1 << at,
                None => return Err(name.to_owned()),
            }
        }
        Ok(Self(bits))
    }

    /// Every capability that the running kernel knows.
    pub fn all() -> Self {
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
            .ok()
            .and_then(|s| s.trim().parse::<u32>().ok())
            .unwrap_or(40);
        Self(if last >= 63 {
            u64::MAX
        } else {
            (1 << (last + 1)) - 1
        })
    }

    /// Whether the capability with this number is in the set.
    pub fn contains(self, number: u32) -> bool {
        number < 64 && self.0 & (1 << number) != 0
    }
}

/// The effective capabilities of this process.
pub fn effective() -> Result<CapSet> {
    Ok(CapSet(
        capabilities(None)
            .ctx("read capabilities of", "process")?
            .effective
            .bits(),
    ))
}

/// Drops every capability outside `keep` from the bounding set.
pub fn limit_bounding(keep: CapSet) -> Result<()> {
    let all = CapSet::all();
    for number in 0..64 {
        if all.contains(number) && !keep.contains(number) {
            let one = CapabilitySet::from_bits_retain(1 << number);
            remove_capability_from_bounding_set(one).ctx("limit capabilities of", "process")?;
        }
    }
    Ok(())
}

/// Sets the effective, permitted, inheritable and ambient sets. Ambient capabilities must be in
/// both the permitted and the inheritable set.
pub fn set(
    effective: CapSet,
    permitted: CapSet,
    inheritable: CapSet,
    ambient: CapSet,
) -> Result<()> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective.0),
        permitted: CapabilitySet::from_bits_retain(permitted.0),
        inheritable: CapabilitySet::from_bits_retain(inheritable.0),
    };
    set_capabilities(None, sets).ctx("set capabilities of", "process")?;
    thread::clear_ambient_capability_set().ctx("clear ambient capabilities of", "process")?;
    for number in (0..64).filter(|n| ambient.contains(*n)) {
        let one = CapabilitySet::from_bits_retain(1 << number);
        configure_capability_in_ambient_set(one, true)
            .ctx("set ambient capabilities of", "process")?;
    }
    Ok(())
}
