//! `ADD https://…`: files from the web.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_cache::{Download, Scratch};
use kiln_image::{Digest, Hasher, with_causes};
use kiln_solver::event::Events;
use kiln_solver::key::Encoder;
use kiln_solver::plan::{DOWNLOADED, VertexId};
use kiln_solver::ports::{Pending, Solved, Sourced};
use kiln_sys::RootDir;
use reqwest::StatusCode;
use reqwest::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};

use super::git::without_login;
use crate::engine::Engine;
use crate::error::{Error, Result, blocking};
use crate::output::{DirTree, Output, Watch};

/// The largest file that is downloaded.
const MAX_SIZE: u64 = 64 << 30;

fn failed(url: &str, why: impl std::fmt::Display) -> Error {
    let url = without_login(url);
    Error::Missing {
        text: format!("cannot download `{url}`: {why}"),
        hint: "check the address, the checksum and that this machine can reach it".into(),
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
            over: tokio_util::sync::CancellationToken::new(),
        };
        download(url, &scratch, None, None, &watch).await?;
        let root = RootDir::open_trusted(scratch.path())?;
        Ok(root.open_read(Path::new(DOWNLOADED))?.into())
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
        let scratch = self.s.store.scratch()?;
        let mut known = self.s.store.download(url)?;
        if let (Some(wanted), Some(download)) = (&wanted, &known)
            && *wanted != download.digest
        {
            known = None;
        }
        let mut answer = download(url, &scratch, wanted.as_ref(), known.as_ref(), watch).await?;
        if let Answer::Unchanged(modified) = answer {
            let to = scratch.path().join(DOWNLOADED);
            let (store, digest) = (self.s.store.clone(), known.map(|k| k.digest));
            let linked = blocking(move || match digest {
                Some(digest) => {
                    let is_whole = store.link_download(&digest, &to, modified)?;
                    Ok(is_whole.then_some(digest))
                }
                None => Ok(None),
            });
            answer = match linked.await? {
                Some(digest) => Answer::Here(digest),
                None => download(url, &scratch, wanted.as_ref(), None, watch).await?,
            };
        }
        let (digest, fetched) = match answer {
            Answer::Here(digest) => (digest, false),
            Answer::Fetched(download) => {
                let file = scratch.path().join(DOWNLOADED);
                self.s.store.put_download(url, &file, &download)?;
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

/// What a server said.
enum Answer {
    /// A file, which is in the scratch directory now.
    Fetched(Download),
    /// The file is the one that was known, last changed at this time.
    Unchanged(SystemTime),
    /// The known file has been put into the scratch directory.
    Here(Digest),
}

async fn download(
    url: &str,
    scratch: &Scratch,
    wanted: Option<&Digest>,
    known: Option<&Download>,
    watch: &Watch,
) -> Result<Answer> {
    let client = reqwest::Client::builder()
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
        .read_timeout(std::time::Duration::from_secs(60))
        .build()
        .map_err(|e| failed(url, e))?;
    let mut request = client.get(url);
    if let Some(etag) = known.and_then(|k| k.etag.as_deref()) {
        request = request.header(IF_NONE_MATCH, etag);
    } else if let Some(time) = known.and_then(|k| k.last_modified.as_deref()) {
        request = request.header(IF_MODIFIED_SINCE, time);
    }
    let sent = request
        .send()
        .await
        .and_then(reqwest::Response::error_for_status);
    let mut answer = sent.map_err(|e| failed(url, with_causes(&e.without_url())))?;
    let total = answer.content_length();
    let header = |name| {
        let value = answer.headers().get(name).and_then(|v| v.to_str().ok());
        value.map(str::to_owned)
    };
    let (etag, last_modified) = (header(ETAG), header(LAST_MODIFIED));
    // A server need not repeat the time with "unchanged".
    let time = last_modified
        .as_deref()
        .or_else(|| known.and_then(|k| k.last_modified.as_deref()));
    let modified = time
        .and_then(|v| jiff::fmt::rfc2822::parse(v).ok())
        .map_or(0, |t| t.timestamp().as_second());
    if answer.status() == StatusCode::NOT_MODIFIED {
        let modified = Duration::from_secs(modified.try_into().unwrap_or(0));
        return Ok(Answer::Unchanged(SystemTime::UNIX_EPOCH + modified));
    }
    let root = RootDir::open_trusted(scratch.path())?;
    let name = Path::new(DOWNLOADED);
    let mut file = std::fs::File::from(root.create_new(name, 0o600)?);
    let mut hasher = Hasher::new(wanted.map_or(kiln_image::Algorithm::Sha256, Digest::algorithm));
    let mut size = 0;
    let shown = without_login(url);
    while let Some(chunk) = answer
        .chunk()
        .await
        .map_err(|e| failed(url, with_causes(&e.without_url())))?
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
    Ok(Answer::Fetched(Download {
        etag,
        last_modified,
        digest: found,
    }))
}
