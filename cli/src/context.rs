//! Where a build's files and its Dockerfile come from.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::Store;
use kiln_executor::{Changed, Context, DirTree};
use kiln_image::{Compression, read_full};
use kiln_parser::Ignore;
use kiln_solver::plan::PathFilter;
use kiln_sys::RootDir;

use crate::diagnostics::SourceText;
use crate::encoding::{self, NoText};
use crate::errors::Failure;

/// The largest Dockerfile and ignore file.
const MAX_TEXT: u64 = 16 << 20;

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
pub(crate) enum Place {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A tar on standard input.
    Stdin,
    /// A git repository.
    Git(String),
    /// A tar from the web.
    Http(String),
}

impl Place {
    /// Reads an argument as Docker does.
    pub(crate) fn parse(text: &str) -> Self {
        let path = text.split(['#', '?']).next().unwrap_or_default();
        let is_http = text.starts_with("http://") || text.starts_with("https://");
        let is_git = text.starts_with("git://")
            || text.starts_with("ssh://")
            || text.starts_with("git@")
            || text.starts_with("github.com/")
            || (is_http && path.ends_with(".git"));
        match text {
            "-" => Self::Stdin,
            _ if is_git => Self::Git(text.to_owned()),
            _ if is_http => Self::Http(text.to_owned()),
            _ => Self::Directory(PathBuf::from(text)),
        }
    }
}

fn read_bytes(root: &RootDir, path: &Path, what: &str) -> Result<Option<Vec<u8>>, Failure> {
    match root.read(path, MAX_TEXT) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(Failure::new(format!(
            "cannot read {what} `{}`: {}",
            path.display(),
            e.source
        ))),
    }
}

fn read_text(root: &RootDir, path: &Path, what: &str) -> Result<Option<String>, Failure> {
    let Some(bytes) = read_bytes(root, path, what)? else {
        return Ok(None);
    };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| Failure::new(format!("{what} `{}` is no UTF-8 text", path.display())))
}

/// The text of a Dockerfile that is called `name`.
fn source(name: String, bytes: Vec<u8>) -> Result<SourceText, Failure> {
    match encoding::dockerfile(bytes) {
        Ok(text) => Ok(SourceText {
            name,
            text,
            file: None,
        }),
        Err(error) => {
            Err(Failure::new(format!("Dockerfile `{name}`: {error}")).with_hint(NoText::HINT))
        }
    }
}

/// Where the Dockerfile comes from.
#[derive(Clone, Debug)]
pub(crate) enum DockerfileAt {
    /// The default name in the context.
    Default,
    /// `-f FILE`.
    File(PathBuf),
    /// `-f -`.
    Stdin,
}

/// Reads the text of standard input.
fn stdin_text() -> Result<SourceText, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(MAX_TEXT)
        .read_to_end(&mut bytes)
        .map_err(|e| {
            Failure::new(format!(
                "cannot read the Dockerfile from standard input: {e}"
            ))
        })?;
    source("<stdin>".into(), bytes)
}

/// Reads the Dockerfile of a directory. `local` says that `-f` is a path of this machine.
/// Gives the text, and the path below the context that its own ignore file is named after.
pub(crate) fn dockerfile(
    dir: &Path,
    at: &DockerfileAt,
    local: bool,
) -> Result<(SourceText, Option<PathBuf>), Failure> {
    let root = RootDir::open_trusted(dir)?;
    let missing = |name: &str| {
        let place = match local {
            true => format!("`{}`", dir.display()),
            false => "the context".into(),
        };
        Failure::new(format!("there is no `{name}` in {place}"))
            .with_hint("name the file with -f FILE")
    };
    match at {
        DockerfileAt::Stdin => Ok((stdin_text()?, None)),
        DockerfileAt::Default => {
            for name in ["Dockerfile", "dockerfile", "Containerfile"] {
                if let Some(bytes) = read_bytes(&root, Path::new(name), "Dockerfile")? {
                    let mut source = source(name.into(), bytes)?;
                    source.file = local.then(|| dir.join(name));
                    return Ok((source, Some(name.into())));
                }
            }
            Err(missing("Dockerfile"))
        }
        DockerfileAt::File(path) => {
            let shown = path.display().to_string();
            if local {
                let bytes = std::fs::read(path)
                    .map_err(|e| Failure::new(format!("cannot read Dockerfile `{shown}`: {e}")))?;
                let mut source = source(shown, bytes)?;
                source.file = Some(path.clone());
                return Ok((source, Some(path.clone())));
            }
            match read_bytes(&root, path, "Dockerfile")? {
                Some(bytes) => Ok((source(shown, bytes)?, Some(path.clone()))),
                None => Err(missing(&shown)),
            }
        }
    }
}

/// An ignore file.
#[derive(Debug)]
pub(crate) struct IgnoreFile {
    /// The name that the user knows it by.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) ignore: Ignore,
}

/// The ignore file of a context: the one named after the Dockerfile, else `.dockerignore`.
pub(crate) fn ignore_file(
    dir: &Path,
    dockerfile: Option<&Path>,
) -> Result<Option<IgnoreFile>, Failure> {
    let root = RootDir::open_trusted(dir)?;
    let mut found = None;
    if let Some(file) = dockerfile {
        let own = file.with_file_name(format!(
            "{}.dockerignore",
            file.file_name().unwrap_or_default().to_string_lossy()
        ));
        let own_text = if own.is_absolute() || own.exists() {
            std::fs::read_to_string(&own).ok()
        } else {
            read_text(&root, &own, "ignore file")?
        };
        found = own_text.map(|text| (text, own.display().to_string()));
    }
    if found.is_none() {
        found = read_text(&root, Path::new(".dockerignore"), "ignore file")?
            .map(|text| (text, ".dockerignore".to_owned()));
    }
    let Some((text, name)) = found else {
        return Ok(None);
    };
    let ignore = Ignore::parse(&text).map_err(|e| Failure::new(format!("`{name}`: {e}")))?;
    Ok(Some(IgnoreFile { name, text, ignore }))
}

/// Ignore rules, and the name of the file that they are in.
type Rules = (Arc<dyn PathFilter>, String);

/// The ignore rules of a context.
fn ignore_rules(dir: &Path, dockerfile: Option<&Path>) -> Result<Option<Rules>, Failure> {
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
    dockerfile: Option<&Path>,
    store: &Path,
) -> Result<Context, Failure> {
    let path = dir.canonicalize().map_err(|e| {
        Failure::new(format!(
            "there is no context directory `{}`: {e}",
            dir.display()
        ))
    })?;
    if !path.is_dir() {
        return Err(Failure::new(format!(
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
) -> Result<Unpacked, Failure> {
    let bad = |e: &dyn std::fmt::Display| Failure::new(format!("the context from {what}: {e}"));
    let mut start = vec![0; 512];
    let filled = read_full(&mut input, &mut start).map_err(|e| bad(&e))?;
    start.truncate(filled);
    // The first block of a tar has zeros in it, whatever the language of the names.
    let is_text = !start.contains(&0) && Compression::detect(&start) == Compression::None;
    let whole = std::io::Cursor::new(start).chain(input);
    if is_text {
        let mut bytes = Vec::new();
        whole
            .take(MAX_TEXT)
            .read_to_end(&mut bytes)
            .map_err(|e| bad(&e))?;
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
    dockerfile: Option<&Path>,
) -> Result<Context, Failure> {
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
            ("-", Place::Stdin),
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
