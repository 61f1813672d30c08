//! A file from a web server: conditional requests, further tries, and content that was compressed on
//! its way.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use kiln_cache::{Download, Scratch};
use kiln_image::{Algorithm, Compression, Digest, Hasher, SafeUrl, compression, with_causes};
use kiln_registry::pace::{Pace, WINDOW};
use kiln_solver::Hint;
use kiln_solver::Watch;
use kiln_solver::plan::DOWNLOADED;
use kiln_sys::RootDir;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED, RETRY_AFTER,
};
use reqwest::{Response, StatusCode};

use crate::error::{Error, Result, blocking};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(20);

/// The pauses before further tries.
const PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(1)];

/// A server that asks for more patience than this has failed.
const MOST_PATIENCE: u64 = 10;

/// What a server said.
pub(super) enum Answer {
    /// A file, which is in the scratch directory now, and the time of its last change in seconds
    /// since 1970, if that is known.
    Fetched(Download, Option<i64>),
    /// The file is the one that was known, last changed at this time.
    Unchanged(SystemTime),
    /// The known file has been put into the scratch directory.
    Here(Digest),
}

/// Why a try failed.
enum Trouble {
    /// It may pass, after the pause that the server asks for.
    Passing(Error, Option<Duration>),
    /// It will not.
    Lasting(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Lasting(error)
    }
}

pub(super) fn failed(url: &str, why: impl std::fmt::Display) -> Error {
    let url = SafeUrl::of(url);
    Error::Missing {
        text: format!("cannot download `{url}`: {why}"),
        hint: Hint::CheckDownload,
    }
}

/// Downloads a file into the scratch directory, unless it is the one that is `known`. Trouble that
/// may pass is met by further tries.
pub(super) async fn download(
    url: &str,
    scratch: &Scratch,
    wanted: Option<&Digest>,
    known: Option<&Download>,
    limit: u64,
    watch: &Watch,
) -> Result<Answer> {
    let mut pauses = PAUSES.into_iter();
    loop {
        match attempt(url, scratch, wanted, known, limit, watch).await {
            Ok(answer) => return Ok(answer),
            Err(Trouble::Lasting(error)) => return Err(error),
            Err(Trouble::Passing(error, asked)) => {
                let Some(pause) = pauses.next() else {
                    return Err(error);
                };
                tracing::debug!(%error, "trying again");
                tokio::time::sleep(asked.unwrap_or_default().max(pause)).await;
            }
        }
    }
}

/// What an error of the client means: what was lost on the way may come through another time, a
/// server that nobody finds will not be found.
fn trouble(url: &str, error: reqwest::Error) -> Trouble {
    let passing = !(error.is_connect() || error.is_builder() || error.is_redirect());
    let error = failed(url, with_causes(&error.without_url()));
    match passing {
        true => Trouble::Passing(error, None),
        false => Trouble::Lasting(error),
    }
}

/// What a status of failure means.
fn refused(url: &str, answer: Response) -> Result<Response, Trouble> {
    let passing = matches!(answer.status().as_u16(), 408 | 429 | 500 | 502..=504);
    let asked = header(&answer, RETRY_AFTER).and_then(|text| text.trim().parse().ok());
    match answer.error_for_status() {
        Ok(answer) => Ok(answer),
        Err(error) => {
            let error = failed(url, with_causes(&error.without_url()));
            match passing && asked.is_none_or(|seconds: u64| seconds <= MOST_PATIENCE) {
                true => Err(Trouble::Passing(error, asked.map(Duration::from_secs))),
                false => Err(Trouble::Lasting(error)),
            }
        }
    }
}

fn header(answer: &Response, name: HeaderName) -> Option<String> {
    let value = answer.headers().get(name)?.to_str().ok();
    value.map(str::to_owned)
}

async fn attempt(
    url: &str,
    scratch: &Scratch,
    wanted: Option<&Digest>,
    known: Option<&Download>,
    limit: u64,
    watch: &Watch,
) -> Result<Answer, Trouble> {
    let client = reqwest::Client::builder()
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(WINDOW)
        .build()
        .map_err(|e| failed(url, e))?;
    let mut request = client.get(url).header(ACCEPT_ENCODING, "identity");
    if let Some(etag) = known.and_then(|k| k.etag.as_deref()) {
        request = request.header(IF_NONE_MATCH, etag);
    } else if let Some(time) = known.and_then(|k| k.last_modified.as_deref()) {
        request = request.header(IF_MODIFIED_SINCE, time);
    }
    let shown = SafeUrl::of(url).to_string();
    // So that it can be told who is waited for.
    watch.progress(&shown, 0, None);
    let sent = request.send().await.map_err(|e| trouble(url, e))?;
    let mut answer = refused(url, sent)?;
    let total = answer.content_length();
    let (etag, last_modified) = (header(&answer, ETAG), header(&answer, LAST_MODIFIED));
    // A server need not repeat the time with "unchanged".
    let time = last_modified
        .as_deref()
        .or_else(|| known.and_then(|k| k.last_modified.as_deref()));
    let modified = time
        .and_then(|v| jiff::fmt::rfc2822::parse(v).ok())
        .map(|t| t.timestamp().as_second());
    if answer.status() == StatusCode::NOT_MODIFIED {
        let modified = Duration::from_secs(modified.unwrap_or(0).try_into().unwrap_or(0));
        return Ok(Answer::Unchanged(SystemTime::UNIX_EPOCH + modified));
    }
    let encoding = header(&answer, CONTENT_ENCODING).unwrap_or_default();
    let is_encoded = ["gzip", "x-gzip"].contains(&encoding.trim().to_ascii_lowercase().as_str());
    let root = RootDir::open_trusted(scratch.path()).map_err(Error::from)?;
    let name = Path::new(DOWNLOADED);
    // An earlier try may have left a part.
    root.remove_all(name).map_err(Error::from)?;
    let file = root.create_new(name, 0o600).map_err(Error::from)?;
    let mut file = std::fs::File::from(file);
    let algorithm = wanted.map_or(Algorithm::Sha256, Digest::algorithm);
    let mut hasher = Hasher::new(algorithm);
    let mut size = 0;
    // What the server says of the size may be wrong; where it is right, nothing is fetched in vain.
    if total.is_some_and(|total| total > limit) {
        return Err(too_large(url, limit).into());
    }
    let mut pace = Pace::default();
    loop {
        let chunk = pace.wait(answer.chunk()).await;
        let chunk = chunk.map_err(|slow| failed(url, slow))?;
        let Some(chunk) = chunk.map_err(|e| trouble(url, e))? else {
            break;
        };
        pace.came(chunk.len());
        size += chunk.len() as u64;
        if size > limit {
            // What is there is of no use to anybody.
            root.remove_all(name).map_err(Error::from)?;
            return Err(too_large(url, limit).into());
        }
        hasher.update(&chunk);
        file.write_all(&chunk)
            .map_err(|e| Error::io("write download", e))?;
        watch.progress(&shown, size, total);
    }
    watch.progress(&shown, size, size);
    let mut found = hasher.finish();
    if is_encoded {
        let (url, dir) = (url.to_owned(), scratch.path().to_path_buf());
        let decoded = blocking(move || decode(&url, &dir, algorithm, limit)).await?;
        found = decoded.unwrap_or(found);
    }
    if let Some(wanted) = wanted
        && *wanted != found
    {
        let why = format!("it has digest {found}, and {wanted} was expected");
        return Err(failed(url, why).into());
    }
    // As Docker: readable by its owner only, with the time that the server gives.
    root.chmod(name, 0o600).map_err(Error::from)?;
    root.set_mtime(name, (modified.unwrap_or(0), 0))
        .map_err(Error::from)?;
    let download = Download {
        etag,
        last_modified,
        digest: found,
    };
    Ok(Answer::Fetched(download, modified))
}

fn too_large(url: &str, limit: u64) -> Error {
    let url = SafeUrl::of(url);
    Error::DownloadTooLarge {
        what: format!("cannot download `{url}`"),
        limit,
    }
}

/// Whether an address asks for something that is compressed itself.
fn asks_for_gzip(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.to_ascii_lowercase();
    [".gz", ".tgz", ".gzip"]
        .iter()
        .any(|end| path.ends_with(end))
}

/// Undoes the compression that a server used on the way, which was not asked for. Gives the digest of
/// the content; none if the file is what was asked for as it came. Many servers call archives encoded
/// that only are what they are.
fn decode(url: &str, dir: &Path, algorithm: Algorithm, limit: u64) -> Result<Option<Digest>> {
    let root = RootDir::open_trusted(dir)?;
    let (from, to) = (Path::new(DOWNLOADED), Path::new("decoded"));
    let bad = |e: std::io::Error| match e.raw_os_error() {
        Some(_) => Error::io("decode download", e),
        None => failed(
            url,
            format!("it is said to be encoded by gzip, and is not: {e}"),
        ),
    };
    let encoded = std::fs::File::from(root.open_read(from)?);
    let (kind, mut plain) = compression::decoder(Box::new(encoded)).map_err(bad)?;
    if kind != Compression::Gzip {
        return Err(bad(std::io::Error::other("it begins otherwise")));
    }
    root.remove_all(to)?;
    let mut out = std::fs::File::from(root.create_new(to, 0o600)?);
    let mut hasher = Hasher::new(algorithm);
    let (mut size, mut block) = (0, vec![0; 256 << 10]);
    loop {
        let filled = plain.read(&mut block).map_err(bad)?;
        let bytes = block.get(..filled).unwrap_or_default();
        if size == 0 && asks_for_gzip(url) && Compression::detect(bytes) != Compression::Gzip {
            root.remove_all(to)?;
            return Ok(None);
        }
        if filled == 0 {
            break;
        }
        size += filled as u64;
        if size > limit {
            return Err(too_large(url, limit));
        }
        hasher.update(bytes);
        out.write_all(bytes).map_err(bad)?;
    }
    std::fs::rename(dir.join(to), dir.join(from)).map_err(bad)?;
    Ok(Some(hasher.finish()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(start_paused = true)]
    async fn a_file_that_drips_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 16]).await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
            stream.write_all(head).await.unwrap();
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        });
        let (engine, _dir) = crate::testing::engine();
        let error = engine
            .sources()
            .download_file(&url, None)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("is given up") && text.contains(&url),
            "{text}"
        );
    }
}
