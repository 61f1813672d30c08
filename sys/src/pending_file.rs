//! A file that takes its name when it is complete.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use rustix::fs::{self, AtFlags, OFlags};

use crate::error::{Context as _, FsError, Result};
use crate::root_dir::RootDir;
use crate::system;

/// Names that are tried: each is one of 2^64.
const TRIES: usize = 8;

/// A file beside the place that it is meant for, without a name where the file system has such files, else
/// under one that nobody can have prepared. Unless it is kept it goes when dropped; without a name it goes
/// with the process, however that ends.
#[derive(Debug)]
pub struct PendingFile {
    dir: RootDir,
    /// What it is called now; none when it has no name, or has its own.
    partial: Option<OsString>,
    name: OsString,
    file: File,
}

impl RootDir {
    /// Begins the file `path`. Directories above it are made where they are missing, as the process makes
    /// them; links before the last component are followed inside the root.
    ///
    /// # Errors
    /// Nothing can be made there.
    pub fn pending_file(&self, path: &Path, mode: u32) -> Result<PendingFile> {
        let above = path.parent().into_iter().flat_map(Path::ancestors);
        let above: Vec<&Path> = above.filter(|dir| !dir.as_os_str().is_empty()).collect();
        for dir in above.into_iter().rev() {
            match self.mkdir(dir, 0o777) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        let (dir, name) = self.parent_of(path)?;
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        // Any error: what is wrong with the place is told when the file gets a name.
        if let Ok(file) = fs::openat(&dir, ".", flags, fs::Mode::from_raw_mode(mode)) {
            return Ok(PendingFile {
                dir,
                partial: None,
                name,
                file: file.into(),
            });
        }
        let mut tries = 0..TRIES;
        loop {
            let mut random = [0; 8];
            system::random(&mut random)?;
            let partial = partial_name(&name, u64::from_ne_bytes(random));
            match dir.create_new(Path::new(&partial), mode) {
                Ok(file) => {
                    return Ok(PendingFile {
                        dir,
                        partial: Some(partial),
                        name,
                        file: file.into(),
                    });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && tries.next().is_some() => {}
                Err(e) => return Err(FsError::new("create", path, e.source)),
            }
        }
    }
}

fn partial_name(name: &OsStr, random: u64) -> OsString {
    let mut partial = OsString::from(".");
    partial.push(name);
    partial.push(format!(".{random:016x}.partial"));
    partial
}

impl PendingFile {
    /// The file, open for writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, in place of what is there; a link there is replaced, not followed.
    ///
    /// # Errors
    /// A directory has the name.
    pub fn keep(mut self) -> Result<()> {
        // A link replaces nothing, and a rename does.
        let mut tries = 0..TRIES;
        while self.partial.is_none() {
            let mut random = [0; 8];
            system::random(&mut random)?;
            let partial = partial_name(&self.name, u64::from_ne_bytes(random));
            match self.link(&partial) {
                Ok(()) => self.partial = Some(partial),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && tries.next().is_some() => {}
                Err(e) => return Err(e),
            }
        }
        if let Some(partial) = &self.partial {
            self.dir.rename(Path::new(partial), Path::new(&self.name))?;
        }
        self.partial = None;
        Ok(())
    }

    /// Gives a file that has no name this one, unless something has it.
    fn link(&self, name: &OsStr) -> Result<()> {
        let file = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let done = fs::linkat(fs::CWD, file, &self.dir, name, AtFlags::SYMLINK_FOLLOW);
        done.ctx("name", Path::new(name))
    }

    /// Gives it its name unless something has that; whether it has it now.
    ///
    /// # Errors
    /// The file system has no hard links.
    pub fn keep_new(self) -> Result<bool> {
        let linked = match &self.partial {
            None => self.link(&self.name),
            Some(partial) => (self.dir).hard_link(Path::new(partial), Path::new(&self.name)),
        };
        match linked {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // What is left then is a file that nobody reads.
            let _ = self.dir.unlink(Path::new(partial));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_has_its_name_when_it_is_kept() {
        // Where tests are built is a disk, and a temporary directory may be none.
        let tests = std::env::current_exe().unwrap();
        let temp = tempfile::tempdir_in(tests.parent().unwrap()).unwrap();
        let (inside, outside) = (temp.path().join("root"), temp.path().join("outside"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(&outside, "old").unwrap();
        symlink(&outside, inside.join("link")).unwrap();
        let root = RootDir::open_trusted(&inside).unwrap();
        let begin = |name: &str| {
            let pending = root.pending_file(Path::new(name), 0o644).unwrap();
            pending.file().write_all(name.as_bytes()).unwrap();
            pending
        };
        let names = || std::fs::read_dir(&inside).unwrap().count();
        let gone = begin("gone");
        assert_eq!(names(), 1, "nothing is left if the process is killed now");
        drop(gone);
        assert_eq!(names(), 1);
        for name in ["file", "link", "file"] {
            begin(name).keep().unwrap();
            let kept = inside.join(name);
            assert!(kept.symlink_metadata().unwrap().is_file(), "{name}");
            assert_eq!(std::fs::read_to_string(kept).unwrap(), name);
        }
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "old");
        assert!(!begin("file").keep_new().unwrap());
        assert!(begin("new").keep_new().unwrap());
        assert_eq!(names(), 3);
        begin("a/b/c").keep().unwrap();
        begin("a/b/d").keep().unwrap();
        assert!(inside.join("a/b/c").is_file() && inside.join("a/b/d").is_file());
    }
}
