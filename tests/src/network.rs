//! Hosts of their own: a network namespace for each, linked to one in which the servers listen.
//!
//! A namespace is held by a descriptor of the test's process and nothing else. It goes with all of its
//! links when that is closed, however the test ends; and since every test has namespaces of its own,
//! all of them use the same addresses.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};

use crate::kiln::{Kiln, Running};
use crate::setting;
use crate::tools::tool;

/// A network namespace.
#[derive(Debug)]
struct Namespace(File);

impl Namespace {
    fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace takes root");
            let namespace = Self(File::open("/proc/thread-self/ns/net").unwrap());
            tool("ip", ["link", "set", "lo", "up"]);
            namespace
        });
        made.join().unwrap()
    }

    /// Does something on a thread in this namespace: processes and sockets that it makes are there.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let there = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(there).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A path by which `ip` finds it.
    fn path(&self) -> String {
        use std::os::fd::AsRawFd as _;
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// A bridge that hosts are linked to, in a namespace where the servers listen.
#[derive(Debug)]
pub struct Network {
    center: Namespace,
    hosts: AtomicU8,
}

/// A host: what is started on it reaches the servers of its network and nothing else.
#[derive(Debug)]
pub struct Host(Namespace);

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Network {
    /// The address of the servers.
    pub const ADDRESS: &str = "10.99.0.1";

    /// A network without hosts.
    #[must_use]
    pub fn new() -> Self {
        let center = Namespace::new();
        center.inside(|| {
            // Without an address of its own it takes that of some host, and when the next one is
            // linked perhaps another, which those that are there do not hear of.
            let bridge = ["name", "bridge", "address", "02:00:00:00:00:01"];
            let add = ["link", "add"].into_iter().chain(bridge);
            tool("ip", add.chain(["type", "bridge"]));
            let address = format!("{}/24", Self::ADDRESS);
            tool("ip", ["address", "add", &address, "dev", "bridge"]);
            tool("ip", ["link", "set", "bridge", "up"]);
        });
        Self {
            center,
            hosts: AtomicU8::new(0),
        }
    }

    /// One more host.
    #[must_use]
    pub fn host(&self) -> Host {
        let number = self.hosts.fetch_add(1, Ordering::Relaxed);
        let (host, link) = (Namespace::new(), format!("host{number}"));
        self.center.inside(|| {
            let pair = ["link", "add", "name", &link, "type", "veth"];
            let peer = ["peer", "name", "eth0", "netns", &host.path()];
            tool("ip", pair.into_iter().chain(peer));
            tool("ip", ["link", "set", &link, "master", "bridge", "up"]);
        });
        host.inside(|| {
            let address = format!("10.99.0.{}/24", 10 + number);
            tool("ip", ["address", "add", &address, "dev", "eth0"]);
            tool("ip", ["link", "set", "eth0", "up"]);
        });
        Host(host)
    }

    /// Starts a server where the hosts reach it.
    pub fn serve<T: Send>(&self, start: impl FnOnce(&str) -> T + Send) -> T {
        self.center.inside(|| start(Self::ADDRESS))
    }

    /// Passes connections of the hosts on: to the registry with the base images.
    #[must_use]
    pub fn base_images(&self) -> Relay {
        let registry = setting("KILN_TEST_REGISTRY");
        self.relay(move |_| TcpStream::connect(&registry))
    }

    /// A proxy (`CONNECT`) through which the hosts reach what the machine reaches, by the machine's
    /// own proxy if it has one.
    #[must_use]
    pub fn outside(&self) -> Relay {
        let own = ["https_proxy", "HTTPS_PROXY"].map(std::env::var);
        let own = own.into_iter().flatten().find(|p| !p.is_empty());
        match own {
            Some(proxy) => {
                let host = proxy.split_once("://").map_or(&*proxy, |(_, rest)| rest);
                let host = host.trim_end_matches('/').to_owned();
                self.relay(move |_| TcpStream::connect(&host))
            }
            None => self.relay(connect),
        }
    }

    fn relay(
        &self,
        open: impl Fn(&TcpStream) -> std::io::Result<TcpStream> + Send + Sync + 'static,
    ) -> Relay {
        let listener = self.serve(|address| TcpListener::bind((address, 0)).unwrap());
        Relay::start(listener, Arc::new(open))
    }
}

impl Host {
    /// Starts kiln on this host.
    #[must_use]
    pub fn start(&self, kiln: Kiln) -> Running {
        self.0.inside(|| kiln.start())
    }
}

type Open = dyn Fn(&TcpStream) -> std::io::Result<TcpStream> + Send + Sync;

/// Passes connections on, out of a network; it stops when dropped.
#[derive(Debug)]
pub struct Relay {
    at: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Relay {
    fn start(listener: TcpListener, open: Arc<Open>) -> Self {
        let (at, stop) = (listener.local_addr().unwrap(), Arc::<AtomicBool>::default());
        let stopped = stop.clone();
        // It cannot be woken by a connection, which would have to come from its own network.
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((client, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                let open = open.clone();
                // Who goes away meanwhile is of no interest.
                std::thread::spawn(move || drop(pass(&client, &*open)));
            }
        });
        Self { at, stop }
    }

    /// Its address in the network.
    #[must_use]
    pub fn address(&self) -> String {
        self.at.to_string()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn pass(client: &TcpStream, open: &Open) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    let server = open(client)?;
    std::thread::scope(|scope| {
        scope.spawn(|| flow(client, &server));
        flow(&server, client);
    });
    Ok(())
}

/// Passes on what comes until it ends.
fn flow(mut from: &TcpStream, mut to: &TcpStream) {
    // One that breaks off ends like one that is at its end.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Does what a `CONNECT` request asks for.
fn connect(client: &TcpStream) -> std::io::Result<TcpStream> {
    // Nothing follows the request before it is answered, so nothing is lost in the buffer.
    let mut from = BufReader::new(client);
    let mut first = String::new();
    from.read_line(&mut first)?;
    let mut line = String::new();
    while from.read_line(&mut line)? > 2 {
        line.clear();
    }
    let target = first.split(' ').nth(1).unwrap_or_default();
    let server = TcpStream::connect(target)?;
    let mut to = client;
    to.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    Ok(server)
}
