//! The mounts of a sandbox, made by the child inside its own mount namespace.
//!
//! Sources and targets are opened below their roots and mounts are attached by descriptor, so a
//! link that is swapped in between leads nowhere else.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use kiln_sys::idmap::IdMap;
use kiln_sys::mount::{self, Attrs, Detached};
use kiln_sys::overlay::{Overlay, overlay};
use kiln_sys::{FileKind, FsError, RootDir, Stat};

use crate::error::{Error, Result};
use crate::launch::{IdMaps, Launch, Mount, MountSource, Report, Rootfs};

/// Directories and sockets that the child needs after the old root is gone.
pub(super) struct Mounted {
    pub(super) root: RootDir,
    pub(super) pts: Option<RootDir>,
}

/// Mounts everything that `launch` describes; `report` hears of mount points that were made.
pub(super) fn mount_all(
    launch: &Launch,
    maps: &IdMaps,
    report: &mut dyn FnMut(Report),
) -> Result<Mounted> {
    let rootfs = overlay_of(&launch.rootfs, launch.nodev)?;
    rootfs.attach(mount::open_trusted(&launch.rootfs.mount_point)?)?;
    let root = rootfs.root()?;
    let mut made = |at: PathBuf| report(Report::Stub(at));
    let mut here = Mounted { root, pts: None };
    let mut null = None;
    for m in launch.spec.mounts().iter().flatten() {
        file_system(&mut here, m, &mut null)?;
    }
    // Sources are opened below the host's root, which is still in view.
    for m in &launch.mounts {
        bind(&here.root, m, launch, maps, &mut made)?;
    }
    protect(&here.root, launch, null.as_ref())?;
    Ok(here)
}

fn overlay_of(rootfs: &Rootfs, nodev: bool) -> Result<Detached> {
    let lowers: Vec<&Path> = rootfs.lowers.iter().map(PathBuf::as_path).collect();
    let upper = rootfs
        .upper
        .as_ref()
        .map(|(u, w)| (u.as_path(), w.as_path()));
    let attrs = Attrs {
        read_only: rootfs.upper.is_none(),
        nodev,
        ..Attrs::default()
    };
    Ok(layered(&lowers, upper, attrs)?)
}

fn layered(
    lowers: &[&Path],
    upper: Option<(&Path, &Path)>,
    attrs: Attrs,
) -> kiln_sys::Result<Detached> {
    if let ([only], None) = (lowers, upper) {
        // A read-only overlay wants two layers; one layer is its own view.
        let tree = Detached::clone_of(mount::open_trusted(only)?, false)?;
        tree.set_attrs(
            Attrs {
                read_only: true,
                ..attrs
            },
            false,
        )?;
        return Ok(tree);
    }
    overlay(
        &Overlay {
            lowers,
            upper,
            user_xattr: false,
        },
        attrs,
    )
}

fn file_system(
    here: &mut Mounted,
    m: &oci_spec::runtime::Mount,
    null: &mut Option<OwnedFd>,
) -> Result<()> {
    let fstype = m.typ().as_deref().unwrap_or("none");
    let mut attrs = Attrs::default();
    let mut options = Vec::new();
    for option in m.options().iter().flatten() {
        match option.as_str() {
            "nosuid" => attrs.nosuid = true,
            "nodev" => attrs.nodev = true,
            "noexec" => attrs.noexec = true,
            "ro" => attrs.read_only = true,
            other => options.push(other.split_once('=').unwrap_or((other, ""))),
        }
    }
    let target = m.destination();
    let mounted = match mount::filesystem(fstype, &options, attrs) {
        Ok(mounted) => mounted,
        // A kernel without version 2 groups or message queues runs builds all the same.
        Err(_) if matches!(fstype, "cgroup2" | "mqueue") => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    // `/dev/pts` and the like are made on the file system mounted before.
    let at = below_root(target);
    let dir = mount_point(&here.root, at)?;
    mounted.attach(&dir)?;
    if target == Path::new("/dev") {
        let has_core = here
            .root
            .try_lstat(below_root(Path::new(CORE.1)))?
            .is_some();
        *null = Some(devices(&mounted.root()?, has_core)?);
    } else if target == Path::new("/dev/pts") {
        here.pts = Some(mounted.root()?);
    }
    Ok(())
}

/// The directory `at` of the root, made where it is missing. An image in which it is a symbolic
/// link is refused: the mount would land elsewhere.
fn mount_point(root: &RootDir, at: &Path) -> Result<RootDir> {
    match root.try_lstat(at)? {
        Some(st) if st.is_dir() => Ok(root.sub_dir(at)?),
        Some(_) => Err(Error::Setup(format!(
            "`/{}` of the image is not a directory; kiln mounts a file system there",
            at.display()
        ))),
        None => {
            root.mkdir_all(at, 0o755, &mut |_, _| Ok(()))?;
            Ok(root.sub_dir(at)?)
        }
    }
}

const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// A link that is there only if its target is, which depends on how the kernel was built.
const CORE: (&str, &str) = ("core", "/proc/kcore");

/// Fills a fresh /dev; returns a handle on its null device, which no image can have replaced.
fn devices(dev: &RootDir, has_core: bool) -> Result<OwnedFd> {
    rustix::process::umask(rustix::fs::Mode::empty());
    for (name, major, minor) in NODES {
        dev.mknod(Path::new(name), FileKind::CharDevice, 0o666, (major, minor))?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let core = has_core.then_some(CORE);
    for (name, target) in LINKS.into_iter().chain(core) {
        dev.symlink(target.as_ref(), Path::new(name))?;
    }
    for dir in ["pts", "shm", "mqueue"] {
        dev.mkdir(Path::new(dir), 0o755)?;
    }
    let null = dev.open_path_nofollow(Path::new("null"))?;
    let st = Stat::from(rustix::fs::fstat(&null).map_err(|e| FsError::new("stat", "null", e))?);
    if st.kind != FileKind::CharDevice || st.rdev != (1, 3) {
        return Err(Error::Setup(
            "the null device is not the null device".into(),
        ));
    }
    Ok(null)
}

fn below_root(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Opens the object that a mount shows, and says whether it is a directory.
fn source_of(
    source: &MountSource,
    read_only: bool,
    staging: &Path,
    maps: &IdMaps,
) -> Result<(Detached, bool)> {
    match source {
        MountSource::Host {
            path,
            below,
            recursive,
        } => {
            let fd = if below.as_os_str().is_empty() {
                mount::open_trusted(path)?
            } else {
                RootDir::open_trusted(path)?.open_path(below_root(below))?
            };
            let dir = is_dir(&fd)?;
            Ok((Detached::clone_of(fd, *recursive)?, dir))
        }
        MountSource::Layers {
            lowers,
            upper,
            below,
            owner,
        } => {
            let mut lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
            let mapped = match (owner, lowers.last()) {
                (Some(owner), Some(lowest)) => {
                    // The key of a step says as whose the files are shown: there is no other way then.
                    let map = maps.get(owner).and_then(Option::as_ref).ok_or_else(|| {
                        Error::Setup("the kernel has no user namespaces any more".into())
                    })?;
                    Some(as_root(lowest, map, staging)?)
                }
                _ => None,
            };
            if let (Some(mapped), Some(lowest)) = (&mapped, lowers.last_mut()) {
                *lowest = mapped;
            }
            let upper = upper.as_ref().map(|(u, w)| (u.as_path(), w.as_path()));
            let attrs = Attrs {
                read_only,
                ..Attrs::default()
            };
            let tree = layered(&lowers, upper, attrs)?;
            if below_root(below).as_os_str().is_empty() {
                return Ok((tree, true));
            }
            // A path below is a bind of its own, and those are made from attached mounts.
            let spot = mount::filesystem("tmpfs", &[("mode", "700")], Attrs::SAFE)?;
            spot.attach(mount::open_trusted(staging)?)?;
            spot.root()?.mkdir(Path::new("t"), 0o700)?;
            tree.attach(spot.root()?.sub_dir(Path::new("t"))?)?;
            let fd = tree.root()?.open_path(below_root(below))?;
            let dir = is_dir(&fd)?;
            Ok((Detached::clone_of(fd, false)?, dir))
        }
        MountSource::Tmpfs { size } => {
            let size = size.map(|s| s.to_string());
            let options: Vec<_> = size.as_deref().map(|s| ("size", s)).into_iter().collect();
            let attrs = Attrs {
                nosuid: true,
                nodev: true,
                ..Attrs::default()
            };
            Ok((mount::filesystem("tmpfs", &options, attrs)?, true))
        }
        MountSource::Device {
            block,
            number,
            mode,
            uid,
            gid,
        } => {
            let attrs = Attrs {
                nodev: false,
                ..Attrs::SAFE
            };
            let spot = mount::filesystem("tmpfs", &[("mode", "700")], attrs)?;
            spot.attach(mount::open_trusted(staging)?)?;
            let dir = spot.root()?;
            let name = Path::new("device");
            let kind = if *block {
                FileKind::BlockDevice
            } else {
                FileKind::CharDevice
            };
            dir.mknod(name, kind, 0o600, *number)?;
            dir.chown(name, *uid, *gid)?;
            dir.chmod(name, *mode)?;
            Ok((
                Detached::clone_of(dir.open_path_nofollow(name)?, false)?,
                false,
            ))
        }
        MountSource::Content {
            bytes,
            mode,
            uid,
            gid,
        } => {
            let attrs = Attrs {
                // Who asks for an executable file means to execute it.
                noexec: mode & 0o111 == 0,
                ..Attrs::SAFE
            };
            let spot = mount::filesystem("tmpfs", &[("mode", "700")], attrs)?;
            spot.attach(mount::open_trusted(staging)?)?;
            let dir = spot.root()?;
            let name = Path::new("content");
            let mut file = std::fs::File::from(dir.create_new(name, 0o600)?);
            file.write_all(bytes)
                .map_err(|e| FsError::new("write", name, e))?;
            dir.chown(name, *uid, *gid)?;
            dir.chmod(name, *mode)?;
            Ok((
                Detached::clone_of(dir.open_path_nofollow(name)?, false)?,
                false,
            ))
        }
    }
}

/// Mounts `dir` at a place of its own, with the files of an owner as root's; returns the place.
fn as_root(dir: &Path, map: &IdMap, staging: &Path) -> Result<PathBuf> {
    let tree = Detached::clone_of(mount::open_trusted(dir)?, false)?;
    tree.set_id_map(map)?;
    let spot = mount::filesystem("tmpfs", &[("mode", "700")], Attrs::SAFE)?;
    spot.attach(mount::open_trusted(staging)?)?;
    spot.root()?.mkdir(Path::new("lowest"), 0o700)?;
    tree.attach(spot.root()?.sub_dir(Path::new("lowest"))?)?;
    Ok(staging.join("lowest"))
}

fn is_dir(fd: &OwnedFd) -> Result<bool> {
    let st = rustix::fs::fstat(fd).map_err(|e| FsError::new("stat", "mount source", e))?;
    Ok(Stat::from(st).is_dir())
}

fn bind(
    root: &RootDir,
    m: &Mount,
    launch: &Launch,
    maps: &IdMaps,
    made: &mut dyn FnMut(PathBuf),
) -> Result<()> {
    let staging = &launch.rootfs.staging;
    let (tree, dir) = source_of(&m.source, m.read_only, staging, maps).map_err(|e| {
        Error::Setup(format!(
            "the source of the mount at `{}`: {e}",
            m.target.display()
        ))
    })?;
    // The node of a device was given on purpose.
    let nodev = launch.nodev && !matches!(m.source, MountSource::Device { .. });
    let attrs = Attrs {
        read_only: m.read_only,
        nosuid: m.flags.nosuid,
        nodev: m.flags.nodev || nodev,
        noexec: m.flags.noexec,
    };
    if attrs != Attrs::default() {
        let recursive = matches!(
            m.source,
            MountSource::Host {
                recursive: true,
                ..
            }
        );
        tree.set_attrs(attrs, recursive)?;
    }
    let at = below_root(&m.target);
    let is_there = root.open_path(at).is_ok();
    let target = target_of(root, at, dir, made).map_err(|e| {
        Error::Setup(format!(
            "cannot make the mount point `{}`: {e}",
            m.target.display()
        ))
    })?;
    let kind = |is_dir| if is_dir { "directory" } else { "file" };
    let covers = is_dir(&target)?;
    if covers != dir {
        return Err(Error::Setup(format!(
            "a {} cannot be mounted over the {} `{}`",
            kind(dir),
            kind(covers),
            m.target.display()
        )));
    }
    if matches!(m.source, MountSource::Tmpfs { .. }) {
        let covered = rustix::fs::fstat(&target);
        let covered = covered.map_err(|e| FsError::new("stat", &m.target, e))?;
        let mode = if is_there { covered.st_mode } else { 0o1777 };
        tree.root()?.chmod(Path::new(""), mode & 0o7777)?;
    }
    tree.attach(target)?;
    Ok(())
}

/// Opens the mount point, making it where it is missing.
fn target_of(
    root: &RootDir,
    at: &Path,
    dir: bool,
    made: &mut dyn FnMut(PathBuf),
) -> Result<OwnedFd> {
    match root.open_path(at) {
        Ok(fd) => return Ok(fd),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e.into()),
    }
    let base = real_path(root)?;
    let mut note = |dir: &RootDir, _: &Path| -> kiln_sys::Result<()> {
        if let Ok(path) = real_path(dir) {
            made(path.strip_prefix(&base).unwrap_or(&path).to_path_buf());
        }
        Ok(())
    };
    if dir {
        root.mkdir_all(at, 0o755, &mut note)?;
        return Ok(root.open_path(at)?);
    }
    // As with Docker, a link that leads nowhere is followed: images of systemd's distributions
    // have `/etc/resolv.conf` as a link into `/run`, which is empty in an image.
    let real = root.dangling(at)?;
    let at = real.as_deref().unwrap_or(at);
    let parent = root.mkdir_all(at.parent().unwrap_or(Path::new("")), 0o755, &mut note)?;
    let name = Path::new(at.file_name().unwrap_or_default());
    drop(parent.create_new(name, 0o644)?);
    let inside = real_path(&parent)?;
    made(inside.strip_prefix(&base).unwrap_or(&inside).join(name));
    Ok(parent.open_path_nofollow(name)?)
}

/// Where a directory is, with every link resolved.
#[allow(clippy::disallowed_methods, reason = "a link of /proc is the kernel's")]
fn real_path(dir: &RootDir) -> kiln_sys::Result<PathBuf> {
    use std::os::fd::AsFd as _;
    let link = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    std::fs::read_link(&link).map_err(|e| FsError::new("resolve", link, e))
}

/// Masks and write-protects paths of /proc and /sys, which the mounts before put there.
fn protect(root: &RootDir, launch: &Launch, null: Option<&OwnedFd>) -> Result<()> {
    let Some(linux) = launch.spec.linux() else {
        return Ok(());
    };
    for path in linux.readonly_paths().iter().flatten() {
        let Ok(fd) = root.open_path_nofollow(below_root(Path::new(path))) else {
            continue;
        };
        let tree = Detached::clone_of(&fd, true)?;
        let attrs = Attrs {
            read_only: true,
            ..Attrs::SAFE
        };
        tree.set_attrs(attrs, true)?;
        tree.attach(&fd)?;
    }
    let mut empty: Option<Detached> = None;
    for path in linux.masked_paths().iter().flatten() {
        let Ok(fd) = root.open_path_nofollow(below_root(Path::new(path))) else {
            continue;
        };
        if is_dir(&fd)? {
            let attrs = Attrs {
                read_only: true,
                ..Attrs::SAFE
            };
            match &empty {
                None => {
                    let tmpfs = mount::filesystem(
                        "tmpfs",
                        &[("nr_blocks", "1"), ("nr_inodes", "1")],
                        attrs,
                    )?;
                    tmpfs.attach(&fd)?;
                    empty = Some(tmpfs);
                }
                Some(tmpfs) => Detached::clone_of(tmpfs, false)?.attach(&fd)?,
            }
        } else if let Some(null) = null {
            Detached::clone_of(null, false)?.attach(&fd)?;
        }
    }
    Ok(())
}
