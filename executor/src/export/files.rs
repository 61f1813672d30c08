//! The files of an image: in a directory of the user's, or as a plain tar.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kiln_cache::{is_acl, is_image_xattr, tar_entry};
use kiln_image::EntryKind;
use kiln_image::layer::LayerWriter;
use kiln_sys::{FileKind, RootDir, Stat, system, xattr};

use super::Exporter;
use crate::error::{Error, Result, blocking};
use crate::output::LayerRef;

impl Exporter {
    /// Copies the files of a stack of layers into a directory, which is made if need be. What is
    /// there already stays, except files of the same names.
    ///
    /// # Errors
    /// A layer cannot be had, or the directory cannot be written.
    pub async fn write_files(
        &self,
        layers: &[LayerRef],
        dest: &Path,
        epoch: Option<u64>,
    ) -> Result<()> {
        let ids = self.layers.materialise(layers).await?;
        let (store, dest) = (self.store().clone(), dest.to_path_buf());
        blocking(move || {
            #[allow(clippy::disallowed_methods, reason = "the user names it")]
            std::fs::create_dir_all(&dest)
                .map_err(|e| Error::io(format!("make `{}`", dest.display()), e))?;
            let view = store.view(&ids)?;
            let top = RootDir::open_trusted(&dest)?;
            let mut job = Extract {
                top: top.try_clone()?,
                dest,
                epoch: clamp(epoch),
                links: HashMap::new(),
            };
            job.directory(view.root(), &top, Path::new(""))
        })
        .await
    }

    /// Writes the files of a stack of layers as one tar.
    ///
    /// # Errors
    /// A layer cannot be had, or `out` failed.
    pub async fn write_tar(
        &self,
        layers: &[LayerRef],
        out: Box<dyn Write + Send>,
        epoch: Option<u64>,
    ) -> Result<()> {
        let ids = self.layers.materialise(layers).await?;
        let store = self.store().clone();
        blocking(move || {
            let view = store.view(&ids)?;
            let mut tar = LayerWriter::new(out);
            tar.set_whiteouts(false);
            tar.set_epoch_clamp(clamp(epoch));
            let mut job = Archive {
                tar,
                links: HashMap::new(),
            };
            job.directory(view.root(), &mut Vec::new())?;
            job.tar
                .finish()
                .map(drop)
                .map_err(|e| Error::io("write tar", e))
        })
        .await
    }
}

fn clamp(epoch: Option<u64>) -> Option<i64> {
    epoch.and_then(|e| i64::try_from(e).ok())
}

/// The names in a directory, sorted, without the marks of removed files.
pub(super) fn names(dir: &RootDir) -> Result<Vec<(std::ffi::OsString, Stat)>> {
    let mut names = dir.read_dir(Path::new(""))?;
    names.sort_by(|a, b| a.name.cmp(&b.name));
    let mut out = Vec::new();
    for entry in names {
        let st = dir.lstat(Path::new(&entry.name))?;
        if !st.is_overlay_whiteout() {
            out.push((entry.name, st));
        }
    }
    Ok(out)
}

struct Archive {
    tar: LayerWriter<Box<dyn Write + Send>>,
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Archive {
    fn directory(&mut self, dir: &RootDir, path: &mut Vec<u8>) -> Result<()> {
        for (name, st) in names(dir)? {
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            self.object(dir, Path::new(&name), &st, path)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn object(&mut self, dir: &RootDir, name: &Path, st: &Stat, path: &mut Vec<u8>) -> Result<()> {
        let (mut file, mut inside, mut attributes) = (None, None, Vec::new());
        let mut first = None;
        match st.kind {
            FileKind::Directory => {
                let sub = dir.sub_dir(name)?;
                attributes = xattr::list(&sub)?;
                inside = Some(sub);
            }
            FileKind::File => {
                first = self.links.get(&(st.dev, st.ino)).filter(|_| st.nlink > 1);
                if first.is_none() {
                    let fd = dir.open_read_nofollow(name)?;
                    attributes = xattr::list_open(&fd)?;
                    file = Some(std::fs::File::from(fd));
                }
            }
            _ => {}
        }
        let Some(mut entry) = tar_entry(dir, name, st, path.clone(), attributes)? else {
            return Ok(());
        };
        if let Some(first) = first {
            let target = first.clone();
            entry.kind = EntryKind::Hardlink { target };
        } else if st.kind == FileKind::File && st.nlink > 1 {
            self.links.insert((st.dev, st.ino), path.clone());
        }
        let done = match &mut file {
            Some(file) => self.tar.append(&entry, file),
            None => self.tar.append(&entry, &mut std::io::empty()),
        };
        let shown = || format!("write `{}`", String::from_utf8_lossy(&entry.path));
        done.map_err(|e| Error::io(shown(), e))?;
        match inside {
            Some(inside) => self.directory(&inside, path),
            None => Ok(()),
        }
    }
}

struct Extract {
    top: RootDir,
    /// Where that is, for errors.
    dest: PathBuf,
    epoch: Option<i64>,
    /// First name, below the top, of files with several.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Extract {
    fn directory(&mut self, from: &RootDir, to: &RootDir, path: &Path) -> Result<()> {
        for (name, st) in names(from)? {
            let path = path.join(&name);
            self.object(from, to, Path::new(&name), &st, &path)
                .map_err(|e| match e {
                    // It knows no more than a name in some directory.
                    Error::System(e) => {
                        let shown = self.dest.join(&path);
                        let what = format!("cannot {} `{}`", e.op, shown.display());
                        Error::io(what, e.source)
                    }
                    other => other,
                })?;
        }
        Ok(())
    }

    fn object(
        &mut self,
        from: &RootDir,
        to: &RootDir,
        name: &Path,
        st: &Stat,
        path: &Path,
    ) -> Result<()> {
        let there = to.try_lstat(name)?;
        if st.is_dir() {
            // A link in the way, wherever it leads, is replaced and never followed.
            if there.is_some_and(|t| !t.is_dir()) {
                to.unlink(name)?;
            }
            if !there.is_some_and(|t| t.is_dir()) {
                to.mkdir(name, 0o700)?;
            }
            let (inside, sub) = (from.sub_dir(name)?, to.sub_dir(name)?);
            self.directory(&inside, &sub, path)?;
            return self.attributes(&inside, Path::new(""), &sub, Path::new(""), st);
        }
        match there {
            Some(t) if t.is_dir() => {
                return Err(Error::Other(format!(
                    "`{}` is a directory in the destination and none in the image; remove it first",
                    path.display()
                )));
            }
            Some(_) => to.unlink(name)?,
            None => {}
        }
        if st.kind == FileKind::File && st.nlink > 1 {
            if let Some(first) = self.links.get(&(st.dev, st.ino)) {
                return Ok(self.top.hard_link(first, path)?);
            }
            self.links.insert((st.dev, st.ino), path.to_path_buf());
        }
        if make_object(from, to, name, st)? {
            self.attributes(from, name, to, name, st)?;
        }
        Ok(())
    }

    fn attributes(
        &self,
        from: &RootDir,
        source: &Path,
        to: &RootDir,
        name: &Path,
        st: &Stat,
    ) -> Result<()> {
        let mut mtime = st.mtime;
        if let Some(epoch) = self.epoch
            && mtime >= (epoch, 0)
        {
            mtime = (epoch, 0);
        }
        copy_attributes(from, source, to, name, st, mtime)
    }
}

/// Makes what `name` is in `from`, no directory, in `to` with the same content. Sockets are left
/// out: then there is nothing to set attributes of.
pub(super) fn make_object(from: &RootDir, to: &RootDir, name: &Path, st: &Stat) -> Result<bool> {
    match st.kind {
        FileKind::File => {
            let source = from.open_read_nofollow(name)?;
            let out = to.create_new(name, 0o600)?;
            system::copy_file(&source, &out, st.size)?;
        }
        FileKind::Symlink => to.symlink(from.read_link(name)?.as_os_str(), name)?,
        FileKind::CharDevice | FileKind::BlockDevice | FileKind::Fifo => {
            to.mknod(name, st.kind, 0o600, st.rdev)?;
        }
        FileKind::Socket | FileKind::Directory => return Ok(false),
    }
    Ok(true)
}

/// Gives `name` in `to` the owner, attributes, mode and time of `source` in `from`.
pub(super) fn copy_attributes(
    from: &RootDir,
    source: &Path,
    to: &RootDir,
    name: &Path,
    st: &Stat,
    mtime: (i64, u32),
) -> Result<()> {
    to.chown(name, st.uid, st.gid)?;
    if matches!(st.kind, FileKind::File | FileKind::Directory) {
        for (key, value) in from
            .xattrs(source)?
            .iter()
            .filter(|(k, _)| is_image_xattr(k))
        {
            match to.set_xattr(name, key, value) {
                // Not every file system of a user's has them.
                Err(e) if is_acl(key) && e.is_unsupported() => {}
                other => other?,
            }
        }
    }
    if st.kind != FileKind::Symlink {
        to.chmod(name, st.mode)?;
    }
    Ok(to.set_mtime(name, mtime)?)
}
