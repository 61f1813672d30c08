//! Facts about the running system.

use std::os::fd::AsFd;
use std::path::Path;

use crate::error::{Context as _, FsError, Result};

/// The kernel's id of this boot; another boot has another.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(std::fs::read_to_string(path)
        .ctx("read", path)?
        .trim()
        .to_owned())
}

/// The kernel's release, such as `6.1.0-13-amd64`.
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Bytes of memory of this machine.
pub fn memory_bytes() -> Result<u64> {
    let path = "/proc/meminfo";
    let text = std::fs::read_to_string(path).ctx("read", path)?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kib.unwrap_or(0) << 10)
}

/// Writes everything of the file system that holds `path` to the disk.
pub fn sync_filesystem(path: &Path) -> Result<()> {
    use std::os::fd::AsRawFd as _;
    let dir = std::fs::File::open(path).ctx("open", path)?;
    // SAFETY: the descriptor is live.
    if unsafe { libc::syncfs(dir.as_raw_fd()) } == 0 {
        return Ok(());
    }
    Err(FsError::new(
        "sync",
        "file system",
        std::io::Error::last_os_error(),
    ))
}

/// Asks the file system to spread what is in this directory's folders over the disk. Returns whether
/// it does so: only ext4 knows such a wish.
pub fn spread_folders(dir: &Path) -> bool {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let Ok(dir) = std::fs::File::open(dir) else {
        return false;
    };
    ioctl_getflags(&dir).is_ok_and(|flags| {
        flags.contains(IFlags::TOPDIR) || ioctl_setflags(&dir, flags | IFlags::TOPDIR).is_ok()
    })
}

/// Whether this process runs as root of its user namespace.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Start time of a process in clock ticks since boot, which tells two owners of one pid apart.
pub fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may hold spaces; fields are counted after the last `)`.
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// Free bytes of the file system that holds `path`.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let st = rustix::fs::statvfs(path).ctx("stat file system of", path)?;
    Ok(st.f_bavail.saturating_mul(st.f_frsize))
}

/// Bytes of the file system that holds `path`, used or not.
pub fn disk_bytes(path: &Path) -> Result<u64> {
    let st = rustix::fs::statvfs(path).ctx("stat file system of", path)?;
    Ok(st.f_blocks.saturating_mul(st.f_frsize))
}

/// Copies a regular file's bytes inside the kernel, which shares blocks where the file system can.
/// Returns the number of bytes copied.
pub fn copy_file(from: impl AsFd, to: impl AsFd, size: u64) -> Result<u64> {
    let mut done = 0;
    loop {
        let want = usize::try_from((size - done).clamp(1, 1 << 30)).unwrap_or(1 << 30);
        match rustix::fs::copy_file_range(&from, None, &to, None, want) {
            Ok(0) => return Ok(done),
            Ok(n) => {
                done += n as u64;
                if done >= size {
                    return Ok(done);
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            // Between file systems, such as from an overlay to the one below it.
            Err(
                rustix::io::Errno::XDEV | rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP,
            ) => break,
            Err(e) => return Err(e).ctx("copy", "file"),
        }
    }
    loop {
        match rustix::fs::sendfile(&to, &from, None, 1 << 30) {
            Ok(0) => return Ok(done),
            Ok(n) => done += n as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).ctx("copy", "file"),
        }
    }
}

/// Fills `buffer` with random bytes of the kernel.
pub fn random(buffer: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        // SAFETY: the pointer and length describe the unfilled rest of a live buffer.
        let got =
            unsafe { libc::getrandom(buffer[done..].as_mut_ptr().cast(), buffer.len() - done, 0) };
        match usize::try_from(got) {
            Ok(n) => done += n,
            Err(_) => {
                let error = std::io::Error::last_os_error();
                if error.kind() != std::io::ErrorKind::Interrupted {
                    return Err(FsError::new("read", "random bytes", error));
                }
            }
        }
    }
    Ok(())
}
