//! A proxy before a server that spoils some of the traffic.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBuf;

/// What happens to a request that is spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status.
    Status(u16),
    /// Its connection is closed.
    Reset,
    /// Its answer comes late.
    Slow,
    /// Half of its answer's body comes.
    Truncated,
    /// A byte of its answer's body is another.
    Wrong,
    /// It is never answered, as long as the client waits.
    Held,
    /// Its answer begins, and then a byte comes now and then.
    Trickle,
    /// A large body is taken a little at a time, and never answered.
    Sip,
}

/// The largest body that is not large, in bytes.
const SMALL: u64 = 100_000;

/// The proxy; it stops when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    stop: Arc<AtomicBool>,
    spoiled: Arc<AtomicUsize>,
}

impl Proxy {
    /// Passes requests on to `upstream` (`host:port`) and spoils every `nth`.
    #[must_use]
    pub fn start(upstream: String, fault: Fault, nth: usize) -> Self {
        let count = AtomicUsize::new(0);
        let every = move |_: &str| (count.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(nth);
        Self::start_where(upstream, fault, every)
    }

    /// Passes requests on to `upstream` and spoils those whose first line this chooses.
    #[must_use]
    pub fn start_where(
        upstream: String,
        fault: Fault,
        spoils: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if fault == Fault::Sip {
            // What waits to be read is taken in the client's eyes.
            setsockopt(&listener, RcvBuf, &(64 << 10)).unwrap();
        }
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, spoiled) = (stop.clone(), Arc::new(AtomicUsize::new(0)));
        let (count, spoils) = (spoiled.clone(), Arc::new(spoils));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (upstream, stopped) = (upstream.clone(), stopped.clone());
                let (count, spoils) = (count.clone(), spoils.clone());
                let fault = move |line: &str| {
                    let spoil = spoils(line);
                    count.fetch_add(usize::from(spoil), Ordering::Relaxed);
                    spoil.then_some(fault)
                };
                // Who goes away meanwhile is of no interest.
                std::thread::spawn(move || drop(pass(&stream, &upstream, &fault, &stopped)));
            }
        });
        Self {
            port,
            stop,
            spoiled,
        }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many requests were spoiled.
    #[must_use]
    pub fn spoiled(&self) -> usize {
        self.spoiled.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Handles one request; the connection is closed after it.
fn pass(
    client: &TcpStream,
    upstream: &str,
    fault: &dyn Fn(&str) -> Option<Fault>,
    stopped: &AtomicBool,
) -> std::io::Result<()> {
    let mut from_client = BufReader::new(client);
    let Some(Head {
        text: head,
        length,
        chunked,
    }) = read_head(client, &mut from_client)?
    else {
        return Ok(());
    };
    let fault = fault(head.lines().next().unwrap_or_default());
    if fault == Some(Fault::Sip) && length > SMALL {
        let mut sip = [0; 1024];
        while !stopped.load(Ordering::Relaxed) && from_client.read(&mut sip)? > 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
        return Ok(());
    }
    let body = read_body(&mut from_client, length, chunked)?;
    let mut client = client;
    match fault {
        Some(Fault::Held) => {
            client.set_read_timeout(Some(Duration::from_millis(20)))?;
            while !stopped.load(Ordering::Relaxed) {
                // The client sends nothing more: what can be read is the end.
                if client.peek(&mut [0]).is_ok() {
                    break;
                }
            }
            return Ok(());
        }
        Some(Fault::Status(status)) => {
            let answer = format!(
                "HTTP/1.1 {status} Spoiled\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            return client.write_all(answer.as_bytes());
        }
        Some(Fault::Reset) => return Ok(()),
        Some(Fault::Slow) => std::thread::sleep(Duration::from_secs(2)),
        _ => {}
    }
    let mut answer = ask(upstream, &head, &body)?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
    let body = end.map_or(answer.len(), |at| at + 4);
    match fault {
        Some(Fault::Truncated) => answer.truncate(body + (answer.len() - body) / 2),
        Some(Fault::Wrong) => {
            let middle = body + (answer.len() - body) / 2;
            if let Some(byte) = answer.get_mut(middle) {
                *byte ^= 1;
            }
        }
        Some(Fault::Trickle) => {
            client.write_all(&answer[..body])?;
            for byte in answer[body..].chunks(1) {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                client.write_all(byte)?;
                std::thread::sleep(Duration::from_millis(100));
            }
            return Ok(());
        }
        _ => {}
    }
    client.write_all(&answer)
}

/// The head of a request.
pub(crate) struct Head {
    /// Its lines, which ask for the connection to be closed.
    pub(crate) text: String,
    /// Bytes of the body, if they are told.
    pub(crate) length: u64,
    /// Whether the body tells its length as it comes.
    pub(crate) chunked: bool,
}

/// Reads the head of the only request of a connection; none if there is none.
pub(crate) fn read_head(
    client: &TcpStream,
    from: &mut BufReader<&TcpStream>,
) -> std::io::Result<Option<Head>> {
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    let (mut text, mut length, mut chunked) = (String::new(), 0_u64, false);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
        if lower.starts_with("connection:") {
            continue;
        }
        if line == "\r\n" {
            text.push_str("Connection: close\r\n\r\n");
            return Ok(Some(Head {
                text,
                length,
                chunked,
            }));
        }
        text.push_str(&line);
    }
}

/// Reads a body as it is on the wire.
pub(crate) fn read_body(
    from: &mut BufReader<&TcpStream>,
    length: u64,
    chunked: bool,
) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if chunked {
        read_chunks(from, &mut body)?;
    } else {
        from.take(length).read_to_end(&mut body)?;
    }
    Ok(body)
}

/// The answer of a server to a request.
pub(crate) fn ask(upstream: &str, head: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(upstream)?;
    server.write_all(head.as_bytes())?;
    server.write_all(body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Reads a chunked body as it is on the wire.
fn read_chunks(from: &mut BufReader<&TcpStream>, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        body.extend_from_slice(line.as_bytes());
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).unwrap_or(0);
        from.by_ref().take(size + 2).read_to_end(body)?;
        if size == 0 {
            return Ok(());
        }
    }
}
