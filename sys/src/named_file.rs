//! Files that the user names, read in a way that ends: what lies at a name may be somebody else's.

use std::fs::File;
use std::path::Path;

use rustix::fs::{self, Mode, OFlags};

use crate::error::{Context as _, FsError, Result};
use crate::root_dir::{bounded, not_regular, reopen};
use crate::stat::{FileKind, Stat};

/// Whether a pipe will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipes {
    /// Yes: the user may have named `<(command)`, or a pipe that a program is about to write to.
    Taken,
    /// No: reading one would wait for whoever made it.
    Refused,
}

/// Opens a regular file for reading, or a pipe where that will do. Links are followed: the name is the
/// user's. Anything else is not even opened, which alone may do something.
///
/// # Errors
/// It is something else, or cannot be read.
pub fn open_named(path: &Path, pipes: Pipes) -> Result<File> {
    let seen = fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ctx("open", path)?;
    let stat = Stat::from(fs::fstat(&seen).ctx("stat", path)?);
    match stat.kind {
        FileKind::File => reopen(&seen, OFlags::NONBLOCK).ctx("open", path),
        FileKind::Fifo if pipes == Pipes::Taken => reopen(&seen, OFlags::empty()).ctx("open", path),
        // What /dev/null is, which has an end.
        FileKind::CharDevice if stat.rdev == (1, 3) => {
            reopen(&seen, OFlags::empty()).ctx("open", path)
        }
        _ => Err(not_regular(path)),
    }
}

/// Reads such a file of at most `limit` bytes.
///
/// # Errors
/// As [`open_named`]; and it is larger.
pub fn read_named(path: &Path, limit: u64, pipes: Pipes) -> Result<Vec<u8>> {
    bounded(&open_named(path, pipes)?, path, limit)
}

/// Reads such a file as UTF-8.
///
/// # Errors
/// As [`read_named`]; and it is no such text.
pub fn read_named_text(path: &Path, limit: u64, pipes: Pipes) -> Result<String> {
    let text = String::from_utf8(read_named(path, limit, pipes)?);
    text.map_err(|_| {
        let why = std::io::Error::new(std::io::ErrorKind::InvalidData, "not UTF-8 text");
        FsError::new("read", path, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Write as _};
    use std::os::unix::fs::symlink;

    #[test]
    fn only_what_ends_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        symlink(at("file"), at("link")).unwrap();
        symlink("/dev/zero", at("endless")).unwrap();
        symlink("/dev/null", at("null")).unwrap();
        fs::mknodat(fs::CWD, at("pipe"), fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, want) in [
            ("file", Ok("text")),
            ("link", Ok("text")),
            ("endless", Err(ErrorKind::InvalidInput)),
            ("null", Ok("")),
            ("pipe", Err(ErrorKind::InvalidInput)),
            ("socket", Err(ErrorKind::InvalidInput)),
            (".", Err(ErrorKind::InvalidInput)),
            ("missing", Err(ErrorKind::NotFound)),
        ] {
            let read = read_named_text(&at(name), 4, Pipes::Refused);
            let read = read.as_deref().map_err(FsError::kind);
            assert_eq!(read, want, "{name}");
        }
        let short = read_named(&at("file"), 3, Pipes::Refused);
        assert_eq!(short.unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_pipe_is_read_to_its_end_or_bound() {
        for (sent, want) in [("1234", true), ("12345", false)] {
            let (read, write) = std::io::pipe().unwrap();
            (&write).write_all(sent.as_bytes()).unwrap();
            drop(write);
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&read));
            let found = read_named(Path::new(&path), 4, Pipes::Taken);
            assert_eq!(found.is_ok(), want, "{found:?}");
        }
    }
}
