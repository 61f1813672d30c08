use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::{Worker, testing};

/// Repositories that a real `git daemon` serves on loopback.
struct Server {
    dir: tempfile::TempDir,
    daemon: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

const TIME: &str = "1600000000 +0000";

fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "-c",
            "commit.gpgsign=false",
        ])
        .args([
            "-c",
            "init.defaultBranch=main",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(args)
        .env("GIT_AUTHOR_DATE", TIME)
        .env("GIT_COMMITTER_DATE", TIME)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit(dir: &Path, message: &str) -> String {
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-q", "-m", message]);
    git(dir, &["rev-parse", "HEAD"])
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The port is free again when the daemon takes it.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        // Not `git daemon`, which would be a process above the one to stop.
        let programs = git(dir.path(), &["--exec-path"]);
        let daemon = Command::new(Path::new(&programs).join("git-daemon"))
            .args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", dir.path().display()))
            .stdout(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        Self { dir, daemon, port }
    }

    fn repo(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        git(&path, &["init", "-q"]);
        path
    }

    fn url(&self, rest: &str) -> String {
        format!("git://127.0.0.1:{}/{rest}", self.port)
    }
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn references_directories_and_times() {
    let (engine, _store) = testing::engine();
    let runtime = testing::runtime();
    let server = Server::start();
    let repo = server.repo("r.git");
    std::fs::write(repo.join("a"), "one").unwrap();
    std::fs::create_dir_all(repo.join("sub/deep")).unwrap();
    std::fs::write(repo.join("sub/deep/x"), "x").unwrap();
    std::fs::write(repo.join("run.sh"), "#!/bin/sh").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(repo.join("run.sh"), mode).unwrap();
    symlink("sub", repo.join("link")).unwrap();
    symlink("/etc", repo.join("etc")).unwrap();
    symlink("../../..", repo.join("sub/up")).unwrap();
    let first = commit(&repo, "one");
    git(&repo, &["tag", "-a", "v1", "-m", "v1"]);
    git(&repo, &["branch", "old"]);
    std::fs::write(repo.join("a"), "two").unwrap();
    let second = commit(&repo, "two");
    let checkout = |rest: &str| {
        let url = server.url(&format!("r.git{rest}"));
        runtime.block_on(tree_of(&engine, &url, false))
    };
    let full = format!("#{first}");
    for (rest, want) in [
        ("", "two"),
        ("#main", "two"),
        ("#refs/heads/old", "one"),
        ("#v1", "one"),
        ("#old", "one"),
        ("?tag=v1", "one"),
        ("?branch=main", "two"),
        (full.as_str(), "one"),
    ] {
        let out = checkout(rest).unwrap();
        assert_eq!(read(out.path(), "a"), want, "{rest}");
        assert!(!out.path().join(".git").exists(), "{rest}");
        let file = std::fs::metadata(out.path().join("a")).unwrap();
        assert_eq!(
            (file.mtime(), file.mode() & 0o7777),
            (1_600_000_000, 0o644),
            "{rest}"
        );
        let script = std::fs::metadata(out.path().join("run.sh")).unwrap();
        assert_eq!(script.mode() & 0o7777, 0o755);
    }
    for (rest, want) in [
        ("#main:sub/deep", "x"),
        ("#:link/deep", "x"),
        ("?subdir=sub/deep", "x"),
    ] {
        let out = checkout(rest).unwrap();
        assert_eq!(read(out.path(), "x"), want, "{rest}");
    }
    // No directory of the host, whatever the links of the repository say.
    let up = checkout("#:sub/up").unwrap();
    assert_eq!(read(up.path(), "a"), "two");
    for rest in [
        "#:etc",
        "#:a",
        "#:nowhere",
        "#:.git",
        "#:../..",
        "#:sub/../..",
    ] {
        assert!(checkout(rest).is_err(), "{rest}");
    }
    for (rest, part) in [
        ("#nothing", "no branch or tag `nothing`"),
        ("#0123456", "no branch or tag"),
    ] {
        let error = checkout(rest).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let missing = format!("#{}", "0".repeat(40));
    assert!(
        checkout(&missing)
            .unwrap_err()
            .to_string()
            .contains("no commit")
    );
    for (sum, good) in [
        (&second[..10], true),
        (&second[..], true),
        (&first[..10], false),
    ] {
        let out = checkout(&format!("?checksum={sum}"));
        assert_eq!(out.is_ok(), good, "{sum}");
    }
    drop(up);
    let left: Vec<_> = std::fs::read_dir(engine.store().root().join("work-v1"))
        .unwrap()
        .flat_map(|d| std::fs::read_dir(d.unwrap().path()).unwrap())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn submodules_come_along_and_git_stays_if_wanted() {
    let (engine, _store) = testing::engine();
    let runtime = testing::runtime();
    let server = Server::start();
    let inner = server.repo("inner.git");
    std::fs::write(inner.join("i"), "inner").unwrap();
    commit(&inner, "inner");
    let outer = server.repo("outer.git");
    git(
        &outer,
        &[
            "submodule",
            "--quiet",
            "add",
            &server.url("inner.git"),
            "mod",
        ],
    );
    // Relative, as many repositories have it.
    let relative = read(&outer, ".gitmodules").replace(&server.url("inner.git"), "../inner.git");
    std::fs::write(outer.join(".gitmodules"), relative).unwrap();
    let head = commit(&outer, "outer");
    let url = server.url("outer.git");
    let plain = runtime.block_on(tree_of(&engine, &url, false)).unwrap();
    assert_eq!(read(plain.path(), "mod/i"), "inner");
    assert!(!plain.path().join("mod/.git").exists());
    let kept = runtime.block_on(tree_of(&engine, &url, true)).unwrap();
    assert_eq!(git(kept.path(), &["rev-parse", "HEAD"]), head);
    assert_eq!(git(kept.path(), &["status", "--porcelain"]), "");
    let without = runtime
        .block_on(tree_of(&engine, &format!("{url}?submodules=0"), false))
        .unwrap();
    assert!(!without.path().join("mod/i").exists());
}

#[test]
fn repositories_run_nothing_and_reach_nothing() {
    let (engine, _store) = testing::engine();
    let runtime = testing::runtime();
    let server = Server::start();
    let witness = server.dir.path().join("witness");
    let secret = server.repo("secret");
    std::fs::write(secret.join("s"), "secret").unwrap();
    commit(&secret, "s");
    // A submodule from a path or program of this machine.
    for (name, address) in [
        ("file.git", format!("file://{}", secret.display())),
        ("path.git", secret.display().to_string()),
        (
            "ext.git",
            format!("ext::sh -c touch% {}", witness.display()),
        ),
        ("dash.git", "-u./x".to_owned()),
    ] {
        let repo = server.repo(name);
        git(
            &repo,
            &[
                "submodule",
                "--quiet",
                "add",
                &secret.display().to_string(),
                "mod",
            ],
        );
        let text = format!("[submodule \"mod\"]\n\tpath = mod\n\turl = {address}\n");
        std::fs::write(repo.join(".gitmodules"), text).unwrap();
        commit(&repo, "m");
        let out = runtime.block_on(tree_of(&engine, &server.url(name), false));
        if let Ok(out) = &out {
            assert!(!out.path().join("mod/s").exists(), "{name}");
        }
    }
    // Filters and hooks that a user's configuration would have.
    let repo = server.repo("filter.git");
    std::fs::write(repo.join(".gitattributes"), "* filter=evil\n").unwrap();
    std::fs::write(repo.join("f"), "raw").unwrap();
    commit(&repo, "f");
    let out = runtime
        .block_on(tree_of(&engine, &server.url("filter.git"), false))
        .unwrap();
    assert_eq!(read(out.path(), "f"), "raw");
    assert!(!witness.exists());
}

#[test]
fn logins_do_not_show() {
    let (engine, store) = testing::engine();
    let runtime = testing::runtime();
    // Nothing listens there any more.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://canary-user:canary%2Dword@127.0.0.1:{port}/r.git");
    let error = runtime.block_on(tree_of(&engine, &url, false)).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(!text.contains("canary"), "{text}");
    let found = Command::new("grep")
        .arg("-r")
        .arg("canary")
        .arg(store.path())
        .output()
        .unwrap();
    assert_eq!(found.stdout, b"");
}

#[test]
fn the_full_name_wins_then_branches_then_tags() {
    let id = |n: u8| format!("{n:040x}");
    let list = format!(
        "{}\trefs/heads/x/v1\n{}\trefs/heads/v1\n{}\trefs/tags/v1\n{}\trefs/tags/v1^{{}}\n{}\tHEAD\n",
        id(1),
        id(2),
        id(3),
        id(4),
        id(5)
    );
    let of = |commit: u8, tag: Option<u8>| {
        Some(ResolvedRef {
            commit: id(commit),
            tag: tag.map(id),
        })
    };
    for (name, want) in [
        ("v1", of(2, None)),
        ("tags/v1", of(4, Some(3))),
        ("refs/tags/v1", of(4, Some(3))),
        ("HEAD", of(5, None)),
        ("heads/v1", of(2, None)),
        ("x", None),
    ] {
        assert_eq!(pick(&list, name), want, "{name}");
    }
}

/// Whatever way git fetches: no server keeps a build waiting for ever, and no process stays behind.
#[test]
fn servers_that_are_silent_or_drip_are_given_up() {
    let runtime = testing::runtime();
    let dir = tempfile::tempdir().unwrap();
    for (drips, scheme) in [
        (false, "git"),
        (true, "git"),
        (false, "http"),
        (true, "http"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            if scheme == "http" {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-git-upload-pack-advertisement\r\n\r\n";
                let _ = connection.write_all(head.as_bytes());
            }
            // The packet that it begins is one of 65,516 bytes. It ends when the other side is gone.
            for byte in b"ffec".iter().chain(std::iter::repeat(&b'x')) {
                if drips && connection.write_all(&[*byte]).is_err() {
                    return;
                }
                let wait = Some(Duration::from_millis(20));
                connection.set_read_timeout(wait).unwrap();
                if connection.read(&mut [0; 1000]).is_ok_and(|n| n == 0) {
                    return;
                }
            }
        });
        let address = format!("{scheme}://127.0.0.1:{port}/r.git");
        let url = GitUrl::parse(&address).unwrap();
        let cancel = CancellationToken::new();
        let git = Git::new(&url, &dir.path().join("checkout"), u64::MAX, &cancel);
        let git = git.patient_for(Duration::from_secs(1));
        let error = runtime.block_on(resolve(&git, &url)).err().unwrap();
        assert!(matches!(error, Error::Stalled { .. }), "{address}: {error}");
        let text = error.to_string();
        assert!(
            text.contains(&url.remote) && text.contains("look up the reference"),
            "{text}"
        );
        server.join().unwrap();
    }
}

/// A repository of a few kilobytes whose files would fill any disk.
#[test]
fn what_a_repository_unpacks_to_is_bounded() {
    let (engine, _store) = testing::engine_with(|settings| settings.max_download = 100_000);
    let runtime = testing::runtime();
    let server = Server::start();
    let repo = server.repo("bomb.git");
    std::fs::write(repo.join("zeros"), vec![0; 90_000]).unwrap();
    git(&repo, &["add", "-A"]);
    let mut tree = git(&repo, &["write-tree"]);
    for _ in 0..5 {
        let list: String = (0..10)
            .map(|n| format!("040000 tree {tree}\t{n}\n"))
            .collect();
        std::fs::write(repo.join("list"), list).unwrap();
        let script = format!("cd {} && git mktree < list", repo.display());
        let out = Command::new("sh").args(["-c", &script]).output().unwrap();
        tree = String::from_utf8(out.stdout).unwrap().trim().to_owned();
    }
    let commit = git(&repo, &["commit-tree", "-m", "bomb", &tree]);
    git(&repo, &["update-ref", "refs/heads/main", &commit]);
    let url = server.url("bomb.git");
    let error = runtime
        .block_on(tree_of(&engine, &url, false))
        .err()
        .unwrap();
    let large = matches!(error, Error::DownloadTooLarge { limit: 100_000, .. });
    assert!(
        large && error.to_string().contains("check the commit out"),
        "{error}"
    );
}

/// The files of a checkout.
async fn tree_of(engine: &Worker, address: &str, keep_git_dir: bool) -> Result<Scratch> {
    Ok(engine
        .sources()
        .git_checkout(address, keep_git_dir, None)
        .await?
        .0)
}
