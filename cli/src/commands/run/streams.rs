//! The container's standard streams, and what passes between them and ours.
//!
//! Files and terminals of the caller are never the container's own, as with Docker: what opens
//! `/dev/stdout` anew would empty the caller's file, and its user could not open it without being
//! made its owner. Pipes are given as they are.

use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use kiln_engine::Stdio;
use kiln_engine::host::{FileKind, RootDir, fdpass, pty};

use crate::errors::Failure;

/// Our ends of the container's streams.
pub(super) struct Ours {
    /// On which its terminal arrives.
    console: Option<OwnedFd>,
    outputs: Vec<Output>,
}

/// What the container writes, and where it goes.
struct Output {
    from: PipeReader,
    to: File,
    name: &'static str,
}

/// Makes the streams of a container, and our ends of them.
///
/// # Errors
/// When this process has no such stream, or none can be made.
pub(super) fn pair(interactive: bool, tty: bool) -> Result<(Stdio, Ours), Failure> {
    let stdin = match interactive {
        true => duplicate(std::io::stdin())?,
        false => File::open("/dev/null")?.into(),
    };
    let (stdout, stderr) = (duplicate(std::io::stdout())?, duplicate(std::io::stderr())?);
    if tty {
        let (ours, theirs) = fdpass::pair()?;
        let stdio = Stdio {
            stdin,
            stdout,
            stderr,
            console: Some(theirs),
        };
        let ours = Ours {
            console: Some(ours),
            outputs: Vec::new(),
        };
        return Ok((stdio, ours));
    }
    // One pipe for both where both go to one place, so that they stay in order.
    let shared = is_same(&stdout, &stderr)?;
    let mut outputs = Vec::new();
    let mut through = |to: OwnedFd, name| -> Result<OwnedFd, Failure> {
        if !is_kept(&to)? {
            return Ok(to);
        }
        let (from, theirs): (PipeReader, PipeWriter) = std::io::pipe()?;
        let to = File::from(to);
        outputs.push(Output { from, to, name });
        Ok(theirs.into())
    };
    let stdout = through(stdout, "standard output")?;
    let stderr = match shared {
        true => duplicate(&stdout)?,
        false => through(stderr, "standard error")?,
    };
    let stdio = Stdio {
        stdin,
        stdout,
        stderr,
        console: None,
    };
    let console = None;
    Ok((stdio, Ours { console, outputs }))
}

fn duplicate(fd: impl AsFd) -> Result<OwnedFd, Failure> {
    Ok(fd.as_fd().try_clone_to_owned()?)
}

/// Whether a container may not have it itself.
fn is_kept(fd: &OwnedFd) -> Result<bool, Failure> {
    Ok(pty::is_terminal(fd) || RootDir::stat_of(fd)?.kind == FileKind::File)
}

fn is_same(one: &OwnedFd, other: &OwnedFd) -> Result<bool, Failure> {
    let (one, other) = (RootDir::stat_of(one)?, RootDir::stat_of(other)?);
    Ok((one.dev, one.ino) == (other.dev, other.ino))
}

impl Ours {
    /// Begins to pass on what comes.
    pub(super) fn pass(self, interactive: bool) -> Passing {
        let outputs = self.outputs.into_iter().map(|output| {
            std::thread::spawn(move || {
                let Output {
                    mut from,
                    mut to,
                    name,
                } = output;
                match std::io::copy(&mut from, &mut to) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(Failure::new(format!("cannot write to {name}: {error}"))),
                }
            })
        });
        Passing {
            outputs: outputs.collect(),
            terminal: self.console.map(|socket| terminal(socket, interactive)),
        }
    }
}

/// What is passed on.
pub(super) struct Passing {
    outputs: Vec<JoinHandle<Result<(), Failure>>>,
    terminal: Option<JoinHandle<Option<pty::RawMode>>>,
}

impl Passing {
    /// Passes on the rest, and brings our terminal back to how it was.
    ///
    /// # Errors
    /// When something could not be written.
    pub(super) fn finish(self) -> Result<(), Failure> {
        // A panic of a thread has nothing to give back.
        if let Some(terminal) = self.terminal {
            drop(terminal.join());
        }
        let outputs = self.outputs.into_iter();
        outputs.filter_map(|output| output.join().ok()).collect()
    }
}

/// Waits for the container's terminal on `socket` and passes bytes both ways.
fn terminal(socket: OwnedFd, interactive: bool) -> JoinHandle<Option<pty::RawMode>> {
    std::thread::spawn(move || {
        let mut buffer = [0; 8];
        let master = fdpass::receive(&socket, &mut buffer)
            .ok()?
            .1
            .into_iter()
            .next()?;
        let raw = if interactive && pty::is_terminal(std::io::stdin()) {
            pty::raw_mode(std::io::stdin()).ok()
        } else {
            None
        };
        follow_size(&master);
        if interactive {
            let to = master.try_clone().ok()?;
            std::thread::spawn(move || copy(std::io::stdin(), File::from(to)));
        }
        copy(File::from(master), std::io::stdout());
        raw
    })
}

/// Copies until one side ends: a closed terminal reads as an error.
fn copy(mut from: impl std::io::Read, mut to: impl std::io::Write) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0
            || to
                .write_all(&buffer[..n])
                .and_then(|()| to.flush())
                .is_err()
        {
            break;
        }
    }
}

/// Gives the container's terminal our size, now and whenever it changes.
fn follow_size(master: &OwnedFd) {
    let Ok(master) = master.as_fd().try_clone_to_owned() else {
        return;
    };
    std::thread::spawn(move || {
        let mut last = None;
        loop {
            let size = pty::size(std::io::stdout());
            if let (Some((columns, rows)), true) = (size, size != last) {
                // The container may have ended: then there is nothing to resize.
                if pty::set_size(&master, columns, rows).is_err() {
                    return;
                }
            }
            last = size;
            std::thread::sleep(std::time::Duration::from_millis(250));
        }
    });
}
