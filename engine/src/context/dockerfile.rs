//! Dockerfiles and the files beside them: read where the user named them, and never out of a context.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use kiln_sys::{FsError, Pipes, RootDir, read_named};

use super::encoding;
use super::fetch::Input;
use crate::error::{Error, Hint, Result};
use crate::source_text::SourceText;

/// The largest Dockerfile and ignore file, in bytes.
pub const MAX_DOCKERFILE_BYTES: u64 = 16 << 20;

/// Where the Dockerfile comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DockerfileAt {
    /// The default name in the context.
    #[default]
    Default,
    /// This file: of this machine where the context is one of its directories, else of the context.
    File(PathBuf),
    /// The input of the request.
    Input,
}

/// A file that belongs to a build, and so does what is named after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFile {
    /// The path as the user wrote it.
    shown: PathBuf,
    /// Its path in the context; none if it lies elsewhere, where the user's word counts.
    below: Option<PathBuf>,
}

/// `path` below `dir`, unless that takes a step up.
fn plain_below(path: &Path, dir: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(dir).ok()?;
    let is_plain = !below.components().any(|part| part == Component::ParentDir);
    is_plain.then(|| below.to_owned())
}

impl BuildFile {
    /// A file of a context.
    pub fn in_context(path: &Path) -> Self {
        Self {
            shown: path.to_owned(),
            below: Some(path.to_owned()),
        }
    }

    /// A path of this machine, which may lie in the context `dir`.
    pub fn named(path: &Path, dir: &Path) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).ok();
        let as_written = || plain_below(&absolute(path)?, &absolute(dir)?);
        let in_truth = || {
            let parent = absolute(path)?.parent()?.canonicalize().ok()?;
            let below = plain_below(&parent, &dir.canonicalize().ok()?)?;
            Some(below.join(path.file_name()?))
        };
        Self {
            shown: path.to_owned(),
            below: as_written().or_else(in_truth),
        }
    }

    /// The file that is called as this one with something behind it.
    pub(crate) fn with_suffix(&self, suffix: &str) -> Self {
        let longer = |path: &Path| {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(suffix);
            path.with_file_name(name)
        };
        Self {
            shown: longer(&self.shown),
            below: self.below.as_deref().map(longer),
        }
    }

    /// The path as the user wrote it.
    pub(crate) fn shown(&self) -> String {
        self.shown.display().to_string()
    }

    /// Its bytes, if it is there. A link in the context `dir` ends at its root, and only a file
    /// elsewhere may be a pipe, if `pipes` says so.
    pub(crate) fn read(&self, dir: &RootDir, pipes: Pipes, what: &str) -> Result<Option<Vec<u8>>> {
        let read = match &self.below {
            Some(below) => dir.read(below, MAX_DOCKERFILE_BYTES),
            None => read_named(&self.shown, MAX_DOCKERFILE_BYTES, pipes),
        };
        let why = match (read, &self.below) {
            (Ok(bytes), _) => return Ok(Some(bytes)),
            (Err(e), Some(below)) if e.is_not_found() => match dir.try_lstat(below) {
                // What it would lead to on this machine is not what was meant: rules or steps.
                Ok(Some(_)) => "it is a link that leads to no file of the context".into(),
                _ => return Ok(None),
            },
            (Err(e), None) if e.is_not_found() => return Ok(None),
            (Err(FsError { source, .. }), _) => source.to_string(),
        };
        let shown = self.shown();
        Err(Error::failed(format!(
            "cannot read {what} `{shown}`: {why}"
        )))
    }
}

/// The text of a Dockerfile that is called `name`.
pub(super) fn source(name: String, bytes: Vec<u8>) -> Result<SourceText> {
    match encoding::dockerfile(bytes) {
        Ok(text) => Ok(SourceText {
            name,
            text,
            file: None,
        }),
        Err(error) => {
            Err(Error::failed(format!("Dockerfile `{name}`: {error}"))
                .with_hint(Hint::ConvertToUtf8))
        }
    }
}

/// All bytes of a stream that may be a Dockerfile.
///
/// # Errors
/// It cannot be read, or has more bytes than a Dockerfile may have.
pub fn read_whole(input: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input
        .take(MAX_DOCKERFILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_DOCKERFILE_BYTES {
        true => Err(std::io::Error::other("it is larger than 16 MiB")),
        false => Ok(bytes),
    }
}

/// Reads the text of the request's input.
fn input_text(input: Input) -> Result<SourceText> {
    let name = input.name;
    let bytes = read_whole(input.stream)
        .map_err(|e| Error::failed(format!("cannot read the Dockerfile from {name}: {e}")))?;
    source("<stdin>".into(), bytes)
}

/// Reads the Dockerfile of a directory. `local` says that `-f` is a path of this machine.
/// Gives the text, and the file that its own ignore file is named after.
///
/// # Errors
/// It is not there, cannot be read, or is not text.
pub fn read_dockerfile(
    dir: &Path,
    at: &DockerfileAt,
    input: Option<Input>,
    local: bool,
) -> Result<(SourceText, Option<BuildFile>)> {
    let root = RootDir::open_trusted(dir)?;
    let missing = |name: &str| {
        let place = match local {
            true => format!("`{}`", dir.display()),
            false => "the context".into(),
        };
        Error::failed(format!("there is no `{name}` in {place}")).with_hint(Hint::NameDockerfile)
    };
    match at {
        DockerfileAt::Input => match input {
            Some(input) => Ok((input_text(input)?, None)),
            None => Err(Error::request(
                "there is no input that the Dockerfile could be read from",
            )),
        },
        DockerfileAt::Default => {
            for name in ["Dockerfile", "dockerfile", "Containerfile"] {
                let file = BuildFile::in_context(Path::new(name));
                if let Some(bytes) = file.read(&root, Pipes::Refused, "Dockerfile")? {
                    let mut source = source(name.into(), bytes)?;
                    source.file = local.then(|| dir.join(name));
                    return Ok((source, Some(file)));
                }
            }
            Err(missing("Dockerfile"))
        }
        DockerfileAt::File(path) => {
            let file = match local {
                true => BuildFile::named(path, dir),
                false => BuildFile::in_context(path),
            };
            let shown = file.shown();
            let Some(bytes) = file.read(&root, Pipes::Taken, "Dockerfile")? else {
                if !local {
                    return Err(missing(&shown));
                }
                return Err(Error::failed(format!("there is no Dockerfile `{shown}`")));
            };
            let mut source = source(shown, bytes)?;
            source.file = local.then(|| path.clone());
            Ok((source, Some(file)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_of_a_context_are_known_by_any_path() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        std::fs::create_dir_all(at("context/sub")).unwrap();
        std::fs::create_dir(at("other")).unwrap();
        symlink(at("context"), at("way-in")).unwrap();
        symlink(at("other"), at("context/way-out")).unwrap();
        for (path, below) in [
            ("context/D", Some("D")),
            ("context/sub/D", Some("sub/D")),
            ("context/./D", Some("D")),
            ("context/sub/../D", Some("D")),
            ("other/../context/D", Some("D")),
            ("way-in/D", Some("D")),
            ("way-in/sub/D", Some("sub/D")),
            // A context cannot send the user elsewhere.
            ("context/way-out/D", Some("way-out/D")),
            ("context/../other/D", None),
            ("other/D", None),
            ("context-2/D", None),
        ] {
            let file = BuildFile::named(&at(path), &at("context"));
            assert_eq!(file.below.as_deref(), below.map(Path::new), "{path}");
            let own = file.with_suffix(".dockerignore").below;
            let want = below.map(|below| PathBuf::from(format!("{below}.dockerignore")));
            assert_eq!(own, want, "{path}");
        }
    }
}
