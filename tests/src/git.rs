//! Git repositories, served over HTTP.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::http::{Answer, Request, Server};
use crate::tools::tool;

/// A repository with a working tree.
#[derive(Debug)]
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// An empty one at `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let repository = Self {
            path: path.to_path_buf(),
        };
        repository.git(&["init", "-q", "-b", "main"]);
        repository.git(&["config", "user.name", "Test"]);
        repository.git(&["config", "user.email", "test@example.com"]);
        repository.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
        repository
    }

    /// Its working tree.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Commits everything and returns the commit's id.
    pub fn commit(&self) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "change"]);
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Any git command.
    pub fn git(&self, arguments: &[&str]) -> String {
        let path = self.path.to_str().unwrap();
        tool("git", ["-C", path].iter().chain(arguments))
    }

    /// Serves it; the address is `url("/repo.git")`.
    #[must_use]
    pub fn serve(&self) -> Server {
        let path = self.path.clone();
        Server::start(Arc::new(move |request| backend(&path, request)))
    }
}

/// Git's own CGI program answers.
fn backend(repository: &Path, request: &Request) -> Answer {
    let none = Answer {
        status: 404,
        headers: Vec::new(),
        body: Vec::new(),
    };
    let Some(rest) = request.path.strip_prefix("/repo.git") else {
        return none;
    };
    let header = |name: &str| request.headers.get(name).cloned().unwrap_or_default();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", repository.join(".git"))
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("PATH_INFO", rest)
        .env("QUERY_STRING", &request.query)
        .env("REQUEST_METHOD", &request.method)
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = request.body.clone();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let out = child.wait_with_output().unwrap().stdout;
    feeder.join().unwrap();
    let split = out
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map_or(out.len(), |at| at + 4);
    let mut answer = Answer::ok(&out[split..]);
    for line in String::from_utf8_lossy(&out[..split]).lines() {
        match line.split_once(": ") {
            Some(("Status", code)) => answer.status = code[..3].parse().unwrap(),
            Some((name, value)) => answer = answer.header(name, value),
            None => {}
        }
    }
    answer
}
