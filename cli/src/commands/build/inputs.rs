//! What a build works on: its Dockerfile, its context, and contexts with names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_executor::{BuildInputs, Changed, Context, Engine};
use kiln_image::Reference;
use kiln_solver::key::digest_of;
use kiln_solver::lower::NamedContext;
use kiln_solver::plan::SourceKind;
use kiln_solver::policy::{Policy, PolicyError};
use kiln_sys::{Pipes, read_named};
use tokio::runtime::Runtime;

use super::{Args, options};
use crate::context::{self, DockerfileAt, Place, Unpacked};
use crate::diagnostics::SourceText;
use crate::engine::App;
use crate::errors::Failure;
use crate::interrupt::Interrupt;
use crate::settings::MAX_PEM;

/// The Dockerfile and its context.
pub(super) struct Files {
    pub(super) dockerfile: SourceText,
    pub(super) context: Option<Context>,
}

/// Brings contexts here; a signal ends that.
pub(super) struct Fetcher<'a> {
    pub(super) app: &'a App,
    pub(super) runtime: &'a Runtime,
    pub(super) interrupt: &'a Interrupt,
    /// What may be brought.
    pub(super) policy: &'a Policy,
    /// `--max-download` in bytes.
    pub(super) max_download: Option<u64>,
}

impl Fetcher<'_> {
    /// Reads the Dockerfile and makes the context ready.
    pub(super) fn files(&self, args: &Args) -> Result<Files, Failure> {
        let at = match args.file.as_deref() {
            None => DockerfileAt::Default,
            Some("-") => DockerfileAt::Stdin,
            Some(path) => DockerfileAt::File(path.into()),
        };
        let place = Place::parse(&args.context);
        let is_directory = matches!(place, Place::Directory(_));
        if is_directory {
            self.policy.directory("context").map_err(|e| denied(&e))?;
        }
        // Others have it in them.
        if is_directory || matches!(at, DockerfileAt::Stdin) {
            let allowed = self.policy.directory("dockerfile");
            allowed.map_err(|e| denied(&e))?;
        }
        match place {
            Place::Directory(dir) => {
                let store = self.app.settings.root.clone();
                let blocking = move || -> Result<Files, Failure> {
                    let (dockerfile, path) = context::dockerfile(&dir, &at, true)?;
                    let context = context::directory(&dir, path.as_ref(), &store)?;
                    Ok(Files {
                        dockerfile,
                        context: Some(context),
                    })
                };
                self.interrupt.wait_blocking(self.runtime, blocking)?
            }
            Place::Stdin => {
                if matches!(at, DockerfileAt::Stdin) {
                    return Err(Failure::usage(
                        "standard input cannot be both Dockerfile and context",
                    ));
                }
                let unpacked = self.unpack(std::io::stdin(), "standard input".into())?;
                match &unpacked {
                    Unpacked::Text(_) => self.policy.directory("dockerfile"),
                    Unpacked::Tree(..) => self.policy.stream("context"),
                }
                .map_err(|e| denied(&e))?;
                from_archive(unpacked, &at)
            }
            Place::Http(url) => from_archive(self.http(url)?, &at),
            Place::Git(url) => {
                let keep = options::assignments(&args.build_arg)?
                    .get("BUILDKIT_CONTEXT_KEEP_GIT_DIR")
                    .is_some_and(|v| matches!(v.as_str(), "1" | "true"));
                let (tree, changed) = self.git(&url, keep)?;
                from_archive(Unpacked::Tree(tree, changed), &at)
            }
        }
    }

    /// `--build-context`.
    pub(super) fn named(
        &self,
        list: &[String],
        inputs: &mut BuildInputs,
    ) -> Result<BTreeMap<String, NamedContext>, Failure> {
        let mut out = BTreeMap::new();
        for text in list {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                Failure::usage(format!("--build-context `{text}`: write NAME=VALUE"))
            })?;
            let name = name.to_lowercase();
            // A name that no FROM or --from can have would never be used.
            Reference::parse(&name).map_err(|e| {
                Failure::usage(format!("--build-context `{text}`: the name `{name}`: {e}"))
            })?;
            let is_image = value.starts_with("oci-layout://");
            let context = if let Some(reference) = value.strip_prefix("docker-image://") {
                NamedContext::Image(reference.to_owned())
            } else if is_image {
                NamedContext::Image(value.to_owned())
            } else {
                inputs
                    .contexts
                    .insert(name.clone(), self.tree(&name, value)?);
                NamedContext::Source(SourceKind::Context { name: name.clone() })
            };
            out.insert(name, context);
        }
        Ok(out)
    }

    fn tree(&self, name: &str, place: &str) -> Result<Context, Failure> {
        match Place::parse(place) {
            Place::Directory(dir) => {
                self.policy.directory(name).map_err(|e| denied(&e))?;
                context::directory(&dir, None, &self.app.settings.root)
            }
            Place::Git(url) => {
                let (tree, changed) = self.git(&url, false)?;
                context::unpacked(tree, changed, None)
            }
            Place::Http(url) => match self.http(url.clone())? {
                Unpacked::Tree(scratch, changed) => context::unpacked(scratch, changed, None),
                Unpacked::Text(_) => Err(Failure::new(format!("`{url}` is no archive"))),
            },
            Place::Stdin => Err(Failure::usage("--build-context cannot be standard input")),
        }
    }

    fn git(
        &self,
        url: &str,
        keep_git_dir: bool,
    ) -> Result<(kiln_cache::Scratch, Changed), Failure> {
        let asked = SourceKind::Git {
            url: url.to_owned(),
            keep_git_dir,
            checksum: None,
        };
        let SourceKind::Git {
            url,
            keep_git_dir,
            checksum,
        } = self.policy.source(asked).map_err(|e| denied(&e))?
        else {
            return Err(Failure::new("a repository has become something else"));
        };
        let engine = self.engine()?;
        let checkout = engine.git_checkout(&url, keep_git_dir, checksum.as_deref());
        let (tree, time) = self.interrupt.wait(self.runtime, checkout)??;
        Ok((tree, Changed::At(time)))
    }

    fn engine(&self) -> Result<Engine, Failure> {
        let inputs = BuildInputs {
            max_download: self.max_download,
            ..BuildInputs::default()
        };
        self.app.engine(inputs, false)
    }

    fn http(&self, url: String) -> Result<Unpacked, Failure> {
        let asked = SourceKind::Http {
            url,
            checksum: None,
        };
        let SourceKind::Http { url, checksum } =
            self.policy.source(asked).map_err(|e| denied(&e))?
        else {
            return Err(Failure::new("a web file has become something else"));
        };
        let engine = self.engine()?;
        let download = engine.download_file(&url, checksum.as_deref());
        let file = self.interrupt.wait(self.runtime, download)??;
        Ok(match (self.unpack(file.file, url)?, file.modified) {
            (Unpacked::Tree(tree, _), Some(time)) => Unpacked::Tree(tree, Changed::At(time)),
            (unpacked, _) => unpacked,
        })
    }

    fn unpack(
        &self,
        input: impl std::io::Read + Send + 'static,
        what: String,
    ) -> Result<Unpacked, Failure> {
        let store = self.app.store()?;
        let work = move || context::archive(&store, input, &what);
        self.interrupt.wait_blocking(self.runtime, work)?
    }
}

fn denied(error: &PolicyError) -> Failure {
    Failure::new(error.to_string())
}

/// Names the Dockerfile among all that are built here, by digest: an address may hold a token.
/// What comes by standard input has no name.
pub(super) fn project(args: &Args) -> String {
    let real = |path: &str| {
        let real = std::fs::canonicalize(path).ok();
        real.map_or_else(|| path.to_owned(), |p| p.to_string_lossy().into_owned())
    };
    let context = match Place::parse(&args.context) {
        Place::Stdin => return String::new(),
        Place::Directory(dir) => real(&dir.to_string_lossy()),
        Place::Git(address) | Place::Http(address) => address,
    };
    let file = match args.file.as_deref() {
        Some("-") => return String::new(),
        Some(file) => real(file),
        None => String::new(),
    };
    digest_of(&(context, file))
}

fn from_archive(unpacked: Unpacked, at: &DockerfileAt) -> Result<Files, Failure> {
    match unpacked {
        Unpacked::Text(dockerfile) => Ok(Files {
            dockerfile,
            context: None,
        }),
        Unpacked::Tree(scratch, changed) => {
            let (dockerfile, path) = context::dockerfile(scratch.path(), at, false)?;
            let context = context::unpacked(scratch, changed, path.as_ref())?;
            Ok(Files {
                dockerfile,
                context: Some(context),
            })
        }
    }
}

/// The certificates of these files.
///
/// # Errors
/// A file cannot be read, or has none.
pub(super) fn authorities(files: &[PathBuf]) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    for path in files {
        let wrong = |why: &str| {
            let path = path.display();
            Failure::new(format!(
                "certificate authority `{path}` of the config file: {why}"
            ))
        };
        let bytes = read_named(path, MAX_PEM, Pipes::Refused);
        let bytes = bytes.map_err(|e| wrong(&e.source.to_string()))?;
        let mark = b"-----BEGIN CERTIFICATE-----";
        if !bytes.windows(mark.len()).any(|part| part == mark) {
            return Err(wrong("there is no certificate in the form of PEM in it"));
        }
        all.extend(bytes);
        if !all.ends_with(b"\n") {
            all.push(b'\n');
        }
    }
    Ok(all)
}
