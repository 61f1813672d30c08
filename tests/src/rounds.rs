//! A proxy that tells how many of the requests to a server wait for each other.
//!
//! It holds all answers back until nobody has asked anything for a while: what is asked by then needs none of them,
//! and is one round. However far away the server is, and however many requests there are, a build waits for it once
//! for each round.

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::proxy::{ask, read_body, read_head};

/// How long nobody has asked anything when a round ends. What kiln does between two requests takes less.
const QUIET: Duration = Duration::from_millis(400);

/// The proxy; it stops when dropped.
#[derive(Debug)]
pub struct Rounds {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    /// First lines of the requests of each round.
    rounds: Vec<Vec<String>>,
    /// The last round still takes requests; since when there was no other.
    open: Option<Instant>,
    stopped: bool,
}

impl Rounds {
    /// Passes requests on to `upstream` (`host:port`), round by round.
    #[must_use]
    pub fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let (ending, passing) = (state.clone(), state.clone());
        std::thread::spawn(move || end_rounds(&ending));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if passing.0.lock().unwrap().stopped {
                    return;
                }
                let (upstream, state) = (upstream.clone(), passing.clone());
                // Who goes away meanwhile is of no interest.
                std::thread::spawn(move || drop(pass(&stream, &upstream, &state)));
            }
        });
        Self { port, state }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The first lines of the requests of each round since this was last asked.
    #[must_use]
    pub fn take(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.state.0.lock().unwrap().rounds)
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        self.state.0.lock().unwrap().stopped = true;
        self.state.1.notify_all();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn end_rounds((state, changed): &(Mutex<State>, Condvar)) {
    let mut now = state.lock().unwrap();
    while !now.stopped {
        if now.open.is_some_and(|since| since.elapsed() >= QUIET) {
            now.open = None;
            changed.notify_all();
        }
        now = changed.wait_timeout(now, QUIET / 20).unwrap().0;
    }
}

/// Handles one request; the connection is closed after it.
fn pass(
    client: &TcpStream,
    upstream: &str,
    (state, changed): &(Mutex<State>, Condvar),
) -> std::io::Result<()> {
    let mut from_client = BufReader::new(client);
    let Some(head) = read_head(client, &mut from_client)? else {
        return Ok(());
    };
    let body = read_body(&mut from_client, head.length, head.chunked)?;
    {
        let mut now = state.lock().unwrap();
        if now.open.is_none() {
            now.rounds.push(Vec::new());
        }
        now.open = Some(Instant::now());
        let line = head.text.lines().next().unwrap_or_default().to_owned();
        if let Some(round) = now.rounds.last_mut() {
            round.push(line);
        }
        // All of a round are let go together.
        while now.open.is_some() && !now.stopped {
            now = changed.wait(now).unwrap();
        }
    }
    let answer = ask(upstream, &head.text, &body)?;
    let mut client = client;
    client.write_all(&answer)
}
