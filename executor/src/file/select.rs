//! Which paths of a tree a source of COPY means.

use std::path::{Component, Path, PathBuf};

use kiln_solver::Hint;
use kiln_solver::lower::nearest;
use kiln_solver::plan::{Glob, PathFilter, has_wildcard};
use kiln_sys::{FileKind, RootDir, Stat};

use super::Selection;
use crate::error::{Error, Result};
use crate::tree::OpenTree;

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
    /// The directories above it whose names `--parents` keeps, from the top: where each is, links
    /// followed, and the path that is kept of it. A link may lead elsewhere, so that these need not
    /// be above `path`. Empty without `--parents`.
    pub(crate) parents: Vec<(String, String)>,
}

impl Match {
    /// With the directories on the way of `path`, by which it was found.
    fn with_parents(mut self, root: &RootDir, path: &str) -> Result<Self> {
        let all: Vec<&str> = path.split('/').collect();
        let kept: Vec<&str> = self.kept.split('/').collect();
        let skipped = all.len().saturating_sub(kept.len());
        for n in 1..kept.len() {
            let (real, _) = lead(root, &all[..(skipped + n).min(all.len())].join("/"))?;
            self.parents.push((real, kept[..n].join("/")));
        }
        Ok(self)
    }
}

/// The paths that `source`, one of those that are wanted, means, sorted. A pattern may mean none; a
/// plain path, and what a link that a pattern means leads to, must exist.
pub(crate) fn select(tree: &OpenTree, wanted: &Selection, source: &str) -> Result<Vec<Match>> {
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
        match resolve(root, ignore, &path, skipped)? {
            ResolvedPath::Found(one) if wanted.parents => out.push(one.with_parents(root, &path)?),
            ResolvedPath::Found(one) => out.push(one),
            ResolvedPath::Ignored if wild => {}
            missing => return Err(not_found(tree, wanted, &path, &missing)?),
        }
    }
    Ok(out)
}

/// Why there is nothing at `path`.
fn not_found(
    tree: &OpenTree,
    wanted: &Selection,
    path: &str,
    missing: &ResolvedPath,
) -> Result<Error> {
    let error = |reason: String, hint| Error::SourceNotFound {
        path: format!("/{path}"),
        place: wanted.place.clone(),
        reason,
        hint,
    };
    let dir = tree.dir();
    let ignore = dir.and_then(|d| d.ignore.as_deref());
    let file = dir.and_then(|d| d.ignore_file.as_deref());
    let file = file.unwrap_or(".dockerignore");
    let left_out = |path: &str| match ignore.and_then(|f| f.rule(path)) {
        Some(rule) => format!("{file} leaves it out ({rule})"),
        None => format!("{file} leaves it out"),
    };
    Ok(match missing {
        ResolvedPath::Ignored => error(format!(": {}", left_out(path)), None),
        ResolvedPath::LinkTo { target, ignored } => error(
            match ignored {
                true => format!(": it is a link to `/{target}`, and {}", left_out(target)),
                false => format!(": it is a link to `/{target}`, which is not there"),
            },
            None,
        ),
        _ => error(String::new(), near(tree.root(), ignore, path)?),
    })
}

/// A path with a name like that at which there is nothing.
fn near(root: &RootDir, ignore: Option<&dyn PathFilter>, path: &str) -> Result<Option<Hint>> {
    let parts: Vec<&str> = path.split('/').collect();
    for (number, part) in parts.iter().enumerate() {
        let above = parts.get(..number).unwrap_or_default().join("/");
        let join = |name: &str| match above.as_str() {
            "" => name.to_owned(),
            above => format!("{above}/{name}"),
        };
        if real_path(root, &join(part))?.is_some() {
            continue;
        }
        let Some(real) = real_path(root, &above)? else {
            return Ok(None);
        };
        if !root.lstat(Path::new(&real))?.is_dir() {
            return Ok(Some(Hint::NotADirectory(format!("/{above}"))));
        }
        let entries = root.read_dir(Path::new(&real))?;
        let names = entries.iter().filter_map(|entry| entry.name.to_str());
        let kept = |name: &&str| !ignore.is_some_and(|f| f.excludes(&join(name)));
        let mut names: Vec<&str> = names.filter(kept).collect();
        names.sort_unstable();
        let rest = parts.get(number + 1..).unwrap_or_default();
        let found = nearest(part, &names).map(|name| {
            let all: Vec<String> = std::iter::once(join(name))
                .chain(rest.iter().map(ToString::to_string))
                .collect();
            all.join("/")
        });
        let exists = |path: &String| root.try_lstat(Path::new(path)).is_ok_and(|st| st.is_some());
        return Ok(found.filter(exists).map(Hint::DidYouMean));
    }
    Ok(None)
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

/// What a path turned out to be.
enum ResolvedPath {
    /// Something.
    Found(Match),
    /// Nothing.
    Nothing,
    /// Something that the ignore file leaves out.
    Ignored,
    /// A link to a path at which there is nothing, or something that the ignore file leaves out.
    LinkTo { target: String, ignored: bool },
}

/// What is at `path`, as far as the ignore file leaves anything of it.
fn resolve(
    root: &RootDir,
    ignore: Option<&dyn PathFilter>,
    path: &str,
    skipped: usize,
) -> Result<ResolvedPath> {
    let hidden = |path: &str, is_dir: bool| -> Result<bool> {
        match ignore {
            Some(filter) if !path.is_empty() && filter.excludes(path) => {
                Ok(!is_dir || !anything_below(root, filter, path, Path::new(path))?)
            }
            _ => Ok(false),
        }
    };
    let (real, exists) = lead(root, path)?;
    let st = match exists {
        true => root.try_lstat(Path::new(&real))?,
        false => None,
    };
    let is_dir = st.as_ref().is_some_and(Stat::is_dir);
    if hidden(path, is_dir)? && root.try_lstat(Path::new(path))?.is_some() {
        return Ok(ResolvedPath::Ignored);
    }
    let Some(st) = st else {
        return Ok(match root.try_lstat(Path::new(path))? {
            Some(_) => ResolvedPath::LinkTo {
                target: real,
                ignored: false,
            },
            None => ResolvedPath::Nothing,
        });
    };
    if hidden(&real, is_dir)? {
        return Ok(ResolvedPath::LinkTo {
            target: real,
            ignored: true,
        });
    }
    let name = path.rsplit('/').next().unwrap_or(path).to_owned();
    let kept: Vec<&str> = path.split('/').skip(skipped).collect();
    Ok(ResolvedPath::Found(Match {
        path: real,
        name,
        kept: kept.join("/"),
        is_dir: st.is_dir(),
        parents: Vec::new(),
    }))
}

/// Whether rules that leave the directory `dir` out leave anything below it in. If not, there is no
/// such directory for the build, as with BuildKit.
/// Rules see `dir`, and it is at `place`: names need not be UTF-8.
pub(crate) fn anything_below(
    root: &RootDir,
    filter: &dyn PathFilter,
    dir: &str,
    place: &Path,
) -> Result<bool> {
    let mut open = vec![(dir.to_owned(), place.to_owned())];
    while let Some((at, place)) = open.pop() {
        if !filter.may_include_below(&at) {
            continue;
        }
        for entry in root.read_dir(&place)? {
            let path = format!("{at}/{}", entry.name.to_string_lossy());
            if !filter.excludes(&path) {
                return Ok(true);
            }
            let place = place.join(&entry.name);
            if root.lstat(&place)?.is_dir() {
                open.push((path, place));
            }
        }
    }
    Ok(false)
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
    let (real, exists) = lead(root, path)?;
    Ok(exists.then_some(real))
}

/// Where a path leads inside the root, and whether anything is there.
fn lead(root: &RootDir, path: &str) -> Result<(String, bool)> {
    follow(path, |here| match root.try_lstat(Path::new(here))? {
        None => Ok(Waypoint::Nothing),
        Some(st) if st.kind == FileKind::Symlink => {
            Ok(Waypoint::Link(root.read_link(Path::new(here))?))
        }
        Some(_) => Ok(Waypoint::Other),
    })
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
