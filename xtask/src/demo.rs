//! `cargo xtask demo`: from a Dockerfile to a page in one command.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::shell::{Run, need_root};
use crate::{deps, fixtures, paths};

const BASE: &str = "debian:bookworm";
const NAME: &str = "kiln-demo/hello";

pub(crate) fn run() -> Result<()> {
    need_root("demo")?;
    deps::install(&[("cc", "gcc")])?;
    // What xtask itself was compiled with serves kiln as well: half of a release build's time.
    let kiln = paths::kiln("dev")?;
    get_base(&kiln)?;

    let context = paths::workspace().join("testdata/hello");
    let build = Run::new(&kiln).args(["build", "-t", NAME]).arg(&context);
    eprintln!("\n$ kiln build -t {NAME} testdata/hello");
    build.run()?;

    let site = Site::choose()?;
    let port = site.port;
    let run = site.run(&kiln);
    eprintln!(
        "\n$ {}",
        run.shown().replacen(&*kiln.to_string_lossy(), "kiln", 1)
    );
    let mut server = Server {
        process: run.command().stdin(Stdio::null()).spawn()?,
    };
    let page = fetch(port, &mut server)?;
    drop(server);
    eprintln!("\n$ curl http://127.0.0.1:{port}/");
    println!("{}", page.trim_end());
    Ok(())
}

/// Makes sure that the base image is there: in the store, from Docker Hub, or made here.
fn get_base(kiln: &Path) -> Result<()> {
    let is_here = Run::new(kiln).args(["inspect", BASE]).capture().is_ok();
    if is_here {
        return Ok(());
    }
    if reaches("registry-1.docker.io:443") {
        eprintln!("$ kiln pull {BASE}");
        match Run::new(kiln).args(["pull", BASE]).run() {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("{error:#}"),
        }
    }
    eprintln!("Docker Hub cannot be reached: making {BASE} from Debian's packages");
    deps::install(deps::DEMO)?;
    let tar = fixtures::debian_tar()?;
    Run::new(kiln)
        .args(["import", "-c", r#"CMD ["bash"]"#])
        .arg(tar)
        .arg(BASE)
        .run()
}

/// Whether a connection can be made at all.
fn reaches(host: &str) -> bool {
    let Ok(addresses) = host.to_socket_addrs() else {
        return false;
    };
    let mut addresses = addresses.take(3);
    addresses.any(|a| TcpStream::connect_timeout(&a, Duration::from_secs(3)).is_ok())
}

/// The port that the page is served on, and how the server is told.
struct Site {
    port: u16,
    config: Option<PathBuf>,
}

impl Site {
    /// Port 80, as the image has it; where that is taken, another, by a configuration that is
    /// mounted over the image's.
    fn choose() -> Result<Self> {
        if TcpListener::bind("0.0.0.0:80").is_ok() {
            return Ok(Self {
                port: 80,
                config: None,
            });
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        eprintln!("\nport 80 is taken: serving on port {port}");
        let config = paths::target()?.join("demo-site");
        let text = format!(
            "server {{ listen 127.0.0.1:{port}; root /var/www/html; index index.html; }}\n"
        );
        std::fs::write(&config, text).context("site configuration")?;
        Ok(Self {
            port,
            config: Some(config),
        })
    }

    fn run(&self, kiln: &Path) -> Run {
        let run = Run::new(kiln).args(["run", "--rm", "--network", "host"]);
        match &self.config {
            Some(path) => run
                .args([
                    "-v",
                    &format!("{}:/etc/nginx/sites-enabled/default:ro", path.display()),
                ])
                .arg(NAME),
            None => run.arg(NAME),
        }
    }
}

/// `kiln run` in the background; interrupted when dropped.
struct Server {
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.process.id().to_string();
        // It passes the signal on to the server inside and ends with it.
        let _ = Run::new("kill").args(["-TERM", &pid]).run();
        let _ = self.process.wait();
    }
}

/// The page's body, as soon as somebody serves it.
fn fetch(port: u16, server: &mut Server) -> Result<String> {
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.write_all(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            let (head, body) = answer
                .split_once("\r\n\r\n")
                .context("not an HTTP answer")?;
            if !head.contains(" 200 ") {
                bail!(
                    "the server answered {}",
                    head.lines().next().unwrap_or_default()
                );
            }
            return Ok(body.to_owned());
        }
        if let Some(status) = server.process.try_wait()? {
            bail!("`kiln run` ended early: {status}");
        }
        if Instant::now() > until {
            bail!("nothing answers on port {port}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
