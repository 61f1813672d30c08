//! Which paths of a tree a source of COPY means.

use std::path::{Component, Path, PathBuf};

use kiln_solver::plan::{Glob, PathFilter, has_wildcard};
use kiln_sys::{FileKind, RootDir};

use super::Wanted;
use crate::engine::OpenTree;
use crate::error::{Error, Result};

/// A path that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    /// Where it is, links followed, relative to the root; empty for the root itself.
    pub(crate) path: String,
    /// Its last component as written.
    pub(crate) name: String,
    /// The path that `--parents` keeps.
    pub(crate) kept: String,
    /// Whether it is a directory.
    pub(crate) is_dir: bool,
}

/// The paths that `source`, one of those that are wanted, means, sorted. A pattern may mean none; a
/// plain path must exist.
pub(crate) fn select(tree: &OpenTree, wanted: &Wanted, source: &str) -> Result<Vec<Match>> {
    let (root, dir, one_path) = (tree.root(), tree.dir(), wanted.one_path);
    let ignore = dir.and_then(|d| d.ignore.as_deref());
    let (pivot, _) = source
        .split_once("/./")
        .map_or(("", source), |(a, b)| (a, b));
    let skipped = Glob::new(pivot).segments().len();
    // Only `--parents` goes to any depth; elsewhere two stars are no more than one.
    let pattern = if wanted.parents {
        Glob::new(source)
    } else {
        Glob::new(&source.replace("**", "*"))
    };
    let wild = !one_path && has_wildcard(source);
    let mut found = Vec::new();
    if wild {
        expand(root, ignore, pattern.segments(), String::new(), &mut found)?;
        found.sort();
    } else {
        let plain: Vec<String> = pattern
            .segments()
            .iter()
            .map(|s| if one_path { s.clone() } else { unescape(s) })
            .collect();
        found.push(plain.join("/"));
    }
    let mut out = Vec::new();
    for path in found {
        let Some(one) = resolve(root, ignore, &path, skipped)? else {
            if wild {
                continue;
            }
            let is_there = root.try_lstat(Path::new(&path))?.is_some();
            let file = || dir.and_then(|d| d.ignore_file.clone());
            return Err(Error::SourceNotFound {
                path: format!("/{path}"),
                place: wanted.place.clone(),
                ignored_by: (is_there && ignore.is_some())
                    .then(|| file().unwrap_or_else(|| ".dockerignore".into())),
            });
        };
        out.push(one);
    }
    Ok(out)
}

/// Takes the backslash from quoted characters.
fn unescape(segment: &str) -> String {
    let mut out = String::new();
    let mut chars = segment.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' {
            chars.next().unwrap_or(c)
        } else {
            c
        });
    }
    out
}

/// What is at `path`, if the ignore file leaves anything of it.
fn resolve(
    root: &RootDir,
    ignore: Option<&dyn PathFilter>,
    path: &str,
    skipped: usize,
) -> Result<Option<Match>> {
    let real = real_path(root, path)?;
    let Some(real) = real else { return Ok(None) };
    let Some(st) = root.try_lstat(Path::new(&real))? else {
        return Ok(None);
    };
    let hidden = |p: &str| {
        !p.is_empty()
            && ignore.is_some_and(|f| f.excludes(p) && !(st.is_dir() && f.may_include_below(p)))
    };
    if hidden(&real) || hidden(path) {
        return Ok(None);
    }
    let name = path.rsplit('/').next().unwrap_or(path).to_owned();
    let kept: Vec<&str> = path.split('/').skip(skipped).collect();
    Ok(Some(Match {
        path: real,
        name,
        kept: kept.join("/"),
        is_dir: st.is_dir(),
    }))
}

/// What is at a step on the way along a path.
pub(super) enum Waypoint {
    /// Nothing: the rest of the path is taken as it is written.
    Nothing,
    /// A link with this target.
    Link(PathBuf),
    /// Anything else.
    Other,
}

/// The most links on one way, as in the kernel many times over.
const MAX_LINKS: usize = 255;

/// Follows `path` from the root of a tree, links in every component included, without leaving it.
/// `look` says what is at a path without links. Gives the real path, and whether all of it exists.
pub(super) fn follow(
    path: &str,
    mut look: impl FnMut(&str) -> Result<Waypoint>,
) -> Result<(String, bool)> {
    let mut done: Vec<String> = Vec::new();
    let mut todo: Vec<String> = path
        .rsplit('/')
        .filter(|p| !p.is_empty())
        .map(Into::into)
        .collect();
    let (mut links, mut exists) = (0, true);
    while let Some(part) = todo.pop() {
        match part.as_str() {
            "." => continue,
            ".." => {
                done.pop();
                continue;
            }
            _ => done.push(part),
        }
        match look(&done.join("/"))? {
            Waypoint::Nothing => exists = false,
            Waypoint::Other => {}
            Waypoint::Link(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::Other(format!(
                        "`{path}`: too many levels of symbolic links"
                    )));
                }
                done.pop();
                if target.is_absolute() {
                    done.clear();
                }
                for part in target.components().rev() {
                    match part {
                        Component::Normal(name) => todo.push(name.to_string_lossy().into_owned()),
                        Component::ParentDir => todo.push("..".into()),
                        _ => {}
                    }
                }
            }
        }
    }
    Ok((done.join("/"), exists))
}

/// The path with every link resolved, the last one too, inside the root; none if it leads to
/// nothing.
pub(crate) fn real_path(root: &RootDir, path: &str) -> Result<Option<String>> {
    let (real, exists) = follow(path, |here| match root.try_lstat(Path::new(here))? {
        None => Ok(Waypoint::Nothing),
        Some(st) if st.kind == FileKind::Symlink => {
            Ok(Waypoint::Link(root.read_link(Path::new(here))?))
        }
        Some(_) => Ok(Waypoint::Other),
    })?;
    Ok(exists.then_some(real))
}

/// Walks along the segments of a pattern.
fn expand(
    root: &RootDir,
    ignore: Option<&dyn PathFilter>,
    segments: &[String],
    at: String,
    found: &mut Vec<String>,
) -> Result<()> {
    let Some((first, rest)) = segments.split_first() else {
        found.push(at);
        return Ok(());
    };
    let join = |name: &str| {
        if at.is_empty() {
            name.to_owned()
        } else {
            format!("{at}/{name}")
        }
    };
    if first != "**" && !has_wildcard(first) {
        let path = join(&unescape(first));
        if root.try_lstat(Path::new(&path))?.is_some() {
            expand(root, ignore, rest, path, found)?;
        }
        return Ok(());
    }
    // Links to directories are followed by patterns only where a further segment asks for it.
    let Some(real) = real_path(root, &at)? else {
        return Ok(());
    };
    if !root.lstat(Path::new(&real))?.is_dir() {
        return Ok(());
    }
    if first == "**" {
        expand(root, ignore, rest, at.clone(), found)?;
    }
    let mut names = root.read_dir(Path::new(&real))?;
    names.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in names {
        let name = entry.name.to_string_lossy();
        let path = join(&name);
        let hidden = ignore.is_some_and(|f| f.excludes(&path) && !f.may_include_below(&path));
        let is_dir = || -> Result<bool> {
            let path = Path::new(&real).join(&entry.name);
            Ok(root.lstat(&path)?.is_dir())
        };
        let goes_on = match first.as_str() {
            _ if hidden => false,
            "**" => is_dir()?,
            _ => Glob::segment_matches(first, &name),
        };
        if !goes_on {
            continue;
        }
        if entry.name.to_str().is_none() {
            return Err(Error::Other(format!(
                "the pattern `{first}` finds `{path}`, whose name is not UTF-8: copy the directory \
                 that it is in"
            )));
        }
        let segments = if first == "**" { segments } else { rest };
        expand(root, ignore, segments, path, found)?;
    }
    found.dedup();
    Ok(())
}
