//! The helper process: what it does until its parent is gone.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use kiln_sys::cgroup::{self, CgroupLimits, Group, GroupList, Hierarchies, Limited};
use kiln_sys::devices::{DeviceFilter, DeviceRule};
use kiln_sys::idmap::IdMap;
use kiln_sys::mount::Detached;
use kiln_sys::process::{self, Child, Exit, Namespaces};
use kiln_sys::{FsError, fdpass};
use oci_spec::runtime::LinuxNamespaceType;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{EXITED, FAILED, LAUNCH, PROBE, SIGNAL, STARVED, message, parse};
use crate::error::{Error, Result};
use crate::launch::{IdMaps, Launch, MountSource, Report};
use crate::{describe, init};

/// A sandbox that runs, and what it is held together by.
struct Running {
    child: Child,
    group: Option<Group>,
    limited: Limited,
}

pub(super) struct Helper {
    socket: OwnedFd,
    children: HashMap<u64, Running>,
    hierarchies: Hierarchies,
    /// Tells its groups from those of a process with the same id in another namespace.
    number: u32,
    /// Whether processes can be born into groups; not known before the first one.
    can_be_born_in: Option<bool>,
    /// The program that was used last: most sandboxes have the same devices.
    filter: Option<(Vec<DeviceRule>, DeviceFilter)>,
    /// Of all owners that were asked for.
    maps: IdMaps,
    /// Groups whose processes are on their way out: the next step does not wait for them.
    emptying: Vec<Group>,
    /// The parent cannot be told anything any more.
    is_cut_off: bool,
}

/// How often, and how long one after the other, the parent is told something that it has not heard.
const TELLS: usize = 20;
const TELL_INTERVAL: Duration = Duration::from_millis(10);

impl Helper {
    pub(super) fn new(socket: OwnedFd) -> Self {
        // Ctrl-C reaches the whole group; the helper waits for its parent's decision.
        process::ignore_terminal_signals();
        let mut random = [0; 4];
        // Without random numbers its id is left.
        let _ = kiln_sys::system::random(&mut random);
        let mut hierarchies = Hierarchies::detect().unwrap_or_default();
        let lists = Path::new(cgroup::FOLDER);
        cgroup::sweep(lists);
        // Where it cannot be written, groups are left by a kill.
        hierarchies.list = GroupList::begin(lists).ok();
        Self {
            socket,
            children: HashMap::new(),
            hierarchies,
            number: u32::from_le_bytes(random),
            can_be_born_in: None,
            filter: None,
            maps: IdMaps::new(),
            emptying: Vec::new(),
            is_cut_off: false,
        }
    }

    pub(super) fn serve(mut self) {
        let mut buffer = [0_u8; 64];
        while !self.is_cut_off {
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
        for running in self.children.values() {
            let _ = process::signal(&running.child.pidfd, 9);
            if let Some(group) = &running.group {
                group.kill();
            }
        }
        for (_, running) in self.children.drain() {
            let _ = process::wait(&running.child);
            drop(running);
        }
    }

    /// Tells the parent something. What it does not hear it would wait for for ever: where memory is short it
    /// is told a little later, and else all ends here, which it does notice.
    fn tell(&mut self, message: &[u8]) {
        for _ in 0..TELLS {
            match fdpass::send(&self.socket, message, &[]) {
                Ok(()) => return,
                Err(_) => std::thread::sleep(TELL_INTERVAL),
            }
        }
        self.is_cut_off = true;
    }

    /// Waits for a request or for the end of children.
    fn poll(&self) -> (bool, Vec<u64>) {
        let mut ids = vec![0];
        let mut fds = vec![PollFd::new(&self.socket, PollFlags::IN)];
        for (id, running) in &self.children {
            ids.push(*id);
            fds.push(PollFd::new(&running.child.pidfd, PollFlags::IN));
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
        let Some(running) = self.children.remove(&id) else {
            return;
        };
        match process::try_wait(&running.child) {
            Ok(None) => {
                self.children.insert(id, running);
                return;
            }
            Ok(Some(exit)) => {
                let value = match exit {
                    Exit::Code(code) => code,
                    Exit::Signal(signal) => -signal,
                };
                let kind = match running.limited.ran_out_of_memory() {
                    true => STARVED,
                    false => EXITED,
                };
                self.tell(&message(kind, id, value));
            }
            Err(e) => {
                let errno = e.source.raw_os_error().unwrap_or(0);
                self.tell(&message(FAILED, id, errno));
            }
        }
        self.emptying.extend(running.group);
        self.emptying.extend(running.limited.into_groups());
    }

    fn handle(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) {
        match parse(bytes) {
            Some((LAUNCH, id, _)) => {
                let reports = fds.get(1).and_then(|fd| fd.try_clone().ok());
                if let Err(error) = self.start(id, fds) {
                    let answer = not_started(id, &error, reports);
                    self.tell(&answer);
                }
            }
            Some((PROBE, id, _)) => {
                let answer = match self.probe(fds) {
                    Ok(()) => message(EXITED, id, 0),
                    Err(_) => message(EXITED, id, 1),
                };
                self.tell(&answer);
            }
            Some((SIGNAL, id, signal)) => {
                if let Some(running) = self.children.get(&id) {
                    let _ = process::signal(&running.child.pidfd, signal);
                    if signal == 9
                        && let Some(group) = &running.group
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
        let mut streams = Some(init::Streams {
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
        let limits = launch.cgroup_limits();
        let name = format!("kiln-{}-{:08x}-{id}", process::own_pid(), self.number);
        let (group, limited) = self
            .groups(&limits, &name)
            .map_err(|e| Error::Setup(e.to_string()))?;
        let mut doors = limited.doors();
        let born_in = group.as_ref().and_then(|g| g.open().ok());
        if let Some(rules) = launch.device_rules()
            && !self.guard(rules, born_in.as_ref())
        {
            describe::without_devices(&mut launch)?;
        }
        for mount in &launch.mounts {
            if let MountSource::Layers {
                owner: Some(owner), ..
            } = mount.source
            {
                self.map_of(owner);
            }
        }
        let born_in = born_in.filter(|fd| self.can_be_born_in(fd));
        if let (Some(group), None) = (&group, &born_in) {
            doors.push(group.path().join("cgroup.procs"));
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
                if let Err(error) = Limited::join(&doors) {
                    report(Report::Failed(error.to_string()));
                    return 125;
                }
                match streams.take() {
                    Some(streams) => init::run(&launch, maps, streams, &mut report),
                    None => 125,
                }
            },
        )?;
        let running = Running {
            child,
            group,
            limited,
        };
        self.children.insert(id, running);
        Ok(())
    }

    /// Whether a process that is born into a group lives. Linux kills it where the group of its parent has
    /// once been killed whole: it compares how often the two groups were (kernel/cgroup/cgroup.c,
    /// `cgroup_post_fork`). To join it afterwards works everywhere, and takes longer.
    fn can_be_born_in(&mut self, group: &OwnedFd) -> bool {
        *self.can_be_born_in.get_or_insert_with(|| {
            let born = process::clone_into(Namespaces::default(), Some(group.as_fd()), || 0);
            let ended = born.and_then(|child| process::wait(&child));
            ended.is_ok_and(|exit| exit.code() == 0)
        })
    }

    /// Makes the groups of a sandbox. One without limits does without them where none can be made.
    fn groups(&self, limits: &CgroupLimits, name: &str) -> Result<(Option<Group>, Limited)> {
        let group = match self.hierarchies.unified_group(limits, name) {
            Err(error) if !limits.is_empty() => return Err(error.into()),
            made => made.ok().flatten(),
        };
        let limited = self.hierarchies.limit(limits, name, group.as_ref())?;
        Ok((group, limited))
    }
}

/// What the parent is told of a sandbox that could not be started. A number of the system's says it; of all
/// else it reads from where the child would have told it.
fn not_started(id: u64, error: &Error, reports: Option<OwnedFd>) -> [u8; 13] {
    if let Error::System(e) = error
        && let Some(errno) = e.source.raw_os_error()
    {
        return message(FAILED, id, errno);
    }
    let why = match error {
        Error::Setup(why) => why.clone(),
        other => other.to_string(),
    };
    let line = serde_json::to_vec(&Report::Failed(why)).ok();
    let told = reports.zip(line).is_some_and(|(reports, line)| {
        let mut reports = std::fs::File::from(reports);
        reports.write_all(&line).is_ok()
    });
    match told {
        true => message(EXITED, id, 125),
        false => message(FAILED, id, 0),
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

#[cfg(test)]
mod tests {
    use std::io::{Error as IoError, Seek as _};

    use super::*;

    #[test]
    fn why_a_sandbox_is_not_started_is_never_a_success() {
        let system = |why| Error::System(FsError::new("clone", "process", why));
        for (error, answer, reported) in [
            (
                system(IoError::from_raw_os_error(11)),
                message(FAILED, 7, 11),
                "",
            ),
            (
                system(IoError::other("several threads")),
                message(EXITED, 7, 125),
                "cannot clone `process`: several threads",
            ),
            (
                Error::Setup("no group".into()),
                message(EXITED, 7, 125),
                "no group",
            ),
        ] {
            let mut file = std::fs::File::from(fdpass::memory_file(&[]).unwrap());
            let theirs = file.try_clone().unwrap().into();
            assert_eq!(not_started(7, &error, Some(theirs)), answer);
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            let report: Option<Report> = serde_json::from_str(&text).ok();
            let want = (!reported.is_empty()).then(|| Report::Failed(reported.into()));
            assert_eq!(report, want);
        }
    }
}
