//! Brings the Dockerfile, the context and the contexts with names of a build here.

use std::collections::BTreeMap;
use std::io::Read;

use kiln_cache::{Scratch, Store};
use kiln_executor::{BuildInputs, Changed, Context};
use kiln_image::Reference;
use kiln_solver::key::digest_of;
use kiln_solver::lower::NamedContext;
use kiln_solver::plan::SourceKind;
use kiln_solver::policy::{Policy, PolicyError};
use tokio_util::sync::CancellationToken;

use super::{DockerfileAt, Place, Unpacked};
use crate::cancel::{blocking, unless_cancelled};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::source_text::SourceText;

/// A stream that a request may read: standard input, or the body of a request to a server.
pub struct Input {
    /// What errors call it, such as `standard input`.
    pub name: String,
    /// Its bytes.
    pub stream: Box<dyn Read + Send>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Input").field(&self.name).finish()
    }
}

/// A further context of a build, which it has under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedSource {
    /// An image of a registry or of the store, or of a layout (`oci-layout://…`).
    Image(String),
    /// Files.
    Place(Place),
}

impl NamedSource {
    /// Reads the value of a `--build-context NAME=VALUE`.
    pub fn parse(value: &str) -> Self {
        match value.strip_prefix("docker-image://") {
            Some(reference) => Self::Image(reference.to_owned()),
            None if value.starts_with("oci-layout://") => Self::Image(value.to_owned()),
            None => Self::Place(Place::parse(value)),
        }
    }
}

/// The Dockerfile and its context.
pub(crate) struct BuildFiles {
    pub(crate) dockerfile: SourceText,
    pub(crate) context: Option<Context>,
}

/// Brings contexts here.
pub(crate) struct Fetcher<'a> {
    pub(crate) engine: &'a Engine,
    /// What may be brought.
    pub(crate) policy: &'a Policy,
    /// Bytes of one download at most, where another number counts than that of the config.
    pub(crate) max_download: Option<u64>,
    pub(crate) events: &'a Events,
    pub(crate) cancel: &'a CancellationToken,
}

impl Fetcher<'_> {
    /// Reads the Dockerfile and makes the context ready.
    pub(crate) async fn files(
        &self,
        place: &Place,
        at: &DockerfileAt,
        input: Option<Input>,
        keep_git_dir: bool,
    ) -> Result<BuildFiles> {
        let is_directory = matches!(place, Place::Directory(_));
        if is_directory {
            self.policy.directory("context").map_err(|e| denied(&e))?;
        }
        // Others have it in them.
        if is_directory || matches!(at, DockerfileAt::Input) {
            let allowed = self.policy.directory("dockerfile");
            allowed.map_err(|e| denied(&e))?;
        }
        match place {
            Place::Directory(dir) => {
                let (store, dir, at) = (self.engine.root().to_owned(), dir.clone(), at.clone());
                let work = move || -> Result<BuildFiles> {
                    let (dockerfile, path) = super::read_dockerfile(&dir, &at, input, true)?;
                    let context = super::directory(&dir, path.as_ref(), &store)?;
                    Ok(BuildFiles {
                        dockerfile,
                        context: Some(context),
                    })
                };
                blocking(self.cancel, work).await?
            }
            Place::Input => {
                if matches!(at, DockerfileAt::Input) {
                    return Err(Error::request(
                        "standard input cannot be both Dockerfile and context",
                    ));
                }
                let input = input.ok_or_else(|| {
                    Error::request("there is no input that the context could be read from")
                })?;
                let unpacked = self.unpack(input.stream, input.name).await?;
                match &unpacked {
                    Unpacked::Text(_) => self.policy.directory("dockerfile"),
                    Unpacked::Tree(..) => self.policy.stream("context"),
                }
                .map_err(|e| denied(&e))?;
                from_archive(unpacked, at, None)
            }
            Place::Http(url) => from_archive(self.http(url.clone()).await?, at, input),
            Place::Git(url) => {
                let (tree, changed) = self.git(url, keep_git_dir).await?;
                from_archive(Unpacked::Tree(tree, changed), at, input)
            }
        }
    }

    /// The contexts with names, whose files go into `inputs`.
    pub(crate) async fn named(
        &self,
        list: &[(String, NamedSource)],
        inputs: &mut BuildInputs,
    ) -> Result<BTreeMap<String, NamedContext>> {
        let mut out = BTreeMap::new();
        for (name, source) in list {
            let name = name.to_lowercase();
            // A name that no FROM or --from can have would never be used.
            Reference::parse(&name)
                .map_err(|e| Error::request(format!("build context `{name}`: the name: {e}")))?;
            let context = match source {
                NamedSource::Image(reference) => NamedContext::Image(reference.clone()),
                NamedSource::Place(place) => {
                    let tree = self.tree(&name, place).await?;
                    inputs.contexts.insert(name.clone(), tree);
                    NamedContext::Source(SourceKind::Context { name: name.clone() })
                }
            };
            out.insert(name, context);
        }
        Ok(out)
    }

    async fn tree(&self, name: &str, place: &Place) -> Result<Context> {
        match place {
            Place::Directory(dir) => {
                self.policy.directory(name).map_err(|e| denied(&e))?;
                super::directory(dir, None, self.engine.root())
            }
            Place::Git(url) => {
                let (tree, changed) = self.git(url, false).await?;
                super::unpacked(tree, changed, None)
            }
            Place::Http(url) => match self.http(url.clone()).await? {
                Unpacked::Tree(scratch, changed) => super::unpacked(scratch, changed, None),
                Unpacked::Text(_) => Err(Error::failed(format!("`{url}` is not an archive"))),
            },
            Place::Input => Err(Error::request(
                "a further build context cannot be standard input",
            )),
        }
    }

    async fn git(&self, url: &str, keep_git_dir: bool) -> Result<(Scratch, Changed)> {
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
            return Err(Error::failed("a repository has become something else"));
        };
        let worker = self.worker()?;
        let checkout = worker
            .sources()
            .git_checkout(&url, keep_git_dir, checksum.as_deref());
        let (tree, time) = unless_cancelled(self.cancel, checkout).await??;
        Ok((tree, Changed::At(time)))
    }

    fn worker(&self) -> Result<kiln_executor::Worker> {
        let inputs = BuildInputs {
            max_download: self.max_download,
            ..BuildInputs::default()
        };
        self.engine.worker(inputs, false, self.events)
    }

    async fn http(&self, url: String) -> Result<Unpacked> {
        let asked = SourceKind::Http {
            url,
            checksum: None,
        };
        let SourceKind::Http { url, checksum } =
            self.policy.source(asked).map_err(|e| denied(&e))?
        else {
            return Err(Error::failed("a web file has become something else"));
        };
        let worker = self.worker()?;
        let download = worker.sources().download_file(&url, checksum.as_deref());
        let file = unless_cancelled(self.cancel, download).await??;
        let unpacked = self.unpack(Box::new(file.file), url).await?;
        Ok(match (unpacked, file.modified) {
            (Unpacked::Tree(tree, _), Some(time)) => Unpacked::Tree(tree, Changed::At(time)),
            (unpacked, _) => unpacked,
        })
    }

    async fn unpack(&self, input: Box<dyn Read + Send>, what: String) -> Result<Unpacked> {
        let store: Store = self.engine.session()?;
        blocking(self.cancel, move || super::archive(&store, input, &what)).await?
    }
}

fn denied(error: &PolicyError) -> Error {
    Error::failed(error.to_string())
}

/// Names the Dockerfile among all that are built here, by digest: an address may hold a token.
/// What comes by an input has no name.
pub(crate) fn project(place: &Place, at: &DockerfileAt) -> String {
    let real = |path: &std::path::Path| {
        let real = std::fs::canonicalize(path).ok();
        let path = real.as_deref().unwrap_or(path);
        path.to_string_lossy().into_owned()
    };
    let context = match place {
        Place::Input => return String::new(),
        Place::Directory(dir) => real(dir),
        Place::Git(address) | Place::Http(address) => address.clone(),
    };
    let file = match at {
        DockerfileAt::Input => return String::new(),
        DockerfileAt::File(file) => real(file),
        DockerfileAt::Default => String::new(),
    };
    digest_of(&(context, file))
}

fn from_archive(unpacked: Unpacked, at: &DockerfileAt, input: Option<Input>) -> Result<BuildFiles> {
    match unpacked {
        Unpacked::Text(dockerfile) => Ok(BuildFiles {
            dockerfile,
            context: None,
        }),
        Unpacked::Tree(scratch, changed) => {
            let (dockerfile, path) = super::read_dockerfile(scratch.path(), at, input, false)?;
            let context = super::unpacked(scratch, changed, path.as_ref())?;
            Ok(BuildFiles {
                dockerfile,
                context: Some(context),
            })
        }
    }
}
