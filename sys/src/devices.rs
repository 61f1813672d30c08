//! Which devices the processes of a cgroup may open: a program at the group's version 2 directory
//! (`BPF_PROG_TYPE_CGROUP_DEVICE`), which needs no controller.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use crate::error::{FsError, Result};

/// Leave to use a device. Making its node is always allowed: a node alone opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// A block device and not a character device.
    pub block: bool,
    /// Its major number; none is every one.
    pub major: Option<u32>,
    /// Its minor number; none is every one.
    pub minor: Option<u32>,
    /// Whether it may be read.
    pub read: bool,
    /// Whether it may be written.
    pub write: bool,
}

/// A loaded program that lets devices be used by rules; what no rule allows is refused with `EPERM`.
#[derive(Debug)]
pub struct DeviceFilter {
    program: OwnedFd,
}

// Numbers of linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Groups below may have programs too; all of them must agree.
const ALLOW_MULTI: u32 = 2;
const IS_BLOCK: i32 = 1;
const IS_CHAR: i32 = 2;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Insn {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The fields of `union bpf_attr` that `BPF_PROG_LOAD` needs; the kernel takes the rest as zero.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The fields of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

const fn insn(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Insn {
    Insn {
        code,
        registers: dst | (src << 4),
        offset,
        immediate,
    }
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const AND_VALUE: u8 = 0x57;
const SHIFT_RIGHT_VALUE: u8 = 0x77;
const JUMP_IF_OTHER: u8 = 0x55;
const EXIT: u8 = 0x95;

/// `return value`.
const fn answer(value: i32) -> [Insn; 2] {
    [insn(MOVE_VALUE, 0, 0, 0, value), insn(EXIT, 0, 0, 0, 0)]
}

/// The program: registers 2 to 5 are access, type, major and minor.
fn program(rules: &[DeviceRule]) -> Vec<Insn> {
    let mut code = vec![
        // `struct bpf_cgroup_dev_ctx`: access << 16 | type, major, minor.
        insn(LOAD_WORD, 2, 1, 0, 0),
        insn(MOVE, 3, 2, 0, 0),
        insn(AND_VALUE, 3, 0, 0, 0xffff),
        insn(SHIFT_RIGHT_VALUE, 2, 0, 0, 16),
        insn(LOAD_WORD, 4, 1, 4, 0),
        insn(LOAD_WORD, 5, 1, 8, 0),
        // Neither read nor written: only made.
        insn(MOVE, 6, 2, 0, 0),
        insn(AND_VALUE, 6, 0, 0, READ | WRITE),
        insn(JUMP_IF_OTHER, 6, 0, 2, 0),
    ];
    code.extend(answer(1));
    for rule in rules {
        let allowed = if rule.read { READ } else { 0 } | if rule.write { WRITE } else { 0 };
        let mut tests = vec![(3, if rule.block { IS_BLOCK } else { IS_CHAR })];
        tests.extend(rule.major.map(|n| (4, n.cast_signed())));
        tests.extend(rule.minor.map(|n| (5, n.cast_signed())));
        let mut body = Vec::new();
        for (register, value) in tests {
            body.push(insn(JUMP_IF_OTHER, register, 0, 0, value));
        }
        body.push(insn(MOVE, 6, 2, 0, 0));
        body.push(insn(AND_VALUE, 6, 0, 0, (READ | WRITE) & !allowed));
        body.push(insn(JUMP_IF_OTHER, 6, 0, 0, 0));
        body.extend(answer(1));
        // A test that fails goes on behind this rule. A rule has at most eight instructions.
        let length = i16::try_from(body.len()).unwrap_or(i16::MAX);
        for (at, one) in (1_i16..).zip(&mut body) {
            if one.code == JUMP_IF_OTHER {
                one.offset = length - at;
            }
        }
        code.extend(body);
    }
    code.extend(answer(0));
    code
}

/// `bpf(2)`.
fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is live, and its size is passed: the kernel reads no further. What it points to
    // is live in both callers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attr),
            size_of::<T>(),
        )
    };
    match result {
        ..0 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

impl DeviceFilter {
    /// Loads the program for `rules`.
    ///
    /// # Errors
    /// The kernel has no such programs, or this process may not load them.
    pub fn load(rules: &[DeviceRule]) -> Result<Self> {
        let failed = |e| FsError::new("load", "device filter", e);
        let code = program(rules);
        let attr = LoadAttr {
            prog_type: TYPE_CGROUP_DEVICE,
            insn_cnt: u32::try_from(code.len()).unwrap_or(u32::MAX),
            insns: code.as_ptr() as u64,
            // Needed for helper functions only, of which there are none here.
            license: c"".as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
        };
        let fd = bpf(PROG_LOAD, &attr).map_err(failed)?;
        let fd = i32::try_from(fd).map_err(|_| failed(io::ErrorKind::InvalidData.into()))?;
        // SAFETY: on success the kernel returned a new descriptor that nobody else owns.
        let program = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { program })
    }

    /// Puts the program at a cgroup of version 2, until that is removed.
    ///
    /// # Errors
    /// `group` is no such cgroup, or this process may not change it.
    pub fn attach(&self, group: BorrowedFd<'_>) -> Result<()> {
        let attr = AttachAttr {
            target_fd: group.as_raw_fd().cast_unsigned(),
            attach_bpf_fd: self.program.as_raw_fd().cast_unsigned(),
            attach_type: ATTACH_CGROUP_DEVICE,
            attach_flags: ALLOW_MULTI,
        };
        bpf(PROG_ATTACH, &attr)
            .map(drop)
            .map_err(|e| FsError::new("attach", "device filter", e))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_jump_of_a_program_lands_behind_its_rule() {
        let null = DeviceRule {
            block: false,
            major: Some(1),
            minor: Some(3),
            read: true,
            write: true,
        };
        let any_block = DeviceRule {
            block: true,
            major: None,
            minor: None,
            read: true,
            write: false,
        };
        let code = program(&[null, any_block]);
        // 11 to begin with, 8 and 6 for the rules, 2 to end with.
        assert_eq!(code.len(), 27);
        let targets: Vec<_> = (1_usize..)
            .zip(&code)
            .filter(|(_, i)| i.code == JUMP_IF_OTHER)
            .map(|(next, i)| next + usize::try_from(i.offset).unwrap())
            .collect();
        assert_eq!(targets, [11, 19, 19, 19, 19, 25, 25]);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_group_that_is_none_is_an_error() {
        let filter = DeviceFilter::load(&[]).unwrap();
        let dir = crate::mount::open_trusted(Path::new("/")).unwrap();
        assert!(filter.attach(dir.as_fd()).is_err());
    }
}
