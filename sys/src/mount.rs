//! Mounts through file descriptors: the new mount API, and the few old calls that remain.
//!
//! A mount made here hangs on a descriptor until it is attached. One that never is attached
//! disappears with its descriptor, so a crash leaves nothing behind.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    self as m, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags,
    MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::RootDir;
use crate::error::{Context as _, FsError, Result};

/// Attributes of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    /// Nothing can be written through it.
    pub read_only: bool,
    /// Set-id bits and file capabilities have no effect.
    pub nosuid: bool,
    /// Device nodes cannot be opened.
    pub nodev: bool,
    /// Nothing can be executed.
    pub noexec: bool,
}

impl Attrs {
    /// `nosuid,nodev,noexec`.
    pub const SAFE: Self = Self {
        read_only: false,
        nosuid: true,
        nodev: true,
        noexec: true,
    };

    pub(crate) fn mount_flags(self) -> MountAttrFlags {
        let mut flags = MountAttrFlags::empty();
        flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, self.read_only);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOSUID, self.nosuid);
        flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, self.nodev);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, self.noexec);
        flags
    }
}

/// A mount that hangs on a descriptor and is attached nowhere yet.
#[derive(Debug)]
pub struct Detached(pub(crate) OwnedFd);

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the kernel wrote into the context's log, which says more than an errno.
fn kernel_log(context: &OwnedFd) -> Option<String> {
    let mut out = Vec::new();
    let mut buf = [0_u8; 1024];
    while let Ok(len) = rustix::io::read(context, &mut buf) {
        if len == 0 || out.len() > 8 {
            break;
        }
        out.push(String::from_utf8_lossy(&buf[..len]).trim().to_owned());
    }
    (!out.is_empty()).then(|| out.join("; "))
}

pub(crate) fn explain<T>(
    result: rustix::io::Result<T>,
    context: &OwnedFd,
    op: &'static str,
    path: &str,
) -> Result<T> {
    result.map_err(|errno| {
        let source = match kernel_log(context) {
            Some(log) => {
                let base = std::io::Error::from(errno);
                std::io::Error::new(base.kind(), format!("{base} ({log})"))
            }
            None => errno.into(),
        };
        FsError::new(op, path, source)
    })
}

/// Mounts a file system of type `fstype` with string options (`("mode", "755")`) and flags
/// (`("ro", "")`). `/proc/mounts` shows the type as its source too, unless an option says otherwise.
pub fn filesystem(fstype: &str, options: &[(&str, &str)], attrs: Attrs) -> Result<Detached> {
    let context = m::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).ctx("open file system", fstype)?;
    let named = options.iter().any(|(key, _)| *key == "source");
    let own = ("source", fstype);
    let source = (!named).then_some(&own);
    for (key, value) in source.into_iter().chain(options) {
        let done = if value.is_empty() {
            m::fsconfig_set_flag(context.as_fd(), *key)
        } else {
            m::fsconfig_set_string(context.as_fd(), *key, *value)
        };
        explain(
            done,
            &context,
            "configure mount of",
            &format!("{fstype} {key}={value}"),
        )?;
    }
    explain(
        m::fsconfig_create(context.as_fd()),
        &context,
        "mount",
        fstype,
    )?;
    let mount = m::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attrs.mount_flags(),
    );
    Ok(Detached(explain(mount, &context, "mount", fstype)?))
}

impl Detached {
    /// A private copy of the mount at `fd` (a file or directory opened in this mount namespace).
    pub fn clone_of(fd: impl AsFd, recursive: bool) -> Result<Self> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        if recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        Ok(Self(
            m::open_tree(fd.as_fd(), "", flags).ctx("bind", "mount source")?,
        ))
    }

    /// Changes attributes of the mount, and of all below it if `recursive`.
    pub fn set_attrs(&self, attrs: Attrs, recursive: bool) -> Result<()> {
        let attr = libc::mount_attr {
            attr_set: u64::from(attrs.mount_flags().bits()),
            attr_clr: 0,
            propagation: 0,
            userns_fd: 0,
        };
        self.set_attr(&attr, recursive)
    }

    pub(crate) fn set_attr(&self, attr: &libc::mount_attr, recursive: bool) -> Result<()> {
        mount_setattr(self.0.as_fd(), attr, recursive)
    }

    /// Attaches the mount over the directory or file that `target` refers to.
    pub fn attach(&self, target: impl AsFd) -> Result<()> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        m::move_mount(self.0.as_fd(), "", target.as_fd(), "", flags)
            .ctx("attach mount at", "target")
    }

    /// The root of the mounted tree. Paths below it cannot leave it.
    pub fn root(&self) -> Result<RootDir> {
        Ok(RootDir::from(
            self.0.try_clone().ctx("duplicate", "mount handle")?,
        ))
    }
}

fn mount_setattr(fd: BorrowedFd<'_>, attr: &libc::mount_attr, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let empty: &CStr = c"";
    // SAFETY: the descriptor, the NUL-terminated path and the structure outlive the call, and the
    // size passed is the structure's own.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            empty.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        return Ok(());
    }
    Err(FsError::new(
        "set attributes of",
        "mount",
        std::io::Error::last_os_error(),
    ))
}

/// Makes every mount of this namespace private, so that nothing done here is seen outside.
pub fn make_all_private() -> Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    m::mount_change("/", flags).ctx("make mounts private below", "/")
}

/// Makes the tree of `root` the root file system of this process and detaches the old one.
pub fn pivot_into(root: impl AsFd) -> Result<()> {
    rustix::process::fchdir(root.as_fd()).ctx("enter", "new root")?;
    // Old and new root on one spot: the old one ends up on top and is unmounted by ".".
    rustix::process::pivot_root(".", ".").ctx("pivot into", "new root")?;
    m::unmount(".", UnmountFlags::DETACH).ctx("detach", "old root")?;
    rustix::process::chdir("/").ctx("enter", "/")
}

/// Mounts over a directory by path; for process-private set-up such as `/proc` of a debugger.
pub fn mount_at(fstype: &str, target: &Path, data: &str) -> Result<()> {
    let bad = |_| {
        FsError::new(
            "mount",
            target,
            std::io::Error::from(std::io::ErrorKind::InvalidInput),
        )
    };
    let data = CString::new(data).map_err(bad)?;
    CString::new(target.as_os_str().as_bytes()).map_err(bad)?;
    m::mount(
        fstype,
        target,
        fstype,
        MountFlags::NOSUID | MountFlags::NODEV,
        data.as_c_str(),
    )
    .ctx("mount", target)
}

/// Brings a fresh network namespace's loopback interface up.
pub fn loopback_up() -> Result<()> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )
    .ctx("open socket for", "lo")?;
    // SAFETY: an all-zero ifreq is a valid value of this plain C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(1);
    // SAFETY: the request is a live, initialised ifreq, as SIOCSIFFLAGS wants it.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == 0 {
        return Ok(());
    }
    Err(FsError::new(
        "bring up",
        "lo",
        std::io::Error::last_os_error(),
    ))
}

/// Opens a trusted path of this mount namespace as a reference.
pub fn open_trusted(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ctx("open", path)
}
