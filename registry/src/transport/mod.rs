//! How one request travels: client by host, authorization, redirects, retry.

mod outgoing;

use bytes::Bytes;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Method, Response, StatusCode};
use tokio_util::io::ReaderStream;
use url::Url;

use crate::auth::{Authenticator, ScopeSet, parse_challenges};
use crate::endpoint::Endpoint;
use crate::error::{RegistryError, is_temporary_status, redact};
use crate::http::{Backoff, Http, retry_after};
use crate::io::BlobReader;

use outgoing::Outgoing;

/// Redirects that are followed in a row.
const MAX_REDIRECTS: usize = 8;
/// How much is read from a source at once.
const READ_SIZE: usize = 256 << 10;

/// A request, as the protocol sees it.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Payload,
    pub(crate) scopes: ScopeSet,
}

/// What a request carries.
pub(crate) enum Payload {
    Empty,
    Bytes(Bytes),
    /// Can be sent once only.
    Stream(Option<BlobReader>, u64),
}

impl Call {
    pub(crate) fn new(method: Method, url: Url, scopes: &ScopeSet) -> Self {
        let (headers, body) = (HeaderMap::new(), Payload::Empty);
        Self {
            method,
            url,
            headers,
            body,
            scopes: scopes.clone(),
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        // Values are media types, ranges and digests; what is no valid value is left out, and the
        // registry answers accordingly.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    pub(crate) fn body(mut self, body: Payload) -> Self {
        self.body = body;
        self
    }

    fn can_repeat(&self) -> bool {
        !matches!(self.body, Payload::Stream(..))
    }
}

/// Sends requests to registries.
pub(crate) struct Transport {
    pub(crate) http: Http,
    auth: Authenticator,
}

impl Transport {
    pub(crate) fn new(http: Http, auth: Authenticator) -> Self {
        Self { http, auth }
    }

    /// Sends a request and returns the answer, whatever its status. Repeats it while the trouble
    /// looks temporary, unless its body is a stream.
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        mut call: Call,
    ) -> Result<Response, RegistryError> {
        let mut backoff = Backoff::new(self.http.config.retry);
        loop {
            let result = self.authorized(endpoint, &mut call).await;
            let wait = match &result {
                Ok(answer) if is_temporary_status(answer.status().as_u16()) => retry_after(answer),
                // Also those of the token server.
                Err(error) if error.is_temporary() => error.retry_after(),
                _ => return result,
            };
            if !call.can_repeat() || !backoff.wait(wait).await {
                return result;
            }
            tracing::debug!(url = redact(&call.url), "trying again");
        }
    }

    /// Sends a request, and once more with what the registry asks for when it says 401.
    async fn authorized(
        &self,
        endpoint: &Endpoint,
        call: &mut Call,
    ) -> Result<Response, RegistryError> {
        let shown = self
            .auth
            .header(&self.http, endpoint, &call.scopes, None)
            .await?;
        let answer = self.follow(endpoint, call, shown.as_ref()).await?;
        // Another server's 401 is no reason to show it anything.
        if answer.status() != StatusCode::UNAUTHORIZED || !endpoint.owns(answer.url()) {
            return Ok(answer);
        }
        let headers = answer.headers().get_all(reqwest::header::WWW_AUTHENTICATE);
        let challenges: Vec<_> = headers
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse_challenges)
            .collect();
        self.auth.learn(endpoint, &challenges, &mut call.scopes)?;
        let next = self
            .auth
            .header(&self.http, endpoint, &call.scopes, shown.as_ref())
            .await?;
        if next.is_none() || !call.can_repeat() {
            return Ok(answer);
        }
        self.follow(endpoint, call, next.as_ref()).await
    }

    /// Sends a request and follows redirects. Authorization goes to the registry's own server
    /// only.
    async fn follow(
        &self,
        endpoint: &Endpoint,
        call: &mut Call,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut url = call.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let streams = matches!(call.body, Payload::Stream(..));
            let client = self.http.client(endpoint, &url, streams)?;
            let mut request = client.request(call.method.clone(), url.clone());
            request = request.headers(call.headers.clone());
            if let Some(authorization) = authorization.filter(|_| endpoint.owns(&url)) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let mut taken = None;
            request = match &mut call.body {
                Payload::Empty if matches!(call.method, Method::GET | Method::HEAD) => request,
                Payload::Empty => request.header(CONTENT_LENGTH, 0),
                Payload::Bytes(bytes) => request.body(bytes.clone()),
                Payload::Stream(reader, length) => match reader.take() {
                    Some(reader) => {
                        let (body, watched) = Outgoing::new(reader);
                        taken = Some(watched);
                        let stream = ReaderStream::with_capacity(body, READ_SIZE);
                        request
                            .header(CONTENT_LENGTH, *length)
                            .body(reqwest::Body::wrap_stream(stream))
                    }
                    None => {
                        return Err(RegistryError::protocol(
                            &url,
                            "redirects an upload in progress",
                        ));
                    }
                },
            };
            let answer = match taken {
                None => request.send().await,
                Some(taken) => {
                    let silence = self.http.config.read_timeout;
                    let kept = taken.keep(silence, request.send()).await;
                    kept.ok_or_else(|| RegistryError::Stalled {
                        method: call.method.to_string(),
                        url: redact(&url),
                        after: silence,
                    })?
                }
            };
            let answer = answer.map_err(|source| RegistryError::Transport {
                method: call.method.to_string(),
                url: redact(&url),
                source: source.without_url(),
            })?;
            tracing::debug!(
                status = answer.status().as_u16(),
                url = redact(&url),
                "{}",
                call.method
            );
            let redirect = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !redirect {
                return Ok(answer);
            }
            url = location(endpoint, &answer)?;
        }
        Err(RegistryError::protocol(&call.url, "redirects in a circle"))
    }
}

/// Where an answer points to, checked.
pub(crate) fn location(endpoint: &Endpoint, answer: &Response) -> Result<Url, RegistryError> {
    let missing = || RegistryError::protocol(answer.url(), "sends no usable `Location`");
    let value = answer.headers().get(LOCATION).ok_or_else(missing)?;
    let value = value.to_str().map_err(|_| missing())?;
    endpoint.check_target(answer.url().join(value).map_err(|_| missing())?)
}
