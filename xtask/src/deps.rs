//! Debian packages that the chores need.

use anyhow::Result;

use crate::shell::{Run, exists, need_root};

/// A program and the package that has it; a program without a package of its own name on the path
/// is looked up in the package database.
type Need = (&'static str, &'static str);

/// What making base images takes.
pub(crate) const FIXTURES: &[Need] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("", "busybox-static"),
    ("", "ca-certificates"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
    ("tar", "tar"),
];

/// What the tests take besides.
pub(crate) const TESTS: &[Need] = &[
    ("cc", "gcc"),
    ("", "libc6-dev"),
    ("file", "file"),
    ("git", "git"),
    ("podman", "podman"),
    ("xz", "xz-utils"),
    ("bzip2", "bzip2"),
    ("zstd", "zstd"),
    ("setfattr", "attr"),
    ("openssl", "openssl"),
    ("ip", "iproute2"),
    ("", "python3-venv"),
    ("strace", "strace"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
];

/// What counting system calls takes.
pub(crate) const COUNTS: &[Need] = &[("strace", "strace"), ("", "busybox-static")];

/// What the demonstration takes where Docker Hub cannot be reached.
pub(crate) const DEMO: &[Need] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("", "ca-certificates"),
    ("cc", "gcc"),
];

/// Installs those that are missing; says nothing where none is.
pub(crate) fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|(program, package)| {
            if program.is_empty() {
                !is_installed(package)
            } else {
                !exists(program)
            }
        })
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    need_root("deps")?;
    eprintln!("installing {}", missing.join(" "));
    Run::new("apt-get").args(["update", "-q"]).run()?;
    Run::new("apt-get")
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()
}

fn is_installed(package: &str) -> bool {
    Run::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .capture()
        .is_ok_and(|status| status == "installed")
}
