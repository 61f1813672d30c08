//! The helper process that starts sandboxes, and the handle on it.
//!
//! It is forked before any thread exists, so the children that it clones may run ordinary code
//! until they execute the command. It ends, and kills what it started, when the process that
//! started it is gone.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_sys::cgroup::{Group, Hierarchies};
use kiln_sys::devices::{DeviceFilter, DeviceRule};
use kiln_sys::idmap::IdMap;
use kiln_sys::mount::{self, Detached};
use kiln_sys::process::{self, Child, Exit, Namespaces};
use kiln_sys::{FsError, fdpass};
use oci_spec::runtime::LinuxNamespaceType;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Error, Result};
use crate::sandbox::{self, IdMaps, Launch, MountSource, Report};

/// The streams of a new sandbox.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
    /// A socket to which the controlling side of the sandbox's terminal is sent; `None` for no
    /// terminal.
    pub console: Option<OwnedFd>,
}

/// How a sandbox ended.
#[derive(Debug)]
pub struct Event {
    /// The exit of its first process.
    pub exit: Exit,
    /// What the child told: mount points made, and why it could not start.
    pub reports: Vec<Report>,
}

type Waiter = Box<dyn FnOnce(Result<Event>) + Send>;

/// The handle on the helper process. Cloning it shares the helper.
#[derive(Clone)]
pub struct Spawner {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Spawner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spawner").finish_non_exhaustive()
    }
}

struct Shared {
    socket: OwnedFd,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, (OwnedFd, Waiter)>>,
    reader: std::sync::Once,
    helper: Child,
}

const LAUNCH: u8 = b'L';
const SIGNAL: u8 = b'S';
const PROBE: u8 = b'P';
const EXITED: u8 = b'X';
const FAILED: u8 = b'F';

fn message(kind: u8, id: u64, value: i32) -> [u8; 13] {
    let mut out = [0; 13];
    out[0] = kind;
    out[1..9].copy_from_slice(&id.to_le_bytes());
    out[9..].copy_from_slice(&value.to_le_bytes());
    out
}

fn parse(bytes: &[u8]) -> Option<(u8, u64, i32)> {
    let id = u64::from_le_bytes(bytes.get(1..9)?.try_into().ok()?);
    let value = i32::from_le_bytes(bytes.get(9..13)?.try_into().ok()?);
    Some((*bytes.first()?, id, value))
}

impl Spawner {
    /// Forks the helper. Must be called while the process has one thread.
    ///
    /// # Errors
    /// Several threads, or no resources for a process.
    pub fn start() -> Result<Self> {
        let (ours, theirs) = fdpass::pair()?;
        let (mut ours, mut theirs) = (Some(ours), Some(theirs));
        let helper = process::clone_into(Namespaces::default(), None, || {
            // The child's copies: it must not hold the other end open.
            ours = None;
            if let Some(socket) = theirs.take() {
                Helper::new(socket).serve();
            }
            0
        })?;
        let socket = ours.take().ok_or(Error::SpawnerGone)?;
        let shared = Shared {
            socket,
            next: AtomicU64::new(1),
            waiting: Mutex::new(HashMap::new()),
            reader: std::sync::Once::new(),
            helper,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Starts a sandbox; `done` is called once, from another thread, when it has ended. The
    /// returned number names it for [`Spawner::signal`].
    ///
    /// # Errors
    /// The helper is gone, or the description cannot be passed on.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "this process must not keep the streams open"
    )]
    pub fn launch(
        &self,
        launch: &Launch,
        stdio: Stdio,
        done: impl FnOnce(Result<Event>) + Send + 'static,
    ) -> Result<u64> {
        let bytes = serde_json::to_vec(launch).map_err(|e| Error::Spec(e.to_string()))?;
        let spec = fdpass::memory_file(&bytes)?;
        let (report_out, report_in) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| FsError::new("make", "pipe", e))?;
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let mut fds: Vec<BorrowedFd<'_>> = vec![
            spec.as_fd(),
            report_in.as_fd(),
            stdio.stdin.as_fd(),
            stdio.stdout.as_fd(),
            stdio.stderr.as_fd(),
        ];
        fds.extend(stdio.console.as_ref().map(AsFd::as_fd));
        self.waiting().insert(id, (report_out, Box::new(done)));
        if let Err(e) = fdpass::send(&self.shared.socket, &message(LAUNCH, id, 0), &fds) {
            self.waiting().remove(&id);
            return Err(e.into());
        }
        self.read_answers();
        Ok(id)
    }

    /// Asks whether files of a user and group below a directory can be shown as root's in a mount; `done`
    /// is told, from another thread.
    ///
    /// # Errors
    /// The helper is gone, or the directory cannot be opened.
    pub fn can_show_as_root(
        &self,
        dir: &Path,
        owner: (u32, u32),
        done: impl FnOnce(bool) + Send + 'static,
    ) -> Result<()> {
        let dir = mount::open_trusted(dir)?;
        let bytes = serde_json::to_vec(&owner).map_err(|e| Error::Spec(e.to_string()))?;
        let text = fdpass::memory_file(&bytes)?;
        let (report_out, report_in) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| FsError::new("make", "pipe", e))?;
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let fds = [text.as_fd(), report_in.as_fd(), dir.as_fd()];
        let done = |answer: Result<Event>| {
            done(answer.is_ok_and(|event| matches!(event.exit, Exit::Code(0))));
        };
        self.waiting().insert(id, (report_out, Box::new(done)));
        if let Err(e) = fdpass::send(&self.shared.socket, &message(PROBE, id, 0), &fds) {
            self.waiting().remove(&id);
            return Err(e.into());
        }
        self.read_answers();
        Ok(())
    }

    /// Sends a signal to the first process of a sandbox; one that has ended is no error.
    ///
    /// # Errors
    /// The helper is gone.
    pub fn signal(&self, id: u64, signal: i32) -> Result<()> {
        Ok(fdpass::send(
            &self.shared.socket,
            &message(SIGNAL, id, signal),
            &[],
        )?)
    }

    /// Ends the helper and everything that it started, and waits until they are gone.
    pub fn stop(&self) {
        // It ends when it finds the socket closed; waiting can only fail if it is gone.
        let _ = rustix::net::shutdown(&self.shared.socket, rustix::net::Shutdown::Both);
        let _ = process::wait(&self.shared.helper);
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, (OwnedFd, Waiter)>> {
        self.shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread that hears from the helper, once.
    fn read_answers(&self) {
        self.shared.reader.call_once(|| {
            let this = self.clone();
            std::thread::spawn(move || {
                let mut buffer = [0_u8; 64];
                loop {
                    let got = fdpass::receive(&this.shared.socket, &mut buffer);
                    let Some((kind, id, value)) = got.ok().and_then(|(n, _)| parse(&buffer[..n]))
                    else {
                        break;
                    };
                    this.finish(kind, id, value);
                }
                // Whoever still waits would wait for ever.
                let left: Vec<_> = this.waiting().drain().collect();
                for (_, (_, waiter)) in left {
                    waiter(Err(Error::SpawnerGone));
                }
            });
        });
    }

    fn finish(&self, kind: u8, id: u64, value: i32) {
        let Some((reports, waiter)) = self.waiting().remove(&id) else {
            return;
        };
        let mut text = Vec::new();
        // The write end is closed by now: the child is gone, and exec closed it before.
        let _ = std::fs::File::from(reports)
            .take(1 << 20)
            .read_to_end(&mut text);
        let reports = text
            .split(|b| *b == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        let exit = if value < 0 {
            Exit::Signal(-value)
        } else {
            Exit::Code(value)
        };
        waiter(match kind {
            EXITED => Ok(Event { exit, reports }),
            _ => Err(Error::System(FsError::new(
                "start",
                "sandbox",
                std::io::Error::from_raw_os_error(value),
            ))),
        });
    }
}

struct Helper {
    socket: OwnedFd,
    children: HashMap<u64, (Child, Option<Group>)>,
    groups: Option<std::path::PathBuf>,
    /// The program that was used last: most sandboxes have the same devices.
    filter: Option<(Vec<DeviceRule>, DeviceFilter)>,
    /// Of all owners that were asked for.
    maps: IdMaps,
    /// Groups whose processes are on their way out: the next step does not wait for them.
    emptying: Vec<Group>,
}

impl Helper {
    fn new(socket: OwnedFd) -> Self {
        // Ctrl-C reaches the whole group; the helper waits for its parent's decision.
        process::ignore_terminal_signals();
        let groups = Hierarchies::detect().ok().and_then(|h| h.unified);
        Self {
            socket,
            children: HashMap::new(),
            groups,
            filter: None,
            maps: IdMaps::new(),
            emptying: Vec::new(),
        }
    }

    fn serve(mut self) {
        let mut buffer = [0_u8; 64];
        loop {
            self.emptying.retain(|group| !group.try_remove());
            let (asked, ended) = self.poll();
            for id in ended {
                self.reap(id);
            }
            if asked {
                match fdpass::receive(&self.socket, &mut buffer) {
                    Ok((n, fds)) if n > 0 => self.handle(&buffer[..n], fds),
                    _ => break,
                }
            }
        }
        for (child, group) in self.children.values() {
            let _ = process::signal(&child.pidfd, 9);
            if let Some(group) = group {
                group.kill();
            }
        }
        for (_, (child, group)) in self.children.drain() {
            let _ = process::wait(&child);
            drop(group);
        }
    }

    /// Waits for a request or for the end of children.
    fn poll(&self) -> (bool, Vec<u64>) {
        let mut ids = vec![0];
        let mut fds = vec![PollFd::new(&self.socket, PollFlags::IN)];
        for (id, (child, _)) in &self.children {
            ids.push(*id);
            fds.push(PollFd::new(&child.pidfd, PollFlags::IN));
        }
        // With groups to remove, look again soon.
        let soon = Timespec {
            tv_sec: 0,
            tv_nsec: 2_000_000,
        };
        let patience = (!self.emptying.is_empty()).then_some(&soon);
        if poll(&mut fds, patience).is_err() {
            return (false, Vec::new());
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let ended = ids
            .iter()
            .zip(&ready)
            .skip(1)
            .filter(|(_, r)| **r)
            .map(|(id, _)| *id);
        (ready[0], ended.collect())
    }

    fn reap(&mut self, id: u64) {
        let Some((child, group)) = self.children.remove(&id) else {
            return;
        };
        match process::try_wait(&child) {
            Ok(None) => {
                self.children.insert(id, (child, group));
                return;
            }
            Ok(Some(exit)) => {
                let value = match exit {
                    Exit::Code(code) => code,
                    Exit::Signal(signal) => -signal,
                };
                let _ = fdpass::send(&self.socket, &message(EXITED, id, value), &[]);
            }
            Err(e) => {
                let errno = e.source.raw_os_error().unwrap_or(0);
                let _ = fdpass::send(&self.socket, &message(FAILED, id, errno), &[]);
            }
        }
        self.emptying.extend(group);
    }

    fn handle(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) {
        match parse(bytes) {
            Some((LAUNCH, id, _)) => {
                if let Err(e) = self.start(id, fds) {
                    let errno = match e {
                        Error::System(e) => e.source.raw_os_error().unwrap_or(0),
                        _ => 0,
                    };
                    let _ = fdpass::send(&self.socket, &message(FAILED, id, errno), &[]);
                }
            }
            Some((PROBE, id, _)) => {
                let answer = match self.probe(fds) {
                    Ok(()) => message(EXITED, id, 0),
                    Err(_) => message(EXITED, id, 1),
                };
                let _ = fdpass::send(&self.socket, &answer, &[]);
            }
            Some((SIGNAL, id, signal)) => {
                if let Some((child, group)) = self.children.get(&id) {
                    let _ = process::signal(&child.pidfd, signal);
                    if signal == 9
                        && let Some(group) = group
                    {
                        group.kill();
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether a directory can be mounted with the files of an owner as root's.
    fn probe(&mut self, fds: Vec<OwnedFd>) -> Result<()> {
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or(Error::SpawnerGone);
        let (owner, _reports, dir) = (next()?, next()?, next()?);
        let owner = serde_json::from_reader(std::fs::File::from(owner))
            .map_err(|e| Error::Spec(e.to_string()))?;
        let map = self.map_of(owner).ok_or(Error::SpawnerGone)?;
        Detached::clone_of(dir, false)?.set_id_map(map)?;
        Ok(())
    }

    /// The map that shows files of an owner as root's.
    fn map_of(&mut self, owner: (u32, u32)) -> Option<&IdMap> {
        let map = || IdMap::swapping_root_with(owner.0, owner.1).ok();
        self.maps.entry(owner).or_insert_with(map).as_ref()
    }

    /// Restricts the devices of a group; returns whether that was possible.
    fn guard(&mut self, rules: Vec<DeviceRule>, group: Option<&OwnedFd>) -> bool {
        let Some(group) = group else { return false };
        if self.filter.as_ref().is_none_or(|(of, _)| *of != rules) {
            let Ok(filter) = DeviceFilter::load(&rules) else {
                return false;
            };
            self.filter = Some((rules, filter));
        }
        let filter = self.filter.as_ref();
        filter.is_some_and(|(_, filter)| filter.attach(group.as_fd()).is_ok())
    }

    fn start(&mut self, id: u64, fds: Vec<OwnedFd>) -> Result<()> {
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or(Error::SpawnerGone);
        let (spec, reports) = (next()?, next()?);
        let (stdin, stdout, stderr) = (next()?, next()?, next()?);
        let mut streams = Some(sandbox::Streams {
            stdin,
            stdout,
            stderr,
            console: next().ok(),
        });
        let mut text = Vec::new();
        let mut spec = std::fs::File::from(spec);
        spec.read_to_end(&mut text)
            .map_err(|e| FsError::new("read", "launch", e))?;
        let mut launch: Launch =
            serde_json::from_slice(&text).map_err(|e| Error::Spec(e.to_string()))?;
        // Without a writable group hierarchy the pid namespace alone holds the step together.
        let group = self
            .groups
            .as_ref()
            .and_then(|at| Group::create(at, &format!("kiln-{}-{id}", process::own_pid())).ok());
        let born_in = group.as_ref().and_then(|g| g.open().ok());
        if let Some(rules) = launch.device_rules()
            && !self.guard(rules, born_in.as_ref())
        {
            sandbox::without_devices(&mut launch)?;
        }
        for mount in &launch.mounts {
            if let MountSource::Layers {
                owner: Some(owner), ..
            } = mount.source
            {
                self.map_of(owner);
            }
        }
        let maps = &self.maps;
        let child = process::clone_into(
            namespaces(&launch),
            born_in.as_ref().map(AsFd::as_fd),
            || {
                let mut pipe = std::fs::File::from(reports);
                let mut report = |r: Report| {
                    if let Ok(mut line) = serde_json::to_vec(&r) {
                        line.push(b'\n');
                        let _ = pipe.write_all(&line);
                    }
                };
                match streams.take() {
                    Some(streams) => sandbox::run(&launch, maps, streams, &mut report),
                    None => 125,
                }
            },
        )?;
        self.children.insert(id, (child, group));
        Ok(())
    }
}

fn namespaces(launch: &Launch) -> Namespaces {
    let mut out = Namespaces::default();
    let list = launch
        .spec
        .linux()
        .as_ref()
        .and_then(|l| l.namespaces().clone());
    for namespace in list.into_iter().flatten() {
        match namespace.typ() {
            LinuxNamespaceType::Mount => out.mount = true,
            LinuxNamespaceType::Pid => out.pid = true,
            LinuxNamespaceType::Ipc => out.ipc = true,
            LinuxNamespaceType::Uts => out.uts = true,
            LinuxNamespaceType::Cgroup => out.cgroup = true,
            LinuxNamespaceType::Network => out.net = true,
            LinuxNamespaceType::User => out.user = true,
            LinuxNamespaceType::Time => {}
        }
    }
    out
}
