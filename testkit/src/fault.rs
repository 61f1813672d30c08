//! An HTTP server that misbehaves as told, alone or in front of a real registry.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The largest request or answer that is passed on.
const MAX_BODY: usize = 256 << 20;

/// A request that the server got.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How many requests of this method and path came before.
    pub earlier: usize,
}

impl Seen {
    /// The value of a header, empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers, with a `Content-Length` of the whole body unless one is given.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// After how many bytes of the body the connection breaks.
    pub cut_after: Option<usize>,
}

impl Reply {
    /// An answer without headers.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            cut_after: None,
        }
    }

    /// The same answer with one header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same answer, broken off after some bytes.
    #[must_use]
    pub const fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after = Some(bytes);
        self
    }
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Pass it on to the real registry.
    Forward,
    /// Answer it here.
    Reply(Reply),
    /// Pass it on, and break off the answer after some bytes.
    CutAnswer(usize),
    /// Pass on only the first bytes of its body, and then answer with an error.
    CutRequest(usize, Reply),
}

type Rule = dyn Fn(&Seen) -> Verdict + Send + Sync;

struct Shared {
    upstream: Option<String>,
    client: reqwest::Client,
    rule: Box<Rule>,
    seen: Mutex<Vec<Seen>>,
}

/// A server whose every answer a rule decides. It ends when this is dropped.
pub struct FaultServer {
    shared: Arc<Shared>,
    port: u16,
    task: JoinHandle<()>,
}

impl FaultServer {
    /// Starts a server on a free port, in front of `upstream` (`http://host:port`) if that is
    /// given. The rule sees every request.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(
        upstream: Option<String>,
        rule: impl Fn(&Seen) -> Verdict + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let (rule, seen) = (Box::new(rule), Mutex::default());
        let shared = Arc::new(Shared {
            upstream,
            client,
            rule,
            seen,
        });
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // It serves until it is aborted.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { shared, port, task })
    }

    /// Host and port, as they stand in references.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address with its scheme.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// All requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The requests so far of a method and with this text in their path.
    #[must_use]
    pub fn seen_of(&self, method: &str, path: &str) -> Vec<Seen> {
        let fits = |one: &Seen| one.method.as_str() == method && one.path.contains(path);
        self.seen().into_iter().filter(fits).collect()
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match respond(&shared, request).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = Response::new(Body::from(format!("{error:#}")));
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            response
        }
    }
}

async fn respond(shared: &Shared, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await?;
    let path = parts.uri.path().to_owned();
    let seen = {
        let mut all = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = all
            .iter()
            .filter(|one| one.method == parts.method && one.path == path)
            .count();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let (method, headers) = (parts.method, parts.headers);
        let seen = Seen {
            method,
            path,
            query,
            headers,
            body,
            earlier,
        };
        all.push(seen.clone());
        seen
    };
    match (shared.rule)(&seen) {
        Verdict::Reply(reply) => reply_response(reply),
        Verdict::Forward => forward(shared, &seen, seen.body.clone(), None).await,
        Verdict::CutAnswer(after) => forward(shared, &seen, seen.body.clone(), Some(after)).await,
        Verdict::CutRequest(bytes, reply) => {
            forward(
                shared,
                &seen,
                seen.body.slice(..bytes.min(seen.body.len())),
                None,
            )
            .await?;
            reply_response(reply)
        }
    }
}

async fn forward(
    shared: &Shared,
    seen: &Seen,
    body: Bytes,
    cut_after: Option<usize>,
) -> Result<Response> {
    let upstream = shared.upstream.as_deref().unwrap_or_default();
    let query = if seen.query.is_empty() {
        String::new()
    } else {
        format!("?{}", seen.query)
    };
    let url = format!("{upstream}{}{query}", seen.path);
    let mut headers = seen.headers.clone();
    for name in ["content-length", "transfer-encoding", "connection"] {
        headers.remove(name);
    }
    let request = shared
        .client
        .request(seen.method.clone(), url)
        .headers(headers);
    let has_body = !body.is_empty() || matches!(seen.method.as_str(), "POST" | "PUT" | "PATCH");
    let answer = if has_body {
        request.body(body)
    } else {
        request
    }
    .send()
    .await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await?;
    let mut response = Response::new(cut(body, cut_after));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.headers_mut().remove("transfer-encoding");
    Ok(response)
}

fn reply_response(reply: Reply) -> Result<Response> {
    let length = reply.body.len();
    let mut response = Response::new(cut(reply.body, reply.cut_after));
    *response.status_mut() = StatusCode::from_u16(reply.status)?;
    let headers = response.headers_mut();
    headers.insert("content-length", HeaderValue::from(length));
    for (name, value) in reply.headers {
        headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    Ok(response)
}

/// A body that breaks off.
fn cut(body: Bytes, after: Option<usize>) -> Body {
    let Some(after) = after.filter(|after| *after < body.len()) else {
        return Body::from(body);
    };
    let start = Ok(body.slice(..after));
    let end = Err(io::Error::from(io::ErrorKind::ConnectionReset));
    // The pause lets the first part go out on its own.
    let parts = futures_util::stream::unfold(vec![end, start], |mut parts| async move {
        let part = parts.pop()?;
        if part.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        }
        Some((part, parts))
    });
    Body::from_stream(parts)
}
