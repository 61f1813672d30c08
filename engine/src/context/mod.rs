//! Contexts of builds: where their files and their Dockerfile come from, and what is left out.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::Store;
use kiln_executor::{Changed, Context, DirTree};
use kiln_image::{Compression, read_full};
use kiln_parser::Ignore;
use kiln_solver::plan::PathFilter;
use kiln_sys::{Pipes, RootDir};

use crate::error::{Error, Result};
use crate::source_text::SourceText;

mod dockerfile;
mod encoding;
pub(crate) mod fetch;

use dockerfile::source;
pub use dockerfile::{BuildFile, DockerfileAt, MAX_DOCKERFILE_BYTES, read_dockerfile, read_whole};
pub use fetch::{Input, NamedSource};

/// `.dockerignore` as the solver's filter.
#[derive(Debug)]
struct IgnoreFilter {
    ignore: Ignore,
    /// Files that a build needs whatever the ignore file says are kept out of COPY all the same.
    patterns: Vec<String>,
}

impl PathFilter for IgnoreFilter {
    fn excludes(&self, path: &str) -> bool {
        self.ignore.verdict(path).excluded
    }

    fn may_include_below(&self, dir: &str) -> bool {
        self.ignore.may_reinclude_below(dir)
    }

    fn patterns(&self) -> Vec<String> {
        self.patterns.clone()
    }

    fn rule(&self, path: &str) -> Option<String> {
        let line = self.ignore.verdict(path).line?;
        let rules = self.ignore.patterns().zip(&self.patterns);
        let written = rules.into_iter().find(|((_, _, at), _)| *at == line);
        written.map(|(_, pattern)| format!("line {line}: `{pattern}`"))
    }
}

/// Leaves kiln's own store out of a context that it lies in: a copy of it would hold the copy.
#[derive(Debug)]
struct WithoutStore {
    /// From the context's root.
    store: String,
    rules: Option<Arc<dyn PathFilter>>,
}

impl WithoutStore {
    fn is_store(&self, path: &str) -> bool {
        let below = path.strip_prefix(&self.store);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl PathFilter for WithoutStore {
    fn excludes(&self, path: &str) -> bool {
        self.is_store(path) || self.rules.as_ref().is_some_and(|r| r.excludes(path))
    }

    fn may_include_below(&self, dir: &str) -> bool {
        !self.is_store(dir)
            && self
                .rules
                .as_ref()
                .is_some_and(|r| r.may_include_below(dir))
    }

    fn patterns(&self) -> Vec<String> {
        let mut all = self.rules.as_ref().map_or_else(Vec::new, |r| r.patterns());
        all.push(self.store.clone());
        all
    }

    fn rule(&self, path: &str) -> Option<String> {
        let rules = self.rules.as_ref()?;
        match self.is_store(path) {
            true => Some("kiln's own store".into()),
            false => rules.rule(path),
        }
    }
}

/// The place that a context argument names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A tar, or a Dockerfile alone, on the input of the request.
    Input,
    /// A git repository.
    Git(String),
    /// A tar from the web.
    Http(String),
}

impl Place {
    /// Reads an argument as Docker does.
    pub fn parse(text: &str) -> Self {
        let path = text.split(['#', '?']).next().unwrap_or_default();
        let is_http = text.starts_with("http://") || text.starts_with("https://");
        let is_git = text.starts_with("git://")
            || text.starts_with("ssh://")
            || text.starts_with("git@")
            || text.starts_with("github.com/")
            || (is_http && path.ends_with(".git"));
        match text {
            "-" => Self::Input,
            _ if is_git => Self::Git(text.to_owned()),
            _ if is_http => Self::Http(text.to_owned()),
            _ => Self::Directory(PathBuf::from(text)),
        }
    }
}

/// An ignore file.
#[derive(Debug)]
pub struct IgnoreFile {
    /// The name that the user knows it by.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Its rules.
    pub ignore: Ignore,
}

/// The ignore file of a context: the one named after the Dockerfile, else `.dockerignore`.
///
/// # Errors
/// It cannot be read, or its rules make no sense.
pub fn ignore_file(dir: &Path, dockerfile: Option<&BuildFile>) -> Result<Option<IgnoreFile>> {
    let root = RootDir::open_trusted(dir)?;
    let own = dockerfile.map(|file| file.with_suffix(".dockerignore"));
    let general = BuildFile::in_context(Path::new(".dockerignore"));
    for file in own.into_iter().chain([general]) {
        let Some(bytes) = file.read(&root, Pipes::Refused, "ignore file")? else {
            continue;
        };
        let name = file.shown();
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::failed(format!("ignore file `{name}` is not UTF-8 text")))?;
        let ignore = Ignore::parse(&text).map_err(|e| Error::failed(format!("`{name}`: {e}")))?;
        return Ok(Some(IgnoreFile { name, text, ignore }));
    }
    Ok(None)
}

/// Ignore rules, and the name of the file that they are in.
type Rules = (Arc<dyn PathFilter>, String);

/// The ignore rules of a context.
fn ignore_rules(dir: &Path, dockerfile: Option<&BuildFile>) -> Result<Option<Rules>> {
    let file = ignore_file(dir, dockerfile)?.filter(|file| !file.ignore.is_empty());
    let Some(IgnoreFile { name, ignore, .. }) = file else {
        return Ok(None);
    };
    let patterns = ignore
        .patterns()
        .map(|(p, negated, _)| {
            if negated {
                format!("!{p}")
            } else {
                p.to_owned()
            }
        })
        .collect();
    Ok(Some((Arc::new(IgnoreFilter { ignore, patterns }), name)))
}

/// A directory of this machine as a context, without the store at `store` if that is in it.
pub(crate) fn directory(
    dir: &Path,
    dockerfile: Option<&BuildFile>,
    store: &Path,
) -> Result<Context> {
    let path = dir.canonicalize().map_err(|e| {
        Error::failed(format!(
            "there is no context directory `{}`: {e}",
            dir.display()
        ))
    })?;
    if !path.is_dir() {
        return Err(Error::failed(format!(
            "the context `{}` is not a directory",
            dir.display()
        )));
    }
    let rules = ignore_rules(&path, dockerfile)?;
    let (ignore, ignore_file) = rules.map_or((None, None), |(f, n)| (Some(f), Some(n)));
    let store = store.canonicalize().unwrap_or_else(|_| store.to_owned());
    let inside = store.strip_prefix(&path).ok().and_then(Path::to_str);
    let inside = inside.filter(|inside| !inside.is_empty());
    let ignore_file = ignore_file.or(inside.map(|_| "kiln's own store".into()));
    let ignore = match inside {
        None => ignore,
        Some(inside) => Some(Arc::new(WithoutStore {
            store: inside.to_owned(),
            rules: ignore,
        }) as Arc<dyn PathFilter>),
    };
    let tree = DirTree {
        path,
        ignore,
        ignore_file,
        remember: true,
        scratch: None,
        reset_owner: true,
    };
    Ok(Context {
        tree: Arc::new(tree),
        changed: Changed::Unknown,
    })
}

/// A tar as a context, unpacked into a work directory of the store. A plain text instead of a
/// tar is a Dockerfile without any context.
pub(crate) fn archive(
    store: &Store,
    mut input: impl std::io::Read + Send + 'static,
    what: &str,
) -> Result<Unpacked> {
    let bad = |e: &dyn std::fmt::Display| Error::failed(format!("the context from {what}: {e}"));
    let mut start = vec![0; 512];
    let filled = read_full(&mut input, &mut start).map_err(|e| bad(&e))?;
    start.truncate(filled);
    // The first block of a tar has zeros in it, whatever the language of the names.
    let is_text = !start.contains(&0) && Compression::detect(&start) == Compression::None;
    let whole = std::io::Cursor::new(start).chain(input);
    if is_text {
        let bytes = read_whole(whole).map_err(|e| bad(&e))?;
        return Ok(Unpacked::Text(source("<stdin>".into(), bytes)?));
    }
    let scratch = store.scratch()?;
    let (_, plain) = kiln_image::compression::decoder(Box::new(whole)).map_err(|e| bad(&e))?;
    let root = RootDir::open_trusted(scratch.path())?;
    let options = kiln_cache::UnpackOptions::default();
    kiln_cache::unpack(plain, &root, &options).map_err(|e| bad(&e))?;
    Ok(Unpacked::Tree(scratch, Changed::WithFiles))
}

/// What a tar stream turned out to be.
pub(crate) enum Unpacked {
    /// Files, and when they were last changed.
    Tree(kiln_cache::Scratch, Changed),
    /// A Dockerfile alone.
    Text(SourceText),
}

/// An unpacked tar or a checkout as a context, which was last changed at some time.
pub(crate) fn unpacked(
    scratch: kiln_cache::Scratch,
    changed: Changed,
    dockerfile: Option<&BuildFile>,
) -> Result<Context> {
    let rules = ignore_rules(scratch.path(), dockerfile)?;
    let (ignore, ignore_file) = rules.map_or((None, None), |(f, n)| (Some(f), Some(n)));
    let tree = DirTree {
        path: scratch.path().to_path_buf(),
        ignore,
        ignore_file,
        remember: false,
        scratch: Some(scratch),
        reset_owner: true,
    };
    Ok(Context {
        tree: Arc::new(tree),
        changed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_places() {
        let git = |s: &str| Place::Git(s.to_owned());
        let cases = [
            (".", Place::Directory(".".into())),
            ("-", Place::Input),
            (
                "https://example.com/x.tar.gz",
                Place::Http("https://example.com/x.tar.gz".into()),
            ),
            (
                "https://example.com/r.git#main:dir",
                git("https://example.com/r.git#main:dir"),
            ),
            ("git@example.com:a/b", git("git@example.com:a/b")),
            ("./git.git", Place::Directory("./git.git".into())),
        ];
        for (text, want) in cases {
            assert_eq!(Place::parse(text), want, "{text}");
        }
    }
}
