//! What the child does between its birth and the command: mounts, limits, identity, exec.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use kiln_sys::caps::{self, CapSet};
use kiln_sys::seccomp::{self, Instruction};
use kiln_sys::{FileKind, FsError, RootDir, fdpass, landlock, mount, process, pty};
use oci_spec::runtime::LinuxNamespaceType;

use crate::error::{Error, Result};
use crate::launch::{IdMaps, Launch, Report};
use crate::mounts::{Mounted, mount_all};
use crate::user;

/// The descriptors that a child is born with.
pub(crate) struct Streams {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// Where the controlling side of the terminal is sent, if there is one.
    pub(crate) console: Option<OwnedFd>,
}

/// Sets the sandbox up and executes the command. Comes back only if that fails, with the exit
/// code; what happened has been given to `report`.
pub(crate) fn run(
    launch: &Launch,
    maps: &IdMaps,
    streams: Streams,
    report: &mut dyn FnMut(Report),
) -> i32 {
    let error = match enter(launch, maps, streams, report) {
        Ok(never) => match never {},
        Err(e) => e,
    };
    let (code, message) = match error {
        Error::CommandNotFound(name) => (127, Report::NotFound(name)),
        Error::CommandNotExecutable(name, why) => (126, Report::NotExecutable(name, why)),
        Error::User { spec, why } => (125, Report::User(spec, why)),
        Error::Setup(text) => (125, Report::Failed(text)),
        other => (125, Report::Failed(other.to_string())),
    };
    report(message);
    code
}

fn enter(
    launch: &Launch,
    maps: &IdMaps,
    streams: Streams,
    report: &mut dyn FnMut(Report),
) -> Result<Infallible> {
    let incomplete = || Error::Spec("process and linux sections are missing".into());
    let spec_process = launch.spec.process().as_ref().ok_or_else(incomplete)?;
    let linux = launch.spec.linux().as_ref().ok_or_else(incomplete)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    mount::make_all_private()?;
    let own_net = linux
        .namespaces()
        .iter()
        .flatten()
        .any(|n| n.typ() == LinuxNamespaceType::Network);
    if own_net {
        mount::loopback_up()?;
    }
    let Mounted { root, pts } = mount_all(launch, maps, report)?;
    if let Some(name) = launch.spec.hostname() {
        rustix::system::sethostname(name.as_bytes())
            .map_err(|e| FsError::new("set host name of", "sandbox", e))?;
    }
    // Looked up before the pivot, below the root's descriptor: a link in /etc leads nowhere else.
    let who = user::resolve(&root, &launch.user)?;
    mount::pivot_into(&root)?;
    let root = RootDir::open_trusted(Path::new("/"))?;
    let own_terminal = attach_streams(streams, pts.as_ref())?;
    give_streams(who.uid, own_terminal);
    for limit in spec_process.rlimits().iter().flatten() {
        process::set_rlimit(rlimit_number(limit.typ()), limit.soft(), limit.hard())?;
    }
    enter_directory(&root, spec_process.cwd(), launch.create_cwd)?;
    let mut env: Vec<String> = spec_process.env().clone().unwrap_or_default();
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", who.home));
    }
    let argv = spec_process.args().clone().unwrap_or_default();
    process::close_on_exec_from(3)?;
    drop_privileges(launch, spec_process, &who)?;
    // Set last: the kernel forgets it when the user changes.
    process::die_with_parent()?;
    execute(&argv, &env)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the originals are closed when it is done"
)]
fn attach_streams(streams: Streams, pts: Option<&RootDir>) -> Result<bool> {
    if let (Some(console), Some(pts)) = (&streams.console, pts) {
        let pair = pty::open_in(pts)?;
        fdpass::send(console, b"t", &[std::os::fd::AsFd::as_fd(&pair.master)])?;
        pty::take_control(&pair.slave)?;
        for number in 0..3 {
            process::install_fd(&pair.slave, number)?;
        }
        // The terminal also has the fixed name that some programs look for.
        if let Ok(dev) = RootDir::open_trusted(Path::new("/dev"))
            && let Ok(file) = dev.create_new(Path::new("console"), 0o600)
        {
            drop(file);
            let target = dev.open_path_nofollow(Path::new("console"))?;
            mount::Detached::clone_of(&pair.slave, false)?.attach(target)?;
        }
        return Ok(true);
    }
    rustix::process::setsid().map_err(|e| FsError::new("start", "session", e))?;
    for (fd, number) in [
        (&streams.stdin, 0),
        (&streams.stdout, 1),
        (&streams.stderr, 2),
    ] {
        process::install_fd(fd, number)?;
    }
    Ok(false)
}

/// Makes the user of the process the owner of its standard streams, as runc does: opening
/// `/dev/stdout` opens the pipe, file or terminal behind it once more, which asks for its mode.
/// The group stays, since a terminal's is that of `tty`. Pipes change hands, and the sandbox's
/// `own_terminal`; never a terminal or file of the host.
fn give_streams(uid: u32, own_terminal: bool) {
    use std::os::fd::AsFd as _;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        let Ok(st) = RootDir::stat_of(fd) else {
            continue;
        };
        let given = match st.kind {
            FileKind::Fifo | FileKind::Socket => true,
            FileKind::CharDevice => own_terminal,
            _ => false,
        };
        // What cannot change hands still works through the descriptor.
        if given && st.uid != uid {
            let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None);
        }
    }
}

fn enter_directory(root: &RootDir, cwd: &Path, create: bool) -> Result<()> {
    let below = cwd.strip_prefix("/").unwrap_or(cwd);
    let dir = match root.sub_dir(below) {
        Ok(dir) => dir,
        Err(e) if create && e.kind() == std::io::ErrorKind::NotFound => {
            root.mkdir_all(below, 0o755, &mut |_, _| Ok(()))?
        }
        Err(e) => {
            return Err(Error::Setup(format!(
                "working directory `{}`: {e}",
                cwd.display()
            )));
        }
    };
    rustix::process::fchdir(&dir).map_err(|e| FsError::new("enter", cwd, e))?;
    // A directory outside the root, reached by a leaked descriptor, has no absolute path here.
    let here = rustix::process::getcwd(Vec::new()).map_err(|e| FsError::new("enter", cwd, e))?;
    if here.as_bytes().first() != Some(&b'/') {
        return Err(Error::Setup(format!(
            "working directory `{}` is outside the root",
            cwd.display()
        )));
    }
    Ok(())
}

fn rlimit_number(kind: oci_spec::runtime::PosixRlimitType) -> u32 {
    use oci_spec::runtime::PosixRlimitType as T;
    match kind {
        T::RlimitCpu => 0,
        T::RlimitFsize => 1,
        T::RlimitData => 2,
        T::RlimitStack => 3,
        T::RlimitCore => 4,
        T::RlimitRss => 5,
        T::RlimitNproc => 6,
        T::RlimitNofile => 7,
        T::RlimitMemlock => 8,
        T::RlimitAs => 9,
        T::RlimitLocks => 10,
        T::RlimitSigpending => 11,
        T::RlimitMsgqueue => 12,
        T::RlimitNice => 13,
        T::RlimitRtprio => 14,
        T::RlimitRttime => 15,
    }
}

fn cap_set(
    set: Option<&std::collections::HashSet<oci_spec::runtime::Capability>>,
) -> Result<CapSet> {
    let names: Vec<String> = set.into_iter().flatten().map(ToString::to_string).collect();
    CapSet::parse(names.iter().map(String::as_str))
        .map_err(|name| Error::Spec(format!("unknown capability {name}")))
}

fn drop_privileges(
    launch: &Launch,
    spec: &oci_spec::runtime::Process,
    who: &user::Identity,
) -> Result<()> {
    let caps = spec.capabilities().as_ref();
    let bounding = cap_set(caps.and_then(|c| c.bounding().as_ref()))?;
    let permitted = cap_set(caps.and_then(|c| c.permitted().as_ref()))?;
    let effective = cap_set(caps.and_then(|c| c.effective().as_ref()))?;
    caps::limit_bounding(bounding)?;
    if spec.no_new_privileges() == Some(true) {
        seccomp::no_new_privs()?;
    }
    if launch.sockets_apart {
        // What an older kernel cannot do, `docs/sandbox.md` tells of.
        landlock::leave_abstract_sockets()?;
    }
    if let Some(filter) = &launch.filter {
        let program: Vec<Instruction> = filter
            .iter()
            .map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k })
            .collect();
        seccomp::load(&program)?;
    }
    process::keep_caps(true)?;
    let further = spec.user().additional_gids().iter().flatten();
    let groups: Vec<u32> = who.groups.iter().chain(further).copied().collect();
    process::become_user(who.uid, who.gid, &groups)?;
    process::keep_caps(false)?;
    let none = CapSet::default();
    let effective = if who.uid == 0 { effective } else { none };
    let permitted = if who.uid == 0 { permitted } else { none };
    caps::set(effective, permitted, none, none)?;
    process::reset_signals();
    Ok(())
}

fn c_strings(list: &[String]) -> Result<Vec<CString>> {
    list.iter()
        .map(|s| {
            CString::new(s.as_str()).map_err(|_| Error::Setup(format!("`{s}` has a NUL byte")))
        })
        .collect()
}

fn execute(argv: &[String], env: &[String]) -> Result<Infallible> {
    let name = argv
        .first()
        .ok_or_else(|| Error::Setup("no command given".into()))?;
    let args = c_strings(argv)?;
    let vars = c_strings(env)?;
    let mut denied = None;
    for candidate in candidates(name, env) {
        let path = CString::new(candidate.as_str())
            .map_err(|_| Error::Setup(format!("`{candidate}` has a NUL byte")))?;
        let error = process::exec(&path, &args, &vars);
        match error.kind() {
            std::io::ErrorKind::NotFound if Path::new(&candidate).exists() => {
                let why = why_not_found(Path::new(&candidate));
                return Err(Error::CommandNotExecutable(name.clone(), why));
            }
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {}
            _ => denied = denied.or(Some(error)),
        }
    }
    match denied {
        Some(error) => Err(Error::CommandNotExecutable(name.clone(), error.to_string())),
        None => Err(Error::CommandNotFound(name.clone())),
    }
}

/// Why a file that is there cannot be found when it is executed.
fn why_not_found(script: &Path) -> String {
    use std::io::Read as _;
    let mut head = Vec::new();
    if let Ok(file) = std::fs::File::open(script) {
        // As much as the kernel reads of it; what cannot be read tells nothing.
        let _ = file.take(256).read_to_end(&mut head);
    }
    let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if head.starts_with(b"#!") && first.ends_with(b"\r") {
        return "its first line ends with a carriage return, which counts as part of its \
                interpreter's name: store it with line ends of Unix"
            .to_owned();
    }
    "its interpreter or dynamic loader is not in the image".to_owned()
}

/// The paths at which a command may be, as execvp looks for it.
fn candidates(name: &str, env: &[String]) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path = env
        .iter()
        .find_map(|e| e.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    path.split(':')
        .map(|dir| {
            if dir.is_empty() {
                format!("./{name}")
            } else {
                format!("{dir}/{name}")
            }
        })
        .collect()
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
