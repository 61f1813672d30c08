//! Copies what was selected into the new layer.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_cache::fingerprint::Keep;
use kiln_cache::{DEFAULT_ACL, is_acl};
use kiln_solver::plan::{Copy, ModeChange, WriteFile};
use kiln_sys::{Attributes, FileKind, RootDir, Stat, system, xattr};
use rayon::prelude::*;

use super::select::Match;
use super::target::{Owner, Target};
use super::{Changes, Filter};
use crate::error::{Error, Result};
use crate::tree::OpenTree;

/// Attributes that are copied with files.
pub(super) fn is_copied(name: &[u8]) -> bool {
    name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
        || name == b"security.capability"
        || is_acl(name)
}

/// What happens to everything that is copied.
struct Job<'a> {
    source: &'a RootDir,
    /// What the source is, in words.
    place: &'a str,
    /// It is a directory of this machine and no image.
    of_context: bool,
    filter: &'a Filter<'a>,
    target: &'a Target<'a>,
    owner: Option<Owner>,
    reset_owner: bool,
    chmod: Option<&'a ModeChange>,
    /// Where files with several names were copied to first.
    links: Mutex<HashMap<(u64, u64), PathBuf>>,
    stop: &'a (dyn Fn() -> bool + Sync),
}

impl Job<'_> {
    fn owner_of(&self, st: &Stat) -> Owner {
        match self.owner {
            Some(owner) => owner,
            None if self.reset_owner => (0, 0),
            None => (st.uid, st.gid),
        }
    }

    /// The mode of directories that are made on the way to the destination.
    fn mode_of_parents(&self) -> u32 {
        ModeChange::on_the_way(self.chmod)
    }

    fn is_copied(&self, name: &[u8]) -> bool {
        // Who may not set an owner may not set capabilities either: the kernel drops them with
        // the owner. And an ACL names users of this host.
        is_copied(name) && !(self.reset_owner && (name == b"security.capability" || is_acl(name)))
    }

    fn mode_of(&self, st: &Stat) -> u32 {
        match self.chmod {
            Some(change) => (change.apply)(st.mode, st.is_dir()) & 0o7777,
            None => st.mode,
        }
    }
}

/// Copies the matches of one COPY.
pub(super) fn copy_matches(
    changes: &Changes<'_>,
    copy: &Copy,
    tree: &OpenTree,
    found: &[Match],
    target: &Target<'_>,
) -> Result<()> {
    let dir = tree.dir();
    let chown = copy.chown.as_deref();
    let owner = target.owner(chown)?;
    if copy.parents {
        // As BuildKit: it is there even where nothing is found.
        let mode = ModeChange::on_the_way(copy.chmod.as_ref());
        target.make_dirs(&copy.dest, mode, owner)?;
    }
    let links = Mutex::default();
    let mut job_links = Some(links);
    let mut late = Vec::new();
    for one in found {
        let filter = Filter {
            ignore: dir.and_then(|d| d.ignore.as_deref()),
            exclude: copy.exclude.as_deref(),
            source: &one.path,
        };
        let job = Job {
            source: tree.root(),
            place: &copy.place,
            of_context: dir.is_some(),
            filter: &filter,
            target,
            owner: chown.map(|_| owner),
            reset_owner: copy.reset_owner || dir.is_some_and(|d| d.reset_owner),
            chmod: copy.chmod.as_ref(),
            links: job_links.take().unwrap_or_default(),
            stop: changes.stop,
        };
        copy_match(&job, copy, one, owner, &mut late)?;
        job_links = Some(job.links);
    }
    for (at, acl) in late {
        let dir = target.directory(&at, 0o755, (0, 0))?;
        dir.set_xattr(Path::new(""), DEFAULT_ACL, &acl)?;
    }
    Ok(())
}

/// Default ACLs of directories that more may be copied into.
type LateAcls = Vec<(PathBuf, Vec<u8>)>;

fn copy_match(
    job: &Job<'_>,
    copy: &Copy,
    one: &Match,
    owner: Owner,
    late: &mut LateAcls,
) -> Result<()> {
    let (from_dir, from_name) = if one.path.is_empty() {
        (job.source.try_clone()?, std::ffi::OsString::new())
    } else {
        job.source.parent_of(Path::new(&one.path))?
    };
    let mut dest = copy.dest.clone();
    if copy.parents {
        dest = format!("{}/{}", dest.trim_end_matches('/'), one.kept);
        parents_of(job, one, &copy.dest, late)?;
        // A directory that is kept by name looks like itself, as one inside of another does.
        let real = PathBuf::from(job.target.real_path(&dest)?);
        if one.is_dir
            && !one.kept.is_empty()
            && let (Some(parent), Some(name)) = (real.parent(), real.file_name())
        {
            let to = Place {
                path: parent,
                is_new: false,
            };
            return copy_object(job, &from_dir, &from_name, &one.path, to, name);
        }
    }
    if one.is_dir {
        let st = from_dir.lstat(Path::new(&from_name))?;
        let real = job.target.real_path(&dest)?;
        let real = Path::new(&real);
        let existed = job.target.lstat(real)?;
        // As BuildKit: only what is in the directory is copied, not what it looks like itself.
        job.target.directory(real, job.mode_of_parents(), owner)?;
        let from = if one.path.is_empty() {
            from_dir
        } else {
            from_dir.sub_dir(Path::new(&from_name))?
        };
        let to = Place {
            path: real,
            is_new: existed.is_none(),
        };
        copy_children(job, &from, &one.path, to)?;
        if existed.is_none() {
            let dir = job.target.directory(real, 0o755, (0, 0))?;
            dir.set_mtime(Path::new(""), st.mtime)?;
        }
        return Ok(());
    }
    let name = copy.rename_to.as_deref().unwrap_or(&one.name);
    let wants_dir = dest.ends_with('/') && !copy.parents;
    let real = job.target.real_path(&dest)?;
    let is_dir = wants_dir
        || job
            .target
            .lstat(Path::new(&real))?
            .is_some_and(|st| st.is_dir());
    let (parent, name) = if is_dir {
        (real, name.to_owned())
    } else {
        let (parent, name) = real.rsplit_once('/').unwrap_or(("", &real));
        (parent.to_owned(), name.to_owned())
    };
    let parent = Path::new(&parent);
    job.target.directory(parent, job.mode_of_parents(), owner)?;
    let to = Place {
        path: parent,
        is_new: false,
    };
    copy_object(job, &from_dir, &from_name, &one.path, to, name.as_ref())
}

/// `--parents`: directories on the way look like those of the source. Of one that is there already,
/// BuildKit changes the mode alone, to that of the source whatever `--chmod` says. Default ACLs come
/// when all is copied, `late`.
fn parents_of(job: &Job<'_>, one: &Match, dest: &str, late: &mut LateAcls) -> Result<()> {
    for (from, kept) in &one.parents {
        let from = Path::new(from);
        let st = job.source.lstat(from)?;
        let at = format!("{}/{kept}", dest.trim_end_matches('/'));
        let real = PathBuf::from(job.target.real_path(&at)?);
        let existed = job.target.lstat(&real)?.is_some();
        let made = job
            .target
            .directory(&real, job.mode_of(&st), job.owner_of(&st))?;
        if existed {
            made.chmod(Path::new(""), st.mode)?;
            continue;
        }
        let xattrs = job.source.xattrs(from)?;
        for (key, value) in xattrs.into_iter().filter(|(key, _)| job.is_copied(key)) {
            match key == DEFAULT_ACL {
                true => late.push((real.clone(), value)),
                false => made.set_xattr(Path::new(""), &key, &value)?,
            }
        }
    }
    Ok(())
}

/// Directories with fewer names are copied by one thread.
const PARALLEL_FROM: usize = 64;

/// A directory that is copied into.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Its real path.
    path: &'a Path,
    /// It was made for this copy and shows nothing of below, so that no name in it is taken.
    is_new: bool,
}

fn copy_children(job: &Job<'_>, from: &RootDir, path: &str, to: Place<'_>) -> Result<()> {
    if (job.stop)() {
        return Err(Error::Cancelled);
    }
    let mut names = from.read_dir(Path::new(""))?;
    // One order for all file systems, so that the first of several names is always the same.
    names.sort_by(|a, b| a.name.cmp(&b.name));
    let below = |name: &OsStr| {
        let name = name.to_string_lossy();
        if path.is_empty() {
            name.into_owned()
        } else {
            format!("{path}/{name}")
        }
    };
    let one = |entry: &kiln_sys::DirEntry| {
        let path = below(&entry.name);
        copy_object(job, from, &entry.name, &path, to, &entry.name)
    };
    if names.len() < PARALLEL_FROM {
        return names.iter().try_for_each(one);
    }
    names.par_iter().with_min_len(16).try_for_each(one)
}

/// Copies one object, with everything below it, to `name` in a directory.
fn copy_object(
    job: &Job<'_>,
    from: &RootDir,
    from_name: &OsStr,
    path: &str,
    into: Place<'_>,
    name: &OsStr,
) -> Result<()> {
    copy_one(job, from, from_name, path, into, name).map_err(|e| match e {
        // It knows no more than a name in some directory.
        Error::System(e) => {
            let place = job.place;
            let what = format!("cannot copy `{path}` in {place}: cannot {} it", e.op);
            Error::io(what, e.source)
        }
        other => other,
    })
}

fn copy_one(
    job: &Job<'_>,
    from: &RootDir,
    from_name: &OsStr,
    path: &str,
    into: Place<'_>,
    name: &OsStr,
) -> Result<()> {
    let source = Path::new(from_name);
    let st = from.lstat(source)?;
    if job.filter.excludes(path, st.is_dir()) {
        if st.is_dir() && job.filter.may_include_below(path) {
            let way = ExcludedDirectory {
                at: into.path.join(name),
                st,
                above: None,
            };
            return copy_partly(job, &from.sub_dir(source)?, path, &way);
        }
        return Ok(());
    }
    let at = into.path.join(name);
    if st.is_dir() {
        let existed = if into.is_new {
            None
        } else {
            job.target.lstat(&at)?
        };
        if existed
            .as_ref()
            .is_some_and(|st| st.kind == FileKind::Symlink)
        {
            return Err(Error::Other(format!(
                "cannot copy the directory `{path}` to `/{}`, which is a link",
                at.display()
            )));
        }
        let dir = job
            .target
            .directory(&at, job.mode_of(&st), job.owner_of(&st))?;
        let inside = from.sub_dir(source)?;
        if existed.is_some() {
            // The source's attributes win over those of a directory that was there.
            let (uid, gid) = job.owner_of(&st);
            dir.chown(Path::new(""), uid, gid)?;
            dir.chmod(Path::new(""), job.mode_of(&st))?;
        }
        let to = Place {
            path: &at,
            is_new: existed.is_none(),
        };
        copy_children(job, &inside, path, to)?;
        return finish_directory(job, &inside, &at, &st);
    }
    let dir = job.target.directory(into.path, 0o755, (0, 0))?;
    let to = Path::new(name);
    if !into.is_new {
        if job.target.lstat(&at)?.is_some_and(|old| old.is_dir()) {
            return Err(Error::Other(format!(
                "cannot replace the directory `/{}` by a file",
                at.display()
            )));
        }
        if dir.try_lstat(to)?.is_some() {
            dir.unlink(to)?;
        }
    }
    match st.kind {
        FileKind::File => copy_file(job, from, source, &st, &dir, to, &at),
        FileKind::Symlink => {
            let link = from.read_link(source)?;
            dir.symlink(link.as_os_str(), to)?;
            let (uid, gid) = job.owner_of(&st);
            dir.chown(to, uid, gid)?;
            Ok(dir.set_mtime(to, st.mtime)?)
        }
        _ if st.is_overlay_whiteout() => Err(marks_removal(path)),
        FileKind::CharDevice | FileKind::BlockDevice | FileKind::Fifo => {
            dir.mknod(to, st.kind, st.mode, st.rdev)?;
            let (uid, gid) = job.owner_of(&st);
            dir.chown(to, uid, gid)?;
            dir.chmod(to, job.mode_of(&st))?;
            Ok(dir.set_mtime(to, st.mtime)?)
        }
        // As BuildKit sends it: a socket of a context is an empty file with its mode. In an image it
        // has no form at all.
        FileKind::Socket if job.of_context => {
            drop(dir.create_new(to, 0o600)?);
            let (uid, gid) = job.owner_of(&st);
            dir.chown(to, uid, gid)?;
            dir.chmod(to, job.mode_of(&st))?;
            Ok(dir.set_mtime(to, st.mtime)?)
        }
        FileKind::Socket | FileKind::Directory => Ok(()),
    }
}

/// Why a device 0:0 is not copied: in a layer it would not be a device.
fn marks_removal(path: &str) -> Error {
    Error::Other(format!(
        "cannot copy `{path}`: it is a device 0:0, which in a layer stands for a file that is removed"
    ))
}

/// A directory on the way to something that is copied, which is left out itself.
struct ExcludedDirectory<'a> {
    at: PathBuf,
    st: Stat,
    above: Option<&'a ExcludedDirectory<'a>>,
}

impl ExcludedDirectory<'_> {
    /// Makes it and those above it, all looking as in the source.
    fn make(&self, job: &Job<'_>) -> Result<()> {
        if let Some(above) = self.above {
            above.make(job)?;
        }
        let (mode, owner) = (job.mode_of(&self.st), job.owner_of(&self.st));
        job.target.directory(&self.at, mode, owner)?;
        Ok(())
    }
}

/// A directory that is left out and has something in it that is not.
fn copy_partly(
    job: &Job<'_>,
    inside: &RootDir,
    path: &str,
    way: &ExcludedDirectory<'_>,
) -> Result<()> {
    for entry in inside.read_dir(Path::new(""))? {
        let name = entry.name.to_string_lossy();
        let below = format!("{path}/{name}");
        let st = inside.lstat(Path::new(&entry.name))?;
        if !job.filter.excludes(&below, st.is_dir()) {
            way.make(job)?;
            let to = Place {
                path: &way.at,
                is_new: false,
            };
            copy_object(job, inside, &entry.name, &below, to, &entry.name)?;
        } else if st.is_dir() && job.filter.may_include_below(&below) {
            let next = ExcludedDirectory {
                at: way.at.join(&entry.name),
                st,
                above: Some(way),
            };
            copy_partly(job, &inside.sub_dir(Path::new(&entry.name))?, &below, &next)?;
        }
    }
    Ok(())
}

fn finish_directory(job: &Job<'_>, from: &RootDir, at: &Path, st: &Stat) -> Result<()> {
    let dir = job.target.directory(at, 0o755, (0, 0))?;
    for (key, value) in from
        .xattrs(Path::new(""))?
        .iter()
        .filter(|(k, _)| job.is_copied(k))
    {
        dir.set_xattr(Path::new(""), key, value)?;
    }
    Ok(dir.set_mtime(Path::new(""), st.mtime)?)
}

fn copy_file(
    job: &Job<'_>,
    from: &RootDir,
    source: &Path,
    st: &Stat,
    dir: &Arc<RootDir>,
    to: &Path,
    at: &Path,
) -> Result<()> {
    if st.nlink > 1 {
        let mut links = job.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = links.get(&(st.dev, st.ino)) {
            return Ok(job.target.upper().hard_link(first, at)?);
        }
        links.insert((st.dev, st.ino), at.to_path_buf());
        // Held until the first name exists: the second may be copied by another thread.
        let done = copy_bytes(job, from, source, st, dir, to);
        drop(links);
        return done;
    }
    copy_bytes(job, from, source, st, dir, to)
}

fn copy_bytes(
    job: &Job<'_>,
    from: &RootDir,
    source: &Path,
    st: &Stat,
    dir: &Arc<RootDir>,
    to: &Path,
) -> Result<()> {
    let fd = from.open_read_nofollow(source)?;
    let mode = job.mode_of(st);
    // Nobody but kiln can reach the directory, so the final mode may be there from the start.
    let out = dir.new_file(to, mode)?;
    if st.size > 0 {
        system::copy_file(&fd, &out, st.size)?;
    }
    let mut xattrs = xattr::list_open(&fd)?;
    xattrs.retain(|(key, _)| job.is_copied(key));
    Ok(out.finish(&Attributes {
        owner: job.owner_of(st),
        mode,
        xattrs,
        mtime: st.mtime,
    })?)
}

/// Writes a file that the build itself holds.
pub(super) fn write_file(target: &Target<'_>, write: &WriteFile) -> Result<()> {
    let owner = target.owner(write.chown.as_deref())?;
    let real = target.real_path(&write.dest)?;
    let is_dir = write.dest.ends_with('/')
        || target
            .lstat(Path::new(&real))?
            .is_some_and(|st| st.is_dir());
    let (parent, name) = if is_dir {
        (real, write.name.clone())
    } else {
        let (parent, name) = real.rsplit_once('/').unwrap_or(("", &real));
        (parent.to_owned(), name.to_owned())
    };
    let parent = Path::new(&parent);
    let dir = target.directory(parent, ModeChange::on_the_way(write.chmod.as_ref()), owner)?;
    let to = Path::new(&name);
    dir.remove_all(to)?;
    let mode = write
        .chmod
        .as_ref()
        .map_or(0o644, |c| (c.apply)(0o644, false) & 0o7777);
    let mut file = std::fs::File::from(dir.create_new(to, 0o600)?);
    file.write_all(write.content.as_bytes())
        .map_err(|e| Error::io("write file", e))?;
    dir.chown(to, owner.0, owner.1)?;
    Ok(dir.chmod(to, mode)?)
}

/// Copies a directory of a tree, as it is, into an empty directory.
pub(crate) fn copy_all(source: &RootDir, path: &str, to: &RootDir) -> Result<()> {
    let below = path.trim_start_matches('/');
    let from = if below.is_empty() {
        source.try_clone()?
    } else {
        source.sub_dir(Path::new(below))?
    };
    let mut links = HashMap::new();
    copy_plain(&from, to, Path::new(""), &mut links, to)
}

fn copy_plain(
    from: &RootDir,
    to: &RootDir,
    at: &Path,
    links: &mut HashMap<(u64, u64), std::path::PathBuf>,
    top: &RootDir,
) -> Result<()> {
    for entry in from.read_dir(Path::new(""))? {
        let name = Path::new(&entry.name);
        let st = from.lstat(name)?;
        match st.kind {
            FileKind::Directory => {
                to.mkdir(name, 0o700)?;
                copy_plain(
                    &from.sub_dir(name)?,
                    &to.sub_dir(name)?,
                    &at.join(name),
                    links,
                    top,
                )?;
            }
            FileKind::File => {
                if st.nlink > 1 {
                    if let Some(first) = links.get(&(st.dev, st.ino)) {
                        top.hard_link(first, &at.join(name))?;
                        continue;
                    }
                    links.insert((st.dev, st.ino), at.join(name));
                }
                let fd = from.open_read_nofollow(name)?;
                let out = to.create_new(name, 0o600)?;
                system::copy_file(&fd, &out, st.size)?;
                for (key, value) in xattr::list_open(&fd)?.iter().filter(|(k, _)| is_copied(k)) {
                    xattr::set(&out, key, value)?;
                }
            }
            FileKind::Symlink => to.symlink(from.read_link(name)?.as_os_str(), name)?,
            FileKind::Socket => continue,
            _ if st.is_overlay_whiteout() => {
                return Err(marks_removal(&at.join(name).to_string_lossy()));
            }
            kind => to.mknod(name, kind, st.mode, st.rdev)?,
        }
        to.chown(name, st.uid, st.gid)?;
        if st.kind != FileKind::Symlink {
            to.chmod(name, st.mode)?;
        }
        to.set_mtime(name, st.mtime)?;
    }
    Ok(())
}
