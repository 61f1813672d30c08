//! A web server on loopback that answers as a test wants.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// 200 with a body.
    #[must_use]
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The status of an answer that is none: the connection is closed.
const NO_ANSWER: u16 = 0;

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// The server; it stops when dropped.
pub struct Server {
    port: u16,
    stop: Arc<AtomicBool>,
    seen: Log,
    authorizations: Log,
}

type Log = Arc<Mutex<Vec<String>>>;

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.port)
    }
}

impl Server {
    /// Serves these paths, and 404 for all others. Whoever has a file already, as its `ETag` or
    /// `Last-Modified` says, is told so.
    #[must_use]
    pub fn files(files: Vec<(&str, Answer)>) -> Self {
        let files: HashMap<String, Answer> = files
            .into_iter()
            .map(|(path, answer)| (path.to_owned(), answer))
            .collect();
        let none = Answer {
            status: 404,
            headers: Vec::new(),
            body: b"not here".to_vec(),
        };
        Self::start(Arc::new(move |r| {
            let answer = files.get(&r.path).unwrap_or(&none);
            let asks = [
                ("if-none-match", "etag"),
                ("if-modified-since", "last-modified"),
            ];
            let unchanged = asks.iter().any(|(question, header)| {
                let sent = answer
                    .headers
                    .iter()
                    .find(|h| h.0.eq_ignore_ascii_case(header));
                sent.is_some_and(|h| r.headers.get(*question) == Some(&h.1))
            });
            if unchanged {
                return Answer {
                    status: 304,
                    headers: Vec::new(),
                    body: Vec::new(),
                };
            }
            answer.clone()
        }))
    }

    /// Answers as `files` does, once it has closed the first `resets` connections without a word and
    /// then said of `unavailable` requests that they come at a bad time.
    #[must_use]
    pub fn stumbling(resets: usize, unavailable: usize, files: Vec<(&str, Answer)>) -> Self {
        let files: HashMap<String, Answer> = files
            .into_iter()
            .map(|(path, answer)| (path.to_owned(), answer))
            .collect();
        let asked = std::sync::atomic::AtomicUsize::new(0);
        Self::start(Arc::new(move |r| {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            let status = match number {
                n if n < resets => NO_ANSWER,
                n if n < resets + unavailable => 503,
                _ => 404,
            };
            let none = Answer {
                status,
                headers: Vec::new(),
                body: b"not now".to_vec(),
            };
            match status {
                404 => files.get(&r.path).cloned().unwrap_or(none),
                _ => none,
            }
        }))
    }

    /// Answers everything with this status, and repeats in the body what it was told: the address,
    /// the headers and the start of what was sent.
    #[must_use]
    pub fn echo(status: u16) -> Self {
        Self::start(Arc::new(move |request| {
            let mut text = format!("{} {}?{}\n", request.method, request.path, request.query);
            for (name, value) in &request.headers {
                text.push_str(&format!("{name}: {value}\n"));
            }
            Answer {
                status,
                headers: Vec::new(),
                body: text.into_bytes(),
            }
        }))
    }

    pub(crate) fn start(handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, authorizations) = (Log::default(), Log::default());
        let stopped = Arc::clone(&stop);
        let logs = (Arc::clone(&seen), Arc::clone(&authorizations));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (handler, logs) = (Arc::clone(&handler), logs.clone());
                // A client that goes away is its own affair.
                std::thread::spawn(move || drop(serve(stream, &*handler, &logs)));
            }
        });
        Self {
            port,
            stop,
            seen,
            authorizations,
        }
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Every `Authorization` header so far.
    #[must_use]
    pub fn authorizations(&self) -> Vec<String> {
        self.authorizations.lock().unwrap().clone()
    }

    /// `METHOD /path` of every request so far.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn serve(
    stream: TcpStream,
    handler: &Handler,
    (log, authorizations): &(Log, Log),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(());
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        ..Request::default()
    };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            request
                .headers
                .insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    if request.headers.contains_key("expect") {
        (&stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if let Some(length) = request
        .headers
        .get("content-length")
        .and_then(|l| l.parse().ok())
    {
        request.body = vec![0; length];
        reader.read_exact(&mut request.body)?;
    } else if request.headers.contains_key("transfer-encoding") {
        request.body = chunks(&mut reader)?;
    }
    log.lock()
        .unwrap()
        .push(format!("{} {}", request.method, request.path));
    if let Some(authorization) = request.headers.get("authorization") {
        authorizations.lock().unwrap().push(authorization.clone());
    }
    let answer = handler(&request);
    if answer.status == NO_ANSWER {
        return Ok(());
    }
    let mut head = format!(
        "HTTP/1.1 {} -\r\nContent-Length: {}\r\nConnection: close\r\n",
        answer.status,
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    if request.method != "HEAD" {
        stream.write_all(&answer.body)?;
    }
    stream.flush()
}

fn chunks(reader: &mut impl std::io::BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(body);
        }
    }
}
