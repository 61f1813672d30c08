//! Terminals: a pair inside a container's devpts, raw mode and window size of our own.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, ptsname, unlockpt};
use rustix::termios::{self, OptionalActions, Termios, Winsize};

use crate::RootDir;
use crate::error::{Context as _, FsError, Result};

/// A terminal pair: the controlling side and the side that the program sees.
#[derive(Debug)]
pub struct Pair {
    /// The side that a supervisor reads and writes.
    pub master: OwnedFd,
    /// The program's standard input, output and error.
    pub slave: OwnedFd,
}

/// Opens a pair in the devpts mounted at `pts` (its root directory).
pub fn open_in(pts: &RootDir) -> Result<Pair> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(pts, "ptmx", flags, Mode::empty()).ctx("open", "ptmx")?;
    let slave = slave_of(&master, pts)?;
    Ok(Pair { master, slave })
}

fn slave_of(master: &OwnedFd, pts: &RootDir) -> Result<OwnedFd> {
    unlockpt(master).ctx("unlock", "ptmx")?;
    let name = ptsname(master, Vec::new()).ctx("name", "ptmx")?;
    let number = name
        .to_string_lossy()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(pts, number.as_str(), flags, Mode::empty()).ctx("open terminal", number)
}

/// Opens a pair of this machine, for tests of programs that want a terminal.
pub fn open_host() -> Result<Pair> {
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .ctx("open", "/dev/ptmx")?;
    grantpt(&master).ctx("open", "/dev/ptmx")?;
    let slave = slave_of(
        &master,
        &RootDir::open_trusted(std::path::Path::new("/dev/pts"))?,
    )?;
    Ok(Pair { master, slave })
}

/// Makes `terminal` the controlling terminal of a new session of this process.
pub fn take_control(terminal: impl AsFd) -> Result<()> {
    rustix::process::setsid().ctx("start", "session")?;
    rustix::process::ioctl_tiocsctty(terminal).ctx("take", "terminal")
}

/// Whether `fd` is a terminal.
pub fn is_terminal(fd: impl AsFd) -> bool {
    termios::isatty(fd)
}

/// Columns and rows of a terminal.
pub fn size(fd: impl AsFd) -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(fd).ok()?;
    Some((size.ws_col, size.ws_row))
}

/// Sets columns and rows of a terminal.
pub fn set_size(fd: impl AsFd, columns: u16, rows: u16) -> Result<()> {
    let size = Winsize {
        ws_col: columns,
        ws_row: rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    termios::tcsetwinsize(fd, size).ctx("resize", "terminal")
}

/// A terminal in raw mode; dropping it brings back how it was.
#[derive(Debug)]
pub struct RawMode {
    fd: OwnedFd,
    before: Termios,
}

/// Turns off echo and line editing of a terminal.
pub fn raw_mode(fd: impl AsFd) -> Result<RawMode> {
    let before = termios::tcgetattr(&fd).ctx("read mode of", "terminal")?;
    let mut raw = before.clone();
    raw.make_raw();
    termios::tcsetattr(&fd, OptionalActions::Flush, &raw).ctx("set mode of", "terminal")?;
    let fd = fd
        .as_fd()
        .try_clone_to_owned()
        .map_err(|e| FsError::new("duplicate", "terminal", e))?;
    Ok(RawMode { fd, before })
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that has gone away.
        let _ = termios::tcsetattr(&self.fd, OptionalActions::Flush, &self.before);
    }
}
