//! Answers: their status and their bounded bodies.

use std::time::Duration;

use reqwest::Response;
use serde::Deserialize;

use super::retry::retry_after;
use crate::error::{ApiError, RegistryError, redact};
use crate::pace::Pace;

/// How much of an error's body is read.
const MAX_ERROR: u64 = 64 << 10;

/// How long the body of an error is waited for; clients that send streams have no clock of their own.
const ERROR_TIME: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<ApiError>,
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read_bounded(
    mut answer: Response,
    limit: u64,
) -> Result<Vec<u8>, RegistryError> {
    let url = answer.url().clone();
    let too_large = || RegistryError::TooLarge {
        url: redact(&url),
        limit,
    };
    if answer.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut pace = Pace::default();
    loop {
        let chunk = pace.wait(answer.chunk()).await;
        let chunk = chunk
            .map_err(|source| RegistryError::Drips {
                method: "reading".into(),
                url: redact(&url),
                source,
            })?
            .map_err(|source| RegistryError::Transport {
                method: "reading".into(),
                url: redact(&url),
                source: source.without_url(),
            })?;
        let Some(chunk) = chunk else { return Ok(bytes) };
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(too_large());
        }
        pace.came(chunk.len());
        bytes.extend_from_slice(&chunk);
    }
}

/// Passes on answers with one of the given statuses and makes errors of all others.
pub(crate) async fn expect(
    method: &str,
    answer: Response,
    statuses: &[u16],
) -> Result<Response, RegistryError> {
    if statuses.contains(&answer.status().as_u16()) {
        return Ok(answer);
    }
    Err(status_error(method, answer).await)
}

/// The error that an answer is.
pub(crate) async fn status_error(method: &str, answer: Response) -> RegistryError {
    let (status, url) = (answer.status().as_u16(), redact(answer.url()));
    let retry_after = retry_after(&answer);
    // The status counts; a body that cannot be read adds nothing.
    let body = tokio::time::timeout(ERROR_TIME, read_bounded(answer, MAX_ERROR));
    let body = body.await.ok().and_then(Result::ok).unwrap_or_default();
    let errors = serde_json::from_slice::<Errors>(&body).map(|body| body.errors);
    let errors = errors
        .unwrap_or_default()
        .into_iter()
        .take(10)
        .map(|error| ApiError {
            code: printable(&error.code),
            message: printable(&error.message),
        });
    RegistryError::Status {
        method: method.into(),
        url,
        status,
        errors: errors.collect(),
        retry_after,
    }
}

/// A server's text, made safe for a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_error_whose_body_never_comes_is_told_by_its_status() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 16]).await.unwrap();
            let head = b"HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\n";
            stream.write_all(head).await.unwrap();
            stream
        };
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let (answer, _stream) = tokio::join!(client.get(url).send(), serve);
        let error = status_error("GET", answer.unwrap()).await;
        assert!(matches!(error, RegistryError::Status { status: 500, .. }));
    }

    /// A server that sends a byte in each second, all of which its client sees.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_drips_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 16]).await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
            stream.write_all(head).await.unwrap();
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(url).send().await.unwrap();
        let begun = tokio::time::Instant::now();
        let error = read_bounded(answer, 1 << 20).await.unwrap_err();
        assert!(matches!(error, RegistryError::Drips { .. }), "{error}");
        assert_eq!(begun.elapsed().as_secs(), crate::pace::WINDOW.as_secs());
    }
}
