//! Files and streams that a result is written to.

use std::fs::File;
use std::io::{IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use kiln_sys::{FsError, PendingFile, RootDir};

use crate::errors::Failure;

/// Where a stream goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Dest {
    Stdout,
    File(PathBuf),
}

/// The file of `dest=`, or standard output.
pub(super) fn dest(text: &str) -> Dest {
    if text == "-" {
        Dest::Stdout
    } else {
        Dest::File(text.into())
    }
}

/// Fails if standard output is a terminal.
pub(in crate::commands) fn refuse_terminal(instead: &str) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        return Err(
            Failure::usage("an archive is not written to a terminal").with_hint(format!(
                "give a file with {instead}, or pass standard output on"
            )),
        );
    }
    Ok(())
}

impl Dest {
    /// Gives `write` a stream. A file appears under its name only when it is complete.
    pub(in crate::commands) fn write<T>(
        &self,
        write: impl FnOnce(Box<dyn Write + Send>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let path = match self {
            Self::Stdout => {
                let out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
                return write(Box::new(out));
            }
            Self::File(path) => path,
        };
        let bad =
            |e: std::io::Error| Failure::new(format!("cannot write `{}`: {e}", path.display()));
        match std::fs::metadata(path) {
            Ok(there) if there.is_dir() => {
                let text = format!("the destination `{}` is a directory", path.display());
                return Err(Failure::new(text).with_hint("give the name of a file"));
            }
            // A pipe or device is written, not replaced.
            Ok(there) if !there.is_file() => {
                let out = File::options().write(true).open(path).map_err(bad)?;
                return write(Box::new(out));
            }
            _ => {}
        }
        let failed = |e: FsError| bad(e.source);
        let pending = begin(path).map_err(failed)?;
        let out = pending.file().try_clone().map_err(bad)?;
        let made = write(Box::new(out))?;
        pending.keep().map_err(failed)?;
        Ok(made)
    }
}

/// Begins a file that the user named: it appears under its name when it is complete.
///
/// # Errors
/// Nothing can be made in its directory.
pub(in crate::commands) fn begin(path: &Path) -> kiln_sys::Result<PendingFile> {
    let above = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = RootDir::open_trusted(above.unwrap_or(Path::new(".")))?;
    let name = path.file_name().unwrap_or_default();
    dir.pending_file(Path::new(name), 0o666)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_appear_when_they_are_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.tar");
        let dest = Dest::File(path.clone());
        let fails = dest.write(|mut out| {
            out.write_all(b"half")?;
            Err::<(), _>(Failure::new("broken"))
        });
        assert!(fails.is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        dest.write(|mut out| Ok(out.write_all(b"all")?)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"all");
        assert!(Dest::File(dir.path().into()).write(|_| Ok(())).is_err());
    }
}
