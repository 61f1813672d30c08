//! Sources: images, directories, files from the web, git repositories.

mod archive;
mod changed;
mod download;
mod git;
mod http;
mod image;
mod import;
pub(crate) mod layers;
mod layout;
mod plain;

use kiln_solver::Watch;
use kiln_solver::key::Encoder;
use kiln_solver::plan::{Source, SourceKind};
use kiln_solver::ports::{Fetched, Pending, Solved, Sourced, Step};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::output::Output;

pub use archive::Loaded;
pub use http::WebFile;
pub use image::{Pulled, image_reference};
pub use import::Import;

impl Engine {
    pub(crate) async fn bring_in(&self, op: &Source, step: &Step) -> Result<Sourced<Output>> {
        let watch = Watch {
            events: step.events.clone(),
            vertex: step.vertex,
            over: step.over.clone(),
        };
        match &op.kind {
            SourceKind::Image { reference, config } => {
                let layers = self.image_layers(reference, config, Some(&watch))?;
                let identity = Pending::ready(image::identity(&layers));
                let (layers, fetched) = match self.arriving(&layers)? {
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
                let context = self
                    .s
                    .inputs
                    .contexts
                    .get(name)
                    .ok_or_else(|| Error::Missing {
                        text:
                            "there are no files to copy: the build has a Dockerfile and no context"
                                .into(),
                        hint: "give a directory, a tar or an address in place of `-`".into(),
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
