//! Answers: their status and their bounded bodies.

use reqwest::Response;
use serde::Deserialize;

use super::retry::retry_after;
use crate::error::{ApiError, RegistryError, redact};

/// How much of an error's body is read.
const MAX_ERROR: u64 = 64 << 10;

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
    loop {
        let chunk = answer
            .chunk()
            .await
            .map_err(|source| RegistryError::Transport {
                method: "reading".into(),
                url: redact(&url),
                source: source.without_url(),
            })?;
        let Some(chunk) = chunk else { return Ok(bytes) };
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(too_large());
        }
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
    let body = read_bounded(answer, MAX_ERROR).await.unwrap_or_default();
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
