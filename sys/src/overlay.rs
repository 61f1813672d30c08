//! Overlay mounts whose upper directory stands alone, so that it can become a layer.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::mount::{self as m, FsMountFlags, FsOpenFlags, MountFlags};
use rustix::thread::UnshareFlags;

use crate::error::{Context as _, FsError, Result};
use crate::mount::{Attrs, Detached, explain, make_all_private, open_trusted};

/// What an overlay is made of.
#[derive(Clone, Debug)]
pub struct Overlay<'a> {
    /// Read-only directories, the topmost first.
    pub lowers: &'a [&'a Path],
    /// Upper and work directory, for a writable overlay.
    pub upper: Option<(&'a Path, &'a Path)>,
    /// Attributes live in `user.overlay.*`: needed inside a user namespace.
    pub user_xattr: bool,
}

/// Lower directories that an overlay has at most (fs/overlayfs/params.h, `OVL_MAX_STACK`).
const MAX_LOWERS: usize = 500;

/// No redirects, no metadata-only copies, no index: each needs more than the upper directory.
const PLAIN: &[(&str, &str)] = &[
    ("redirect_dir", "off"),
    ("metacopy", "off"),
    ("index", "off"),
    ("xino", "off"),
];

impl Overlay<'_> {
    fn flags(&self) -> impl Iterator<Item = &'static str> {
        // Snapshots are made durable by one syncfs after the build, not by overlay's own fsyncs.
        let volatile = self.upper.is_some().then_some("volatile");
        volatile
            .into_iter()
            .chain(self.user_xattr.then_some("userxattr"))
    }
}

/// Mounts an overlay.
///
/// # Errors
/// The kernel refuses: the error holds what it wrote about that.
pub fn overlay(spec: &Overlay<'_>, attrs: Attrs) -> Result<Detached> {
    if spec.lowers.len() > MAX_LOWERS {
        let why = format!(
            "{} layers, of which Linux stacks {MAX_LOWERS} at most; a stage that only copies the files of \
             another has few, and so has what --squash makes",
            spec.lowers.len()
        );
        return Err(FsError::new("mount", "overlay", std::io::Error::other(why)));
    }
    if kernel_before(6, 8) {
        return by_text(spec, attrs);
    }
    let context =
        m::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).ctx("open file system", "overlay")?;
    let set = |key: &str, value: &Path| {
        let done = m::fsconfig_set_string(context.as_fd(), key, value);
        explain(
            done,
            &context,
            "add overlay directory",
            &value.to_string_lossy(),
        )
    };
    for lower in spec.lowers {
        set("lowerdir+", lower)?;
    }
    if let Some((upper, work)) = spec.upper {
        // Of these alone the kernel takes backslashes for escapes (fs/overlayfs/params.c, `ovl_unescape`).
        set("upperdir", &escaped(upper))?;
        set("workdir", &escaped(work))?;
    }
    for (key, value) in PLAIN {
        let done = m::fsconfig_set_string(context.as_fd(), *key, *value);
        explain(done, &context, "configure overlay", key)?;
    }
    for flag in spec.flags() {
        let done = m::fsconfig_set_flag(context.as_fd(), flag);
        explain(done, &context, "configure overlay", flag)?;
    }
    explain(
        m::fsconfig_create(context.as_fd()),
        &context,
        "mount",
        "overlay",
    )?;
    let mount = m::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attrs.mount_flags(),
    );
    Ok(Detached(explain(mount, &context, "mount", "overlay")?))
}

fn escaped(path: &Path) -> PathBuf {
    let mut out = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if *byte == b'\\' {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    OsString::from_vec(out).into()
}

/// Whether the running kernel is older than this version.
fn kernel_before(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    let running: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    running < (major, minor)
}

/// The same for kernels before 6.8, which take all layers in one text of a page and mount them at
/// a path only. A thread with mounts of its own does that, so that no other process sees the
/// mount, and nothing remains of it if kiln is killed.
fn by_text(spec: &Overlay<'_>, attrs: Attrs) -> Result<Detached> {
    std::thread::scope(|scope| {
        let mounted = scope.spawn(|| mount_apart(spec, attrs)).join();
        mounted.unwrap_or_else(|_| {
            let source = std::io::Error::other("the thread that mounts it ended early");
            Err(FsError::new("mount", "overlay", source))
        })
    })
}

fn mount_apart(spec: &Overlay<'_>, attrs: Attrs) -> Result<Detached> {
    let own = UnshareFlags::FS | UnshareFlags::NEWNS;
    // SAFETY: descriptors stay shared; only this thread's mounts and working directory part from
    // the others', and it ends right after.
    unsafe { rustix::thread::unshare_unsafe(own) }.ctx("make mount namespace for", "overlay")?;
    make_all_private()?;
    // A directory's name in /proc is short, and needs no escapes.
    let mut open: Vec<OwnedFd> = Vec::new();
    let mut name = |path: &Path| -> Result<String> {
        let fd = open_trusted(path)?;
        let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
        open.push(fd);
        Ok(name)
    };
    let mut lowers = Vec::new();
    for lower in spec.lowers {
        lowers.push(name(lower)?);
    }
    let mut options = vec![format!("lowerdir={}", lowers.join(":"))];
    if let Some((upper, work)) = spec.upper {
        options.push(format!("upperdir={}", name(upper)?));
        options.push(format!("workdir={}", name(work)?));
    }
    options.extend(PLAIN.iter().map(|(key, value)| format!("{key}={value}")));
    options.extend(spec.flags().map(str::to_owned));
    let options = options.join(",");
    let bad = |why: &str| FsError::new("mount", "overlay", std::io::Error::other(why.to_owned()));
    if options.len() >= 4096 {
        return Err(bad(&format!(
            "{} layers are more than this kernel can stack; Linux 6.8 has no such limit",
            spec.lowers.len()
        )));
    }
    let options = CString::new(options).map_err(|_| bad("a name holds a NUL"))?;
    let target = Path::new("/proc/self");
    let target = spec.lowers.first().copied().unwrap_or(target);
    m::mount(
        "overlay",
        target,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .ctx("mount overlay at", target)?;
    let detached = Detached::clone_of(open_trusted(target)?, false)?;
    detached.set_attrs(attrs, false)?;
    Ok(detached)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Older kernels' way gives the same view, writable and read-only, and leaves no mount.
    #[test]
    #[ignore = "needs root"]
    fn the_way_of_older_kernels_mounts_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let (a, b, upper, work) = (path("a"), path("b"), path("upper"), path("work"));
        std::fs::write(a.join("x"), "top").unwrap();
        std::fs::write(b.join("x"), "bottom").unwrap();
        std::fs::write(b.join("y"), "bottom").unwrap();
        let lowers = [a.as_path(), b.as_path()];
        for upper in [None, Some((upper.as_path(), work.as_path()))] {
            let spec = Overlay {
                lowers: &lowers,
                upper,
                user_xattr: false,
            };
            let attrs = Attrs {
                read_only: upper.is_none(),
                ..Attrs::SAFE
            };
            let mount = by_text(&spec, attrs).unwrap();
            let root = mount.root().unwrap();
            assert_eq!(root.read(Path::new("x"), 10).unwrap(), b"top");
            assert_eq!(root.read(Path::new("y"), 10).unwrap(), b"bottom");
            let written = root.create_new(Path::new("z"), 0o644);
            assert_eq!(written.is_ok(), upper.is_some());
        }
        assert!(
            upper.join("z").exists(),
            "what is written is in the upper directory"
        );
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(dir.path().to_str().unwrap()));
    }
}
