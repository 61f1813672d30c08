//! Processes: clone into namespaces, pidfds, signals, identity, limits, exec.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::process::Signal;

use crate::error::{Context as _, FsError, Result};

/// `CLONE_INTO_CGROUP` of `sched.h`; libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which namespaces a child gets of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Mounts.
    pub mount: bool,
    /// Process ids.
    pub pid: bool,
    /// System V IPC and POSIX queues.
    pub ipc: bool,
    /// Host name.
    pub uts: bool,
    /// Cgroup root.
    pub cgroup: bool,
    /// Network.
    pub net: bool,
    /// Users and groups.
    pub user: bool,
}

impl Namespaces {
    fn flags(self) -> u64 {
        let all = [
            (self.mount, libc::CLONE_NEWNS),
            (self.pid, libc::CLONE_NEWPID),
            (self.ipc, libc::CLONE_NEWIPC),
            (self.uts, libc::CLONE_NEWUTS),
            (self.cgroup, libc::CLONE_NEWCGROUP),
            (self.net, libc::CLONE_NEWNET),
            (self.user, libc::CLONE_NEWUSER),
        ];
        let set = all
            .iter()
            .filter(|(on, _)| *on)
            .fold(0, |acc, (_, flag)| acc | flag);
        u64::from(set.cast_unsigned())
    }
}

/// A child process, known by pid and pidfd.
#[derive(Debug)]
pub struct Child {
    /// Its pid in the caller's namespace.
    pub pid: i32,
    /// A descriptor that becomes readable when it exits.
    pub pidfd: OwnedFd,
}

/// Has the kernel end a program when the thread that starts it is gone.
pub fn end_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let die = || die_with_parent().map_err(|e| e.source);
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing unless that
    // fails, when the child ends.
    unsafe { command.pre_exec(die) };
}

/// Has the kernel end a program, by `SIGXFSZ`, that makes a file larger than so many bytes, without a dump of
/// its memory.
pub fn limit_file_size(command: &mut std::process::Command, bytes: u64) {
    use std::os::unix::process::CommandExt as _;
    let limit = move || {
        // SAFETY: SIG_DFL is a valid disposition. Whoever started this process may have ignored the signal.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_DFL) };
        set_rlimit(libc::RLIMIT_CORE, 0, 0).map_err(|e| e.source)?;
        set_rlimit(libc::RLIMIT_FSIZE, bytes, bytes).map_err(|e| e.source)
    };
    // SAFETY: between fork and exec the closure makes three system calls and allocates nothing unless one
    // fails, when the child ends.
    unsafe { command.pre_exec(limit) };
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
}

impl Exit {
    /// The code that a shell reports: 128 + signal for a killed process.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Number of threads of this process.
pub fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Forks a child with namespaces of its own and runs `child` in it; its return value becomes the
/// exit code. `cgroup` is a cgroup v2 directory to be born in.
///
/// # Errors
/// Fails if this process has more than one thread: the child may run ordinary Rust code only
/// because no lock can be held by a thread that it does not have.
pub fn clone_into(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> Result<Child> {
    if thread_count() != 1 {
        let why = io::Error::other("the process has several threads");
        return Err(FsError::new("clone", "process", why));
    }
    let mut pidfd: libc::c_int = -1;
    // SAFETY: an all-zero clone_args is valid and means "no flags, no pointers".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces.flags() | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory and stack; `args` and `pidfd`
    // are live; the check above makes sure that no other thread exists.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    if pid == 0 {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(125);
        exit_now(code);
    }
    if pid < 0 {
        return Err(FsError::new("clone", "process", io::Error::last_os_error()));
    }
    // SAFETY: on success the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child {
        pid: i32::try_from(pid).unwrap_or(-1),
        pidfd,
    })
}

/// Ends the process without running destructors or exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Reaps `child` if it has ended.
pub fn try_wait(child: &Child) -> Result<Option<Exit>> {
    wait_with(child, libc::WNOHANG)
}

/// Waits for the end of `child` and reaps it.
pub fn wait(child: &Child) -> Result<Exit> {
    loop {
        if let Some(exit) = wait_with(child, 0)? {
            return Ok(exit);
        }
    }
}

fn wait_with(child: &Child, flags: libc::c_int) -> Result<Option<Exit>> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a live integer.
        let got = unsafe { libc::waitpid(child.pid, &raw mut status, flags) };
        if got == child.pid {
            break;
        }
        if got == 0 {
            return Ok(None);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(FsError::new("wait for", "child", error));
        }
    }
    if libc::WIFEXITED(status) {
        Ok(Some(Exit::Code(libc::WEXITSTATUS(status))))
    } else {
        Ok(Some(Exit::Signal(libc::WTERMSIG(status))))
    }
}

/// Sends a signal through a pidfd; a process that is gone is no error.
pub fn signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let signal = Signal::from_named_raw(signal)
        .ok_or_else(|| FsError::new("signal", "child", io::ErrorKind::InvalidInput))?;
    match rustix::process::pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(e) => Err(e).ctx("signal", "child"),
    }
}

/// Lets the kernel kill this process when its parent ends.
pub fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .ctx("set parent death signal of", "process")
}

/// Resets every signal to its default action and unblocks all.
pub fn reset_signals() {
    for number in 1..=64 {
        if matches!(number, libc::SIGKILL | libc::SIGSTOP) {
            continue;
        }
        // SAFETY: SIG_DFL is a valid disposition; invalid numbers are refused by the kernel.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    unblock_signals();
}

/// Undoes what a parent has done to signals: supervisors ignore or block some for themselves, and what they
/// start inherits it. To be called before any thread is there.
///
/// What a user ignores on purpose stays ignored (`nohup`, `&` in scripts): see [`is_ignored`]. A file
/// that grows beyond its limit is an error of the write.
pub fn begin_with_usual_signals() {
    // What a user ignores on purpose, and what the standard library ignores.
    let keeps = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGPIPE,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ];
    for number in (1..=64).filter(|number| !keeps.contains(number) && is_ignored(*number)) {
        // SAFETY: SIG_DFL is a valid disposition.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    // SAFETY: SIG_IGN is a valid disposition for this signal.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    unblock_signals();
}

/// Whether a signal is ignored.
pub fn is_ignored(number: i32) -> bool {
    // SAFETY: an all-zero sigaction is a valid value of this plain C structure.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is set, and the structure is live during the call.
    let done = unsafe { libc::sigaction(number, std::ptr::null(), &raw mut now) };
    done == 0 && now.sa_sigaction == libc::SIG_IGN
}

fn unblock_signals() {
    // SAFETY: an initialised empty set is passed, which unblocks every signal.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Lets this process live on when the terminal interrupts or hangs up its group.
pub fn ignore_terminal_signals() {
    for number in [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGPIPE,
    ] {
        // SAFETY: SIG_IGN is a valid disposition for these signals.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}

/// Marks every descriptor from `first` on to be closed at exec.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: close_range takes plain numbers and only sets a flag on descriptors here.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        return Ok(());
    }
    Err(FsError::new(
        "close descriptors of",
        "process",
        io::Error::last_os_error(),
    ))
}

/// Puts `fd` in the place of descriptor `number`, kept over exec.
pub fn install_fd(fd: impl AsFd, number: i32) -> Result<()> {
    // SAFETY: both are plain descriptor numbers; the source is live.
    let done = unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) };
    if done == number {
        return Ok(());
    }
    Err(FsError::new(
        "install descriptor in",
        "process",
        io::Error::last_os_error(),
    ))
}

/// Sets group list, group and user of this whole process, in this order.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    let list: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&list).ctx("set groups of", "process")?;
    let gid = Gid::from_raw(gid);
    setresgid(gid, gid, gid).ctx("set group of", "process")?;
    let uid = Uid::from_raw(uid);
    setresuid(uid, uid, uid).ctx("set user of", "process")
}

/// Keeps capabilities over the change of user that follows.
pub fn keep_caps(keep: bool) -> Result<()> {
    // SAFETY: PR_SET_KEEPCAPS takes one number.
    let done = unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(keep), 0, 0, 0) };
    if done == 0 {
        return Ok(());
    }
    Err(FsError::new(
        "keep capabilities of",
        "process",
        io::Error::last_os_error(),
    ))
}

/// Sets a resource limit by its number (`RLIMIT_*`); `u64::MAX` means unlimited.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the structure is live; unknown numbers are refused by the kernel.
    let done = unsafe { libc::setrlimit(resource, &raw const limit) };
    if done == 0 {
        return Ok(());
    }
    Err(FsError::new(
        "set limits of",
        "process",
        io::Error::last_os_error(),
    ))
}

/// Lets this process have as many files open as its hard limit says. Linux keeps the soft one low for
/// programs that use `select`.
///
/// # Errors
/// The system refuses.
pub fn raise_open_files() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).ctx("raise limit of", "open files")
}

/// The highest limit of open files that this process may set.
pub fn max_open_files() -> u64 {
    const SYS_RESOURCE: u32 = 24;
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let own = own.unwrap_or(u64::MAX);
    if !crate::caps::effective().is_ok_and(|caps| caps.contains(SYS_RESOURCE)) {
        return own;
    }
    std::fs::read_to_string("/proc/sys/fs/nr_open")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(own)
}

/// Replaces the process image. Returns only on failure.
pub fn exec(path: &CStr, argv: &[CString], envp: &[CString]) -> io::Error {
    nix::unistd::execve(path, argv, envp).map_or_else(io::Error::from, |never| match never {})
}

/// The pid of this process.
pub fn own_pid() -> u32 {
    std::process::id()
}
