//! Loading of seccomp filters.

use std::io;

use crate::error::{FsError, Result};

/// One classic BPF instruction, as the kernel's `sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump offset if true.
    pub jt: u8,
    /// Jump offset if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Sets `no_new_privs`: exec can never give privileges again.
pub fn no_new_privs() -> Result<()> {
    // SAFETY: PR_SET_NO_NEW_PRIVS takes plain numbers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0 {
        return Ok(());
    }
    Err(FsError::new(
        "set no_new_privs of",
        "process",
        io::Error::last_os_error(),
    ))
}

/// Installs a filter for this process and all that come from it. Needs `CAP_SYS_ADMIN` or
/// `no_new_privs`.
pub fn load(program: &[Instruction]) -> Result<()> {
    let bad = || {
        FsError::new(
            "load seccomp filter of",
            "process",
            io::ErrorKind::InvalidInput,
        )
    };
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| bad())?,
        // The kernel only reads it; the C type lacks const.
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: `Instruction` has the layout of sock_filter; the slice and the header are live
    // during the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const filter,
        )
    };
    if done == 0 {
        return Ok(());
    }
    Err(FsError::new(
        "load seccomp filter of",
        "process",
        io::Error::last_os_error(),
    ))
}
