//! Makes an image of the files of a tar.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use kiln_executor::BuildInputs;
use kiln_executor::source::Import;
use kiln_image::{Digest, ImageConfig, Platform, Reference, SafeUrl};
use kiln_solver::lint::Findings;
use kiln_solver::lower::{self, LowerError, NoCache};
use kiln_solver::plan::{Network, SourceKind};
use tokio_util::sync::CancellationToken;

use super::Images;
use crate::cancel::blocking;
use crate::error::{Error, Hint, Result};
use crate::event::Events;
use crate::source_text::SourceText;

/// Instructions that change the config of an image that is imported.
pub const CHANGE_INSTRUCTIONS: &[&str] = &[
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A tar that becomes an image.
#[derive(Debug)]
pub struct ImportRequest {
    /// The tar, in any compression.
    pub source: ImportSource,
    /// Dockerfile instructions that change the image's config.
    pub changes: Vec<String>,
    /// Comment in the image's history; none names the source.
    pub message: Option<String>,
    /// Platform that the files are for.
    pub platform: Platform,
    /// The time of the image, in seconds since 1970; none is now.
    pub epoch: Option<u64>,
    /// Name of the image.
    pub name: Option<Reference>,
}

/// Where the tar comes from.
#[derive(Debug)]
pub enum ImportSource {
    /// A web address.
    Url(String),
    /// A file of this machine.
    File(PathBuf),
    /// A stream, such as standard input.
    Stream(File),
}

impl ImportSource {
    /// What history calls it.
    fn name(&self) -> String {
        match self {
            Self::Url(url) => SafeUrl::of(url).into(),
            Self::File(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                name.to_string_lossy().into_owned()
            }
            Self::Stream(_) => "-".into(),
        }
    }

    /// What errors call it.
    fn shown(&self) -> String {
        match self {
            Self::Url(url) => format!("`{}`", String::from(SafeUrl::of(url))),
            Self::File(path) => format!("`{}`", path.display()),
            Self::Stream(_) => "what standard input gives".into(),
        }
    }
}

impl Images<'_> {
    /// Makes an image of the files of a tar. Gives its id.
    ///
    /// # Errors
    /// The tar cannot be had or read, or a change makes no sense.
    pub async fn import(self, request: ImportRequest, events: &Events) -> Result<Digest> {
        let worker = self.engine.worker(BuildInputs::default(), false, events)?;
        let config = config(&worker, &request.changes, &request.platform).await?;
        let (name, shown) = (request.source.name(), request.source.shown());
        let input: Box<dyn Read + Send> = match request.source {
            ImportSource::Url(url) => {
                Box::new(worker.sources().download_file(&url, None).await?.file)
            }
            ImportSource::File(path) => Box::new(
                File::open(&path)
                    .map_err(|e| Error::failed(format!("cannot read `{}`: {e}", path.display())))?,
            ),
            ImportSource::Stream(file) => Box::new(file),
        };
        let message = request
            .message
            .unwrap_or_else(|| format!("Imported from {name}"));
        let import = Import {
            config,
            message,
            epoch: request.epoch,
        };
        let images = worker.images().clone();
        let work = move || images.import(input, import);
        let id = blocking(&CancellationToken::new(), work).await?;
        let id = id.map_err(|e| Error::from(e).about(format!("cannot import {shown}")))?;
        worker
            .exporter()
            .name_image(&id, request.name.as_slice(), None)?;
        Ok(id)
    }
}

/// The config that instructions make on top of nothing.
async fn config(
    worker: &kiln_executor::Worker,
    changes: &[String],
    platform: &Platform,
) -> Result<ImageConfig> {
    let mut text = "FROM scratch\n".to_owned();
    for change in changes {
        let bad = |why: &str| {
            Error::request(format!("--change `{change}`: {why}"))
                .with_hint(Hint::Instructions(CHANGE_INSTRUCTIONS))
        };
        // On its own it would not be looked at: a Dockerfile starts with FROM.
        let parsed = kiln_parser::parse(&format!("FROM scratch\n{change}\n"));
        let is_known =
            |keyword: &str| CHANGE_INSTRUCTIONS.contains(&keyword.to_uppercase().as_str());
        match parsed.dockerfile.instructions.as_slice() {
            [_, one] if is_known(&one.keyword.value) => {}
            [_, _] => return Err(bad("it cannot be used here")),
            _ => return Err(bad("write one instruction")),
        }
        text.push_str(change.trim_end());
        text.push('\n');
    }
    let source = SourceText {
        name: "--change".into(),
        text,
        file: None,
    };
    let wrong = |error: LowerError| Error::Dockerfile {
        file: Box::new(source.clone()),
        error: Box::new(error),
    };
    let parsed = kiln_parser::parse(&source.text);
    if parsed.has_errors() {
        return Err(Error::Syntax {
            file: Box::new(source),
            diagnostics: parsed.diagnostics,
        });
    }
    let request = lower::Request {
        dockerfile: &parsed.dockerfile,
        source: &source.text,
        target: None,
        every_stage: false,
        without_images: false,
        build_args: Default::default(),
        labels: Default::default(),
        platform: platform.clone(),
        platform_given: true,
        build_platform: Platform::host(),
        contexts: Default::default(),
        context: SourceKind::Context {
            name: "context".into(),
        },
        no_cache: NoCache::default(),
        project: String::new(),
        network: Network::None,
        extra_hosts: Vec::new(),
        ulimits: Vec::new(),
        shm_size: None,
        allow_insecure: false,
        policy: Default::default(),
    };
    let lowered = lower::lower(&request, worker, &Findings::default()).await;
    Ok(lowered.map_err(wrong)?.config)
}
