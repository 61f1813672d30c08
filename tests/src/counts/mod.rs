//! What small commands cost, in numbers that are the same on every machine: system calls, bytes and
//! statements of the database, no times.
//!
//! The numbers that are recorded are in `tests/bench/counts.json`. A test holds the binary under test to
//! them, and `cargo xtask bench --counts` shows them beside what was counted.

mod recorded;
mod trace;
mod workloads;

use std::collections::BTreeMap;
use std::path::Path;

pub use recorded::{Bound, Recorded, recorded_at};
pub use workloads::{NAMES, Workshop, has_context};

/// Calls that are counted, by what they are about: files, processes and mounts.
///
/// Others depend on the moment: how often threads wait for one another (`futex`, `epoll_wait`, `sched_yield`,
/// `poll`), how much memory they ask for (`mmap`, `brk`, `madvise`), how pieces come through pipes and sockets
/// (`read`, `write`, `recvmsg`, which are counted for regular files alone), and how many threads there are
/// (`clone3` with `CLONE_THREAD`, and the calls that a new thread makes).
pub const COUNTED: &[(&str, &[&str])] = &[
    ("opens", &["open", "openat", "openat2", "creat"]),
    (
        "looks",
        &[
            "access",
            "faccessat",
            "faccessat2",
            "fgetxattr",
            "flistxattr",
            "fstat",
            "fstatfs",
            "getdents64",
            "getxattr",
            "lgetxattr",
            "listxattr",
            "llistxattr",
            "lstat",
            "newfstatat",
            "readlink",
            "readlinkat",
            "stat",
            "statfs",
            "statx",
        ],
    ),
    ("reads", &["pread64", "preadv", "read", "readv", "sendfile"]),
    (
        "writes",
        &["copy_file_range", "pwrite64", "pwritev", "write", "writev"],
    ),
    (
        "changes",
        &[
            "chmod",
            "chown",
            "fallocate",
            "fchmod",
            "fchmodat",
            "fchmodat2",
            "fchown",
            "fchownat",
            "fremovexattr",
            "fsetxattr",
            "ftruncate",
            "lchown",
            "link",
            "linkat",
            "lsetxattr",
            "mkdir",
            "mkdirat",
            "mknod",
            "mknodat",
            "rename",
            "renameat",
            "renameat2",
            "rmdir",
            "setxattr",
            "symlink",
            "symlinkat",
            "truncate",
            "unlink",
            "unlinkat",
            "utimensat",
        ],
    ),
    (
        "syncs",
        &["fdatasync", "fsync", "sync", "sync_file_range", "syncfs"],
    ),
    ("locks", &["fcntl", "flock"]),
    (
        "processes",
        &[
            "clone", "clone3", "execve", "execveat", "fork", "setns", "unshare", "vfork",
        ],
    ),
    (
        "mounts",
        &[
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "pivot_root",
            "umount2",
        ],
    ),
];

/// Bytes that are read from regular files.
pub const BYTES_READ: &str = "bytes read";
/// Bytes that are written to regular files.
pub const BYTES_WRITTEN: &str = "bytes written";
/// Statements that the database carries out.
pub const STATEMENTS: &str = "statements";

/// What is counted of a command, in the order of a table.
#[must_use]
pub fn kinds() -> Vec<&'static str> {
    let calls = COUNTED.iter().map(|(kind, _)| *kind);
    calls
        .chain([BYTES_READ, BYTES_WRITTEN, STATEMENTS])
        .collect()
}

/// How many of each kind a command took.
pub type Counts = BTreeMap<&'static str, u64>;

/// Counts what one of the workloads takes, in a new directory below `dir` that is removed afterwards.
///
/// # Errors
/// The binary or `strace` cannot be run, or fails.
pub fn count(binary: &Path, dir: &Path, name: &str) -> std::io::Result<Counts> {
    let workshop = Workshop::new(binary, &dir.join(name))?;
    let counted = workshop.count(name);
    workshop.remove()?;
    counted
}

/// How often a command may be counted until all of its numbers are as recorded.
const TRIES: usize = 3;

/// Counts what one of the workloads takes, once more where something is more than recorded: what else goes on
/// on the machine may add to it, and takes nothing away. The fewest of each kind.
///
/// # Errors
/// As of [`count`].
pub fn fewest(
    binary: &Path,
    dir: &Path,
    name: &str,
    recorded: &Recorded,
) -> std::io::Result<Counts> {
    let mut fewest = count(binary, dir, name)?;
    for _ in 1..TRIES {
        if excess(&fewest, name, recorded).is_empty() {
            break;
        }
        for (kind, number) in count(binary, dir, name)? {
            fewest
                .entry(kind)
                .and_modify(|least| *least = number.min(*least));
        }
    }
    Ok(fewest)
}

/// What of these counts is more than recorded, in words.
#[must_use]
pub fn excess(counts: &Counts, name: &str, recorded: &Recorded) -> Vec<String> {
    let too_many = |(kind, count): (&&'static str, &u64)| {
        let bound = recorded.bound(name, kind)?;
        let Bound {
            count: usual,
            tolerance,
        } = bound;
        let text =
            format!("{name}: {count} {kind}, recorded are {usual} and {tolerance} more at most");
        (!bound.allows(*count)).then_some(text)
    };
    counts.iter().filter_map(too_many).collect()
}
