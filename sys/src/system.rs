//! Facts about the running system.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{self, SeekFrom};
use rustix::io::Errno;

use crate::error::{Context as _, FsError, Result, place_of};
use crate::stat::Stat;

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

/// The first and the last group whose processes may open ping sockets in this network
/// (`net.ipv4.ping_group_range`); none if no group may.
pub fn ping_groups() -> Option<(u32, u32)> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").ok()?;
    let mut numbers = text.split_whitespace().map(|n| n.parse().ok());
    let (first, last) = (numbers.next()??, numbers.next()??);
    (first <= last).then_some((first, last))
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

/// Whether this process may write to a file, without opening it.
///
/// # Errors
/// It is not there, may not be written to, or is on a file system that is read-only.
pub fn check_writable(path: &Path) -> std::io::Result<()> {
    let access = fs::Access::WRITE_OK;
    fs::accessat(fs::CWD, path, access, fs::AtFlags::EACCESS)?;
    Ok(())
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

/// Copies a regular file's bytes, large ones inside the kernel, which shares blocks where the file system can.
/// Holes stay holes. Both files are at their start. Returns the number of bytes copied.
pub fn copy_file(from: impl AsFd, to: impl AsFd, size: u64) -> Result<u64> {
    let (from, to) = (from.as_fd(), to.as_fd());
    let st = Stat::from(fs::fstat(from).map_err(|e| FsError::new("stat", place_of(from), e))?);
    if st.allocated < st.size {
        copy_sparse(from, to, st.size)
    } else if (1..=MAX_BUFFERED).contains(&size) {
        copy_buffered(from, to, size)
    } else {
        copy_range(from, to, size, true)
    }
}

/// Files of at most so many bytes are copied through a buffer. What the kernel does not copy itself, such as from an
/// overlay to the file system below it, would pass through a pipe; and a few blocks are not worth being shared.
const MAX_BUFFERED: u64 = 32 << 10;

/// Copies `size` bytes, fewer if the file has become shorter.
fn copy_buffered(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64) -> Result<u64> {
    let most = usize::try_from(size).unwrap_or_default();
    let mut bytes = Vec::with_capacity(most);
    while bytes.len() < most {
        match rustix::io::read(from, spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(FsError::new("read", place_of(from), e)),
        }
    }
    // The vector may have room for more than was asked for.
    bytes.truncate(most);
    let mut left = bytes.as_slice();
    while !left.is_empty() {
        match rustix::io::write(to, left) {
            Ok(n) => left = left.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(e) => return Err(FsError::new("write", place_of(to), e)),
        }
    }
    Ok(bytes.len() as u64)
}

/// Copies what is no hole.
fn copy_sparse(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64) -> Result<u64> {
    let mut at = 0;
    while at < size {
        let data = match fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            // The file system keeps no account of holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(e) => return Err(FsError::new("find data in", place_of(from), e)),
        };
        let end = match fs::seek(from, SeekFrom::Hole(data)) {
            Ok(end) => end,
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => size,
            Err(e) => return Err(FsError::new("find holes in", place_of(from), e)),
        };
        fs::seek(from, SeekFrom::Start(data))
            .map_err(|e| FsError::new("seek in", place_of(from), e))?;
        fs::seek(to, SeekFrom::Start(data))
            .map_err(|e| FsError::new("seek in", place_of(from), e))?;
        let copied = copy_range(from, to, end.saturating_sub(data), false)?;
        at = data + copied;
        if copied == 0 || at < end {
            // It has become shorter meanwhile.
            break;
        }
    }
    let end =
        Stat::from(fs::fstat(from).map_err(|e| FsError::new("stat", place_of(from), e))?).size;
    if at < end {
        // It ends in a hole.
        fs::ftruncate(to, end).map_err(|e| FsError::new("set length of", place_of(to), e))?;
    }
    Ok(end.max(at))
}

/// Copies `length` bytes from where both files are, or, `to_end`, all that follow.
fn copy_range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, length: u64, to_end: bool) -> Result<u64> {
    const MOST: u64 = 1 << 30;
    let mut done = 0;
    loop {
        let left = length.saturating_sub(done);
        if left == 0 && (!to_end || done > 0) {
            return Ok(done);
        }
        let want = usize::try_from(left.clamp(1, MOST)).unwrap_or(1 << 30);
        match fs::copy_file_range(from, None, to, None, want) {
            Ok(0) => return Ok(done),
            Ok(n) => done += n as u64,
            Err(Errno::INTR) => {}
            // Between file systems, such as from an overlay to the one below it.
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP) => break,
            Err(e) => return Err(FsError::new("copy", place_of(from), e)),
        }
    }
    loop {
        let left = if to_end {
            MOST
        } else {
            length.saturating_sub(done).min(MOST)
        };
        if left == 0 {
            return Ok(done);
        }
        let want = usize::try_from(left).unwrap_or(1 << 30);
        match fs::sendfile(to, from, None, want) {
            Ok(0) => return Ok(done),
            Ok(n) => done += n as u64,
            Err(Errno::INTR) => {}
            Err(e) => return Err(FsError::new("copy", place_of(from), e)),
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn holes_of_a_file_stay_holes() {
        const MEGABYTE: u64 = 1 << 20;
        for (data, size) in [
            (&[][..], 0),
            (&[], 64 * MEGABYTE),
            (&[0], 3),
            (&[0], 64 * MEGABYTE),
            (&[40 * MEGABYTE], 64 * MEGABYTE),
            (&[0, 10 * MEGABYTE, 64 * MEGABYTE - 3], 64 * MEGABYTE),
        ] {
            let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
            from.set_len(size).unwrap();
            for at in data {
                from.write_all_at(b"abc", *at).unwrap();
            }
            assert_eq!(copy_file(&from, &to, size).unwrap(), size);
            let bytes = |file: &File| {
                let mut bytes = vec![0; usize::try_from(size).unwrap()];
                file.read_exact_at(&mut bytes, 0).unwrap();
                bytes
            };
            assert_eq!(to.metadata().unwrap().len(), size, "{data:?}");
            assert!(bytes(&from) == bytes(&to), "{data:?}");
            let allocated = to.metadata().unwrap().blocks() * 512;
            assert!(allocated <= MEGABYTE, "{data:?}: {allocated}");
        }
    }
}
