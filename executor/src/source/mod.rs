//! Sources: images, directories, files from the web, git repositories.

mod changed;
mod download;
mod git;
mod http;

use std::sync::Arc;

use kiln_cache::Store;
use kiln_solver::Hint;
use kiln_solver::Watch;
use kiln_solver::key::Encoder;
use kiln_solver::plan::{Source, SourceKind};
use kiln_solver::ports::{Fetched, Pending, Solved, Sourced, Step};

use crate::error::{Error, Result};
use crate::images::{Images, identity};
use crate::layers::LayerFetcher;
use crate::output::Output;
use crate::settings::Settings;

pub use crate::images::{Import, Loaded, Pulled, image_reference};
pub use http::WebFile;

/// Brings in what builds start from.
#[derive(Clone, Debug)]
pub struct SourceFetcher {
    images: Images,
    layers: LayerFetcher,
    settings: Arc<Settings>,
}

impl SourceFetcher {
    pub(crate) fn new(images: Images, layers: LayerFetcher, settings: Arc<Settings>) -> Self {
        Self {
            images,
            layers,
            settings,
        }
    }

    fn store(&self) -> &Store {
        self.layers.store()
    }

    pub(crate) async fn fetch(&self, op: &Source, step: &Step) -> Result<Sourced<Output>> {
        let watch = Watch {
            events: step.events.clone(),
            vertex: step.vertex,
            over: step.over.clone(),
        };
        match &op.kind {
            SourceKind::Image { name, id } => {
                let layers = self
                    .images
                    .image_layers(name.reference(), id, Some(&watch))?;
                let identity = Pending::ready(identity(&layers));
                let (layers, fetched) = match self.images.arriving(&layers)? {
                    None => (layers, Fetched::No),
                    Some((layers, arrival)) => (layers, Fetched::WhenNeeded(arrival)),
                };
                let solved = Solved {
                    output: Output::Layers(layers),
                    identity,
                };
                Ok(Sourced { solved, fetched })
            }
            SourceKind::Context { name } => {
                let context =
                    self.settings
                        .inputs
                        .contexts
                        .get(name)
                        .ok_or_else(|| {
                            Error::Missing {
                        text:
                            "there are no files to copy: the build has a Dockerfile and no context"
                                .into(),
                        hint: Hint::GiveContext,
                    }
                        })?;
                // What is used of a context is fingerprinted where it is used.
                let mut to = Encoder::new("context");
                to.bytes(name.as_bytes());
                let identity = Pending::ready(to.finish().into());
                Ok(Sourced {
                    solved: Solved {
                        output: Output::Dir(context.tree.clone()),
                        identity,
                    },
                    fetched: Fetched::InPlace,
                })
            }
            SourceKind::Http { url, checksum } => {
                self.http_source(url, checksum.as_deref(), &watch).await
            }
            SourceKind::Git {
                url,
                keep_git_dir,
                checksum,
            } => {
                let source = self.git_source(url, *keep_git_dir, checksum.as_deref(), step);
                Ok(Sourced {
                    solved: source.await?,
                    fetched: Fetched::Yes,
                })
            }
        }
    }
}
