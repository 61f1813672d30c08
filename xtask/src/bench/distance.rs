//! A registry that is far away: a proxy on loopback that delays what passes through it, and counts it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// How long it takes in each direction.
pub(super) const ONE_WAY: Duration = Duration::from_millis(25);

/// The end of a request's first line. Bodies are compressed: they do not have it by chance.
const REQUEST: &[u8] = b" HTTP/1.1\r\n";

/// What has passed through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) connections: usize,
    /// Requests of plain HTTP.
    pub(super) requests: usize,
}

#[derive(Default)]
struct Counters {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

/// The proxy; it stops when dropped.
pub(super) struct Distance {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

impl Distance {
    /// Passes connections on to `upstream` (`host:port`).
    pub(super) fn to(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("loopback")?;
        let distance = Self {
            address: listener.local_addr()?,
            stop: Arc::default(),
            counters: Arc::default(),
        };
        let (stop, counters) = (distance.stop.clone(), distance.counters.clone());
        let upstream = upstream.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                counters.connections.fetch_add(1, Ordering::Relaxed);
                let (upstream, counters) = (upstream.clone(), counters.clone());
                // Who goes away meanwhile is of no interest.
                std::thread::spawn(move || drop(pass(&client, &upstream, &counters)));
            }
        });
        Ok(distance)
    }

    /// `127.0.0.1:PORT`.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// What has passed since it was last asked.
    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.counters.connections.swap(0, Ordering::Relaxed),
            requests: self.counters.requests.swap(0, Ordering::Relaxed),
        }
    }
}

impl Drop for Distance {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes it up; that nobody listens any more is as good.
        let _ = TcpStream::connect(self.address);
    }
}

/// Handles one connection.
fn pass(client: &TcpStream, upstream: &str, counters: &Counters) -> std::io::Result<()> {
    // On loopback the client is connected at once; far away it could not send yet.
    let connected = Instant::now() + 2 * ONE_WAY;
    let server = TcpStream::connect(upstream)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut requests = Occurrences::of(REQUEST);
            flow(client, &server, connected, |bytes| {
                let found = requests.count(bytes);
                counters.requests.fetch_add(found, Ordering::Relaxed);
            });
        });
        flow(&server, client, connected, |_| {});
    });
    Ok(())
}

/// Passes on what comes until it ends, each piece after the delay; nothing is sent before `begin`.
fn flow(mut from: &TcpStream, mut to: &TcpStream, begin: Instant, mut seen: impl FnMut(&[u8])) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for (due, bytes) in receiver {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            // One that breaks off ends like one that is at its end.
            let _ = to.shutdown(Shutdown::Write);
        });
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default();
            seen(bytes);
            let due = Instant::now().max(begin) + ONE_WAY;
            if sender.send((due, bytes.to_vec())).is_err() {
                break;
            }
        }
        drop(sender);
    });
}

/// How often a pattern occurs in a stream that comes in pieces.
struct Occurrences {
    pattern: &'static [u8],
    /// The end of what came before, shorter than the pattern.
    rest: Vec<u8>,
}

impl Occurrences {
    fn of(pattern: &'static [u8]) -> Self {
        let rest = Vec::new();
        Self { pattern, rest }
    }

    /// Those that end in the next piece.
    fn count(&mut self, piece: &[u8]) -> usize {
        self.rest.extend_from_slice(piece);
        let windows = self.rest.windows(self.pattern.len());
        let found = windows.filter(|w| *w == self.pattern).count();
        let keep = self.rest.len().min(self.pattern.len() - 1);
        self.rest.drain(..self.rest.len() - keep);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_counted_across_pieces() {
        for at in 1..40 {
            let text = b"GET / HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\n\r\n";
            let mut requests = Occurrences::of(REQUEST);
            let (one, two) = text.split_at(at.min(text.len()));
            assert_eq!(requests.count(one) + requests.count(two), 2, "{at}");
        }
    }

    #[test]
    fn what_passes_is_delayed_and_counted() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let distance = Distance::to(&server.local_addr().unwrap().to_string()).unwrap();
        std::thread::spawn(move || {
            let (mut peer, _) = server.accept().unwrap();
            let mut request = [0; 18];
            for _ in 0..2 {
                peer.read_exact(&mut request).unwrap();
                peer.write_all(b"answer").unwrap();
            }
        });
        let mut client = TcpStream::connect(distance.address()).unwrap();
        for round_trips in [2, 1] {
            let start = Instant::now();
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let mut answer = [0; 6];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"answer");
            let least = 2 * ONE_WAY * round_trips - Duration::from_millis(5);
            assert!(start.elapsed() >= least, "{:?}", start.elapsed());
        }
        let expected = Traffic {
            connections: 1,
            requests: 2,
        };
        assert_eq!(distance.traffic(), expected);
        assert_eq!(distance.traffic(), Traffic::default());
    }
}
