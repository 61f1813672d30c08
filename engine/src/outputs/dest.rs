//! Files and streams that a result is written to.

use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};

use kiln_sys::{FsError, PendingFile, RootDir};

use crate::error::{Error, Hint, Result};

/// Where the bytes of an archive go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dest {
    /// The stream of the request, such as standard output.
    Stream,
    /// A file, which appears under its name when it is complete; a pipe or a device is written.
    File(PathBuf),
}

impl Dest {
    /// Gives `write` a stream; `stream` is that of the request.
    ///
    /// # Errors
    /// The file cannot be written, or `write` fails.
    pub(crate) async fn write<T, F: Future<Output = Result<T>>>(
        &self,
        stream: Option<&File>,
        write: impl FnOnce(Box<dyn Write + Send>) -> F,
    ) -> Result<T> {
        let path = match self {
            Self::Stream => {
                let none = || Error::request("there is no stream that could be written to");
                let stream = stream.ok_or_else(none)?.try_clone();
                let stream = stream.map_err(|e| Error::io("use the stream of the request", e))?;
                return write(Box::new(stream)).await;
            }
            Self::File(path) => path,
        };
        let bad =
            |e: std::io::Error| Error::failed(format!("cannot write `{}`: {e}", path.display()));
        match std::fs::metadata(path) {
            Ok(there) if there.is_dir() => {
                let text = format!("the destination `{}` is a directory", path.display());
                return Err(Error::failed(text).with_hint(Hint::NameFile));
            }
            // A pipe or device is written, not replaced.
            Ok(there) if !there.is_file() => {
                let out = File::options().write(true).open(path).map_err(bad)?;
                return write(Box::new(out)).await;
            }
            _ => {}
        }
        let failed = |e: FsError| bad(e.source);
        let pending = begin(path).map_err(failed)?;
        let out = pending.file().try_clone().map_err(bad)?;
        let made = write(Box::new(out)).await?;
        pending.keep().map_err(failed)?;
        Ok(made)
    }
}

/// Begins a file that the user named: it appears under its name when it is complete.
///
/// # Errors
/// Nothing can be made in its directory.
pub(crate) fn begin(path: &Path) -> kiln_sys::Result<PendingFile> {
    let above = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = RootDir::open_trusted(above.unwrap_or(Path::new(".")))?;
    let name = path.file_name().unwrap_or_default();
    dir.pending_file(Path::new(name), 0o666)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_appear_when_they_are_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.tar");
        let dest = Dest::File(path.clone());
        let half = |mut out: Box<dyn Write + Send>| async move {
            out.write_all(b"half").unwrap();
            Err::<(), _>(Error::failed("broken"))
        };
        assert!(dest.write(None, half).await.is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let all = |mut out: Box<dyn Write + Send>| async move {
            out.write_all(b"all").unwrap();
            Ok(())
        };
        dest.write(None, all).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"all");
        let dest = Dest::File(dir.path().into());
        assert!(dest.write(None, |_| async { Ok(()) }).await.is_err());
        assert!(
            Dest::Stream
                .write(None, |_| async { Ok(()) })
                .await
                .is_err()
        );
    }
}
