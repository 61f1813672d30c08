//! The helper process that starts sandboxes, and the handle on it.
//!
//! It is forked before any thread exists, so the children that it clones may run ordinary code
//! until they execute the command. It ends, and kills what it started, when the process that
//! started it is gone.

mod helper;

use std::collections::HashMap;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_sys::mount;
use kiln_sys::process::{self, Child, Exit, Namespaces};
use kiln_sys::{FsError, fdpass};

use crate::error::{Error, Result};
use crate::launch::{Launch, Report};

use helper::Helper;

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
    /// The kernel killed a process of it that needed more memory than its limit.
    pub out_of_memory: bool,
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

/// The number of the first thing that the helper is asked.
const FIRST_ID: u64 = 1;

const LAUNCH: u8 = b'L';
const SIGNAL: u8 = b'S';
const PROBE: u8 = b'P';
const EXITED: u8 = b'X';
/// As `EXITED`, after the kernel killed a process for want of memory.
const STARVED: u8 = b'M';
const FAILED: u8 = b'F';

/// Bytes of a child's reports at most. A mount point whose path is as long as the kernel takes makes four
/// million, if nothing of it was there.
const MAX_REPORTS: u64 = 256 << 20;

fn message(kind: u8, id: u64, value: i32) -> [u8; 13] {
    let mut out = [0; 13];
    out[0] = kind;
    out[1..9].copy_from_slice(&id.to_le_bytes());
    out[9..].copy_from_slice(&value.to_le_bytes());
    out
}

/// A file in memory for what a child reports, and the handle for the child. A pipe would hold only so much,
/// and nobody empties it before the child has ended.
fn report_file() -> Result<(OwnedFd, OwnedFd)> {
    let ours = fdpass::memory_file(&[])?;
    let theirs = ours.try_clone();
    let theirs = theirs.map_err(|e| FsError::new("duplicate", "memory file", e))?;
    Ok((ours, theirs))
}

/// What a child that is gone has reported.
fn read_reports(file: OwnedFd) -> Result<Vec<Report>> {
    let mut file = std::fs::File::from(file);
    let failed = |e| Error::System(FsError::new("read", "report", e));
    file.rewind().map_err(failed)?;
    let mut text = Vec::new();
    file.take(MAX_REPORTS + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_REPORTS {
        // Half of it would leave mount points in the layer.
        let limit = MAX_REPORTS >> 20;
        return Err(Error::Spec(format!(
            "the sandbox reported more than {limit} MiB"
        )));
    }
    let lines = text.split(|b| *b == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
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
            next: AtomicU64::new(FIRST_ID),
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
        let (reports, theirs) = report_file()?;
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let mut fds: Vec<BorrowedFd<'_>> = vec![
            spec.as_fd(),
            theirs.as_fd(),
            stdio.stdin.as_fd(),
            stdio.stdout.as_fd(),
            stdio.stderr.as_fd(),
        ];
        fds.extend(stdio.console.as_ref().map(AsFd::as_fd));
        self.waiting().insert(id, (reports, Box::new(done)));
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
        let (reports, theirs) = report_file()?;
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let fds = [text.as_fd(), theirs.as_fd(), dir.as_fd()];
        let done = |answer: Result<Event>| {
            done(answer.is_ok_and(|event| matches!(event.exit, Exit::Code(0))));
        };
        self.waiting().insert(id, (reports, Box::new(done)));
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

    /// Ends the helper and everything that it started, and waits until they are gone. One that was asked
    /// nothing has nothing to take away: it ends by itself.
    pub fn stop(&self) {
        // It ends when it finds the socket closed; where that cannot be, it would be waited for in vain.
        if rustix::net::shutdown(&self.shared.socket, rustix::net::Shutdown::Both).is_err() {
            let _ = process::signal(
                &self.shared.helper.pidfd,
                rustix::process::Signal::KILL.as_raw(),
            );
        }
        if self.shared.next.load(Ordering::Relaxed) == FIRST_ID {
            return;
        }
        // Waiting can only fail if it is gone.
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
        // Nothing writes to it any more: the child is gone, and exec closed it before.
        let reports = match read_reports(reports) {
            Ok(reports) => reports,
            Err(error) => return waiter(Err(error)),
        };
        let exit = if value < 0 {
            Exit::Signal(-value)
        } else {
            Exit::Code(value)
        };
        waiter(match kind {
            EXITED | STARVED => Ok(Event {
                exit,
                reports,
                out_of_memory: kind == STARVED,
            }),
            _ => Err(Error::System(FsError::new(
                "start",
                "sandbox",
                match value {
                    0 => std::io::Error::other("it is not known why"),
                    number => std::io::Error::from_raw_os_error(number),
                },
            ))),
        });
    }
}
