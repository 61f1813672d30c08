//! `ADD https://…`: files from the web.

use std::path::Path;
use std::sync::Arc;

use kiln_image::Digest;
use kiln_solver::Watch;
use kiln_solver::event::Events;
use kiln_solver::key::Encoder;
use kiln_solver::plan::{DOWNLOADED, VertexId};
use kiln_solver::ports::{Pending, Solved, Sourced};
use kiln_sys::RootDir;

use super::SourceFetcher;
use super::download::{Answer, download, failed};
use crate::error::{Result, blocking};
use crate::output::{DirTree, Output};

/// A file from the web.
#[derive(Debug)]
pub struct WebFile {
    /// Its content.
    pub file: std::fs::File,
    /// When it was last changed, in seconds since 1970, if the server says so.
    pub modified: Option<i64>,
}

impl SourceFetcher {
    /// Downloads a file, which must have the digest `checksum` if there is one, and opens it.
    ///
    /// # Errors
    /// It cannot be had.
    pub async fn download_file(&self, url: &str, checksum: Option<&str>) -> Result<WebFile> {
        let wanted: Option<Digest> = match checksum {
            Some(text) => Some(text.parse().map_err(|e| failed(url, e))?),
            None => None,
        };
        let scratch = self.store().scratch()?;
        let watch = Watch {
            events: Events::none(),
            vertex: VertexId::default(),
            over: tokio_util::sync::CancellationToken::new(),
        };
        let limit = self.settings.max_download;
        let modified = match download(url, &scratch, wanted.as_ref(), None, limit, &watch).await? {
            Answer::Fetched(_, modified) => modified,
            Answer::Unchanged(_) | Answer::Here(_) => None,
        };
        let root = RootDir::open_trusted(scratch.path())?;
        Ok(WebFile {
            file: root.open_read(Path::new(DOWNLOADED))?.into(),
            modified,
        })
    }

    /// Downloads a file, unless the server says that it is the one that the store has; its
    /// content is its identity.
    pub(super) async fn http_source(
        &self,
        url: &str,
        checksum: Option<&str>,
        watch: &Watch,
    ) -> Result<Sourced<Output>> {
        let wanted: Option<Digest> = match checksum {
            Some(text) => Some(text.parse().map_err(|e| failed(url, e))?),
            None => None,
        };
        let scratch = self.store().scratch()?;
        let mut known = self.store().download(url)?;
        if let (Some(wanted), Some(download)) = (&wanted, &known)
            && *wanted != download.digest
        {
            known = None;
        }
        let limit = self.settings.max_download;
        let mut answer =
            download(url, &scratch, wanted.as_ref(), known.as_ref(), limit, watch).await?;
        if let Answer::Unchanged(modified) = answer {
            let to = scratch.path().join(DOWNLOADED);
            let (store, digest) = (self.store().clone(), known.map(|k| k.digest));
            let linked = blocking(move || match digest {
                Some(digest) => {
                    let is_whole = store.link_download(&digest, &to, modified)?;
                    Ok(is_whole.then_some(digest))
                }
                None => Ok(None),
            });
            answer = match linked.await? {
                Some(digest) => Answer::Here(digest),
                None => download(url, &scratch, wanted.as_ref(), None, limit, watch).await?,
            };
        }
        let (digest, fetched) = match answer {
            Answer::Here(digest) => (digest, false),
            Answer::Fetched(download, _) => {
                let file = scratch.path().join(DOWNLOADED);
                self.store().put_download(url, &file, &download)?;
                (download.digest, true)
            }
            Answer::Unchanged(_) => {
                return Err(failed(
                    url,
                    "the server calls it unchanged without being asked",
                ));
            }
        };
        let mut to = Encoder::new("http");
        to.bytes(digest.as_str().as_bytes());
        let tree = DirTree {
            path: scratch.path().to_path_buf(),
            ignore: None,
            ignore_file: None,
            remember: false,
            scratch: Some(scratch),
            reset_owner: true,
        };
        let identity = Pending::ready(to.finish().into());
        let solved = Solved {
            output: Output::Dir(Arc::new(tree)),
            identity,
        };
        let fetched = fetched.into();
        Ok(Sourced { solved, fetched })
    }
}
