//! Servers that hosts share results through: a registry that can be written to, and one that speaks
//! S3. Each has a directory of its own and ends with its test.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::setting;

/// A server process on a port of loopback.
#[derive(Debug)]
pub struct Running {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Running {
    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(program: &str, arguments: impl Fn(&TempDir, u16) -> Vec<String>) -> Running {
    let dir = tempfile::Builder::new().prefix("kiln-server-").tempdir();
    let dir = dir.unwrap();
    // Another process may take the port before the server does.
    for _ in 0..5 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
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
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Running {
                    child,
                    port,
                    _dir: dir,
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
    start("docker-registry", |dir, port| {
        let config = dir.path().join("config.yml");
        let storage = dir.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        vec!["serve".into(), config.display().to_string()]
    })
}

/// A server that speaks S3, with a bucket named `bucket`.
#[must_use]
pub fn bucket_server() -> Running {
    let server = start(&setting("KILN_TEST_S3"), |_, port| {
        ["-H", "127.0.0.1", "-p", &port.to_string()]
            .map(String::from)
            .to_vec()
    });
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let request = format!(
        "PUT /bucket HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, \
         SignedHeaders=host, Signature=x\r\n\r\n",
        server.address()
    );
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server
}
