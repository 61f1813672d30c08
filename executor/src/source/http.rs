//! `ADD https://…`: files from the web.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use kiln_cache::Scratch;
use kiln_image::{Digest, Hasher};
use kiln_solver::event::Events;
use kiln_solver::key::Encoder;
use kiln_solver::plan::VertexId;
use kiln_solver::ports::{Pending, Solved};
use kiln_sys::RootDir;

use super::git::without_login;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::output::{DirTree, Output, Watch};

/// The largest file that is downloaded.
const MAX_SIZE: u64 = 64 << 30;

fn failed(url: &str, why: impl std::fmt::Display) -> Error {
    let url = without_login(url);
    Error::Missing {
        text: format!("cannot download `{url}`: {why}"),
        hint: "check the address and that this machine can reach it".into(),
    }
}

/// The name that a download has in its tree: the last part of the path.
fn file_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let after = path.split_once("://").map_or("", |(_, rest)| rest);
    let path = after.split_once('/').map_or("", |(_, p)| p);
    match path.rsplit('/').next() {
        None | Some("" | "." | "..") => "download",
        Some(name) => name,
    }
}

impl Engine {
    /// Downloads a file and opens it.
    ///
    /// # Errors
    /// It cannot be had.
    pub async fn download_file(&self, url: &str) -> Result<std::fs::File> {
        let scratch = self.s.store.scratch()?;
        let watch = Watch {
            events: Events::none(),
            vertex: VertexId::default(),
        };
        download(url, &scratch, None, &watch).await?;
        let root = RootDir::open_trusted(scratch.path())?;
        Ok(root.open_read(Path::new(file_name(url)))?.into())
    }

    /// Downloads a file; its content is its identity.
    pub(super) async fn http_source(
        &self,
        url: &str,
        checksum: Option<&str>,
        watch: &Watch,
    ) -> Result<Solved<Output>> {
        let wanted: Option<Digest> = match checksum {
            Some(text) => Some(text.parse().map_err(|e| failed(url, e))?),
            None => None,
        };
        let scratch = self.s.store.scratch()?;
        let digest = download(url, &scratch, wanted.as_ref(), watch).await?;
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
        Ok(Solved {
            output: Output::Dir(Arc::new(tree)),
            identity,
        })
    }
}

async fn download(
    url: &str,
    scratch: &Scratch,
    wanted: Option<&Digest>,
    watch: &Watch,
) -> Result<Digest> {
    let client = reqwest::Client::builder()
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
        .read_timeout(std::time::Duration::from_secs(60))
        .build()
        .map_err(|e| failed(url, e))?;
    let sent = client
        .get(url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status);
    let mut answer = sent.map_err(|e| failed(url, e.without_url()))?;
    let total = answer.content_length();
    let modified = answer
        .headers()
        .get(reqwest::header::LAST_MODIFIED)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| jiff::fmt::rfc2822::parse(v).ok())
        .map_or(0, |t| t.timestamp().as_second());
    let root = RootDir::open_trusted(scratch.path())?;
    let name = Path::new(file_name(url));
    let mut file = std::fs::File::from(root.create_new(name, 0o600)?);
    let mut hasher = Hasher::new(wanted.map_or(kiln_image::Algorithm::Sha256, Digest::algorithm));
    let mut size = 0;
    let shown = without_login(url);
    while let Some(chunk) = answer
        .chunk()
        .await
        .map_err(|e| failed(url, e.without_url()))?
    {
        size += chunk.len() as u64;
        if size > MAX_SIZE {
            return Err(failed(url, "it is larger than kiln downloads"));
        }
        hasher.update(&chunk);
        file.write_all(&chunk)
            .map_err(|e| Error::io("write download", e))?;
        watch.progress(&shown, size, total.unwrap_or(size));
    }
    let found = hasher.finish();
    if let Some(wanted) = wanted
        && *wanted != found
    {
        return Err(failed(
            url,
            format!("it has digest {found}, and {wanted} was expected"),
        ));
    }
    // As Docker: readable by its owner only, with the time that the server gives.
    root.chmod(name, 0o600)?;
    root.set_mtime(name, (modified, 0))?;
    Ok(found)
}
