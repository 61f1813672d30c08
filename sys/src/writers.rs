//! Whether a file's times tell that somebody has written to it.
//!
//! A store into a shared mapping moves them only when the page that it meets is clean: the kernel
//! then asks the file system, which sets the times (`page_mkwrite`, Documentation/filesystems/locking.rst).
//! A page that is dirty already takes more stores in silence until it has been written back, and file
//! systems without a disk never ask.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

use rustix::fs::{AtFlags, StatxFlags};

/// What the times of a file tell of stores into mappings of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// All, while nobody has the file open for writing: see [`has_writer`].
    Tell,
    /// All that is older than this.
    TellAfter(Duration),
    /// Nothing.
    Silent,
}

// Not all are in the libc crate (include/uapi/linux/magic.h, and the file systems' own headers).
const EXT: i64 = 0xef53;
const XFS: i64 = 0x5846_5342;
const BTRFS: i64 = 0x9123_683e;
const F2FS: i64 = 0xf2f5_2010;
const BCACHEFS: i64 = 0xca45_1a4e;
const EROFS: i64 = 0xe0f5_e1e2;
const SQUASHFS: i64 = 0x7371_7368;
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;
const HUGETLBFS: i64 = 0x9584_58f6;
const OVERLAYFS: i64 = 0x794c_7630;

/// Not in the libc crate (include/uapi/asm-generic/fcntl.h).
const F_SETSIG: i32 = 10;

/// What the times of an open file tell.
pub fn times_of(file: impl AsFd) -> Times {
    match magic_of(&file) {
        Some(EXT | XFS | BTRFS | F2FS | BCACHEFS | EROFS | SQUASHFS) => Times::Tell,
        Some(TMPFS | RAMFS | HUGETLBFS) | None => Times::Silent,
        Some(OVERLAYFS) => times_of_overlay(&file),
        Some(_) => times_after_writeback(),
    }
}

#[allow(
    clippy::unnecessary_cast,
    clippy::cast_possible_wrap,
    reason = "the field's type differs between C libraries"
)]
fn magic_of(file: impl AsFd) -> Option<i64> {
    Some(rustix::fs::fstatfs(file).ok()?.f_type as i64)
}

/// Mappings of a file on overlayfs are those of a file of its upper layer, whose times overlayfs
/// shows. Who writes to that is not seen through overlayfs.
fn times_of_overlay(file: impl AsFd) -> Times {
    let upper = mount_of(file)
        .and_then(upper_of)
        .and_then(|dir| File::open(dir).ok());
    match upper.and_then(|dir| magic_of(&dir)) {
        Some(TMPFS | RAMFS | HUGETLBFS | OVERLAYFS) | None => Times::Silent,
        Some(_) => times_after_writeback(),
    }
}

fn mount_of(file: impl AsFd) -> Option<u64> {
    let found = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    Some(found.stx_mnt_id)
}

/// The upper directory of a mount of overlayfs, if this process sees where it is.
fn upper_of(mount: u64) -> Option<std::path::PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let id = mount.to_string();
    let line = text
        .lines()
        .find(|line| line.split(' ').next() == Some(&id))?;
    let options = line.rsplit(' ').next()?;
    let upper = options
        .split(',')
        .find_map(|option| option.strip_prefix("upperdir="))?;
    // Spaces and the like are written as octal numbers: then it is another name, and not found.
    Some(upper.into())
}

/// Dirty pages are written back when they are so old, and found at such intervals
/// (Documentation/admin-guide/sysctl/vm.rst). A disk that is busy takes longer.
fn times_after_writeback() -> Times {
    let centiseconds = |name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/sys/vm/{name}")).ok()?;
        text.trim().parse().ok()
    };
    let expire = centiseconds("dirty_expire_centisecs");
    match (expire, centiseconds("dirty_writeback_centisecs")) {
        // Nothing is written back by itself.
        (_, Some(0)) | (None, _) | (_, None) => Times::Silent,
        (Some(expire), Some(interval)) => {
            let usual = Duration::from_millis((expire.saturating_add(interval)).saturating_mul(10));
            Times::TellAfter(usual.saturating_mul(2))
        }
    }
}

/// Whether anybody has this file, which is open for reading, open for writing, or mapped so.
///
/// A read lease is only given on a file that nobody writes to (fcntl(2), "Leases"); it is given back at
/// once. Where none can be had for another reason, somebody may.
pub fn has_writer(file: impl AsFd) -> bool {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the descriptor is live. Should somebody open the file for writing before the lease is
    // given back, SIGURG is sent, which is ignored unless it is handled; SIGIO would end the process.
    let set = |command, value: i32| unsafe { libc::fcntl(fd, command, value) } == 0;
    if !set(F_SETSIG, libc::SIGURG) || !set(libc::F_SETLEASE, libc::F_RDLCK) {
        return true;
    }
    !set(libc::F_SETLEASE, libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_seen_as_long_as_it_is_there() {
        // Where tests are built is a disk, and a temporary directory may be none.
        let tests = std::env::current_exe().unwrap();
        let dir = tempfile::tempdir_in(tests.parent().unwrap()).unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "x").unwrap();
        let reader = File::open(&path).unwrap();
        assert!(!has_writer(&reader));
        let writer = File::options().write(true).open(&path).unwrap();
        assert!(has_writer(&reader));
        drop(writer);
        assert!(!has_writer(&reader));
        // Nothing is left that would hold up whoever writes next.
        std::fs::write(&path, "y").unwrap();
    }

    #[test]
    fn memory_tells_nothing() {
        let file = File::open("/dev/shm").unwrap();
        assert_eq!(times_of(&file), Times::Silent);
    }
}
