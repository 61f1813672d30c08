//! Servers that hosts share results through: a registry that can be written to, and one that speaks
//! S3. Each has a directory of its own and ends with its test.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kiln_testkit::port::listens;
use tempfile::TempDir;

use crate::setting;

/// Where servers listen unless a test says otherwise.
const LOOPBACK: &str = "127.0.0.1";

/// A server process on a port of its own.
#[derive(Debug)]
pub struct Running {
    child: Child,
    address: String,
    dir: TempDir,
}

impl Running {
    /// `ADDRESS:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Where it keeps what it was given, if that is on the disk.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The body of its answer to a request, which must go well.
    #[must_use]
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=x\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&answer[..end]).into_owned();
        let good = status.split(' ').nth(1).is_some_and(|s| s.starts_with('2'));
        assert!(good, "{method} {path}: {status}");
        answer.split_off(end + 4)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(
    program: &str,
    address: &str,
    arguments: impl Fn(&TempDir, u16) -> Vec<String>,
) -> Running {
    let dir = tempfile::Builder::new().prefix("kiln-server-").tempdir();
    let dir = dir.unwrap();
    // Another process may take the port before the server does.
    for _ in 0..5 {
        let port = TcpListener::bind((address, 0)).unwrap().local_addr();
        let port = port.unwrap().port();
        let mut child = Command::new(program)
            .args(arguments(&dir, port))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{program}: {e}"));
        let until = Instant::now() + Duration::from_secs(60);
        while child.try_wait().unwrap().is_none() && Instant::now() < until {
            if listens(&child, port) {
                return Running {
                    child,
                    address: format!("{address}:{port}"),
                    dir,
                };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    panic!("{program} does not start");
}

/// A registry without anything in it.
#[must_use]
pub fn empty_registry() -> Running {
    empty_registry_at(LOOPBACK)
}

/// The same at an address of the network namespace that this is called in.
#[must_use]
pub fn empty_registry_at(address: &str) -> Running {
    start("docker-registry", address, |dir, port| {
        let config = dir.path().join("config.yml");
        let storage = dir.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"{address}:{port}\"}}\n",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        vec!["serve".into(), config.display().to_string()]
    })
}

/// A server that speaks S3, with a bucket named `bucket`.
#[must_use]
pub fn bucket_server() -> Running {
    bucket_server_at(LOOPBACK)
}

/// The same at an address of the network namespace that this is called in.
#[must_use]
pub fn bucket_server_at(address: &str) -> Running {
    let server = start(&setting("KILN_TEST_S3"), address, |_, port| {
        ["-H", address, "-p", &port.to_string()]
            .map(String::from)
            .to_vec()
    });
    let _ = server.request("PUT", "/bucket", b"");
    server
}
