//! The reference registry (`docker-registry`, also known as distribution) as a process.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::port::listens;

/// How long the registry may take to listen.
const START: Duration = Duration::from_secs(20);

/// A registry on a free port of this host, with empty storage. It ends when this is dropped.
#[derive(Debug)]
pub struct RegistryProcess {
    child: Child,
    directory: TempDir,
    port: u16,
    authority: Vec<u8>,
}

impl RegistryProcess {
    /// Starts a registry and waits until it listens.
    ///
    /// # Errors
    /// When `docker-registry` is not installed or does not come up.
    pub fn start() -> Result<Self> {
        Self::start_with("")
    }

    /// Starts a registry as a pull-through cache of another one.
    ///
    /// # Errors
    /// As [`RegistryProcess::start`].
    pub fn mirror_of(url: &str) -> Result<Self> {
        Self::start_with(&format!("proxy:\n  remoteurl: {url}\n"))
    }

    /// Starts a registry that speaks TLS with a certificate for `127.0.0.1` that nothing trusts;
    /// see [`RegistryProcess::authority`].
    ///
    /// # Errors
    /// As [`RegistryProcess::start`], and when `openssl` is not installed.
    pub fn start_tls() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = |name: &str| directory.path().join(name).display().to_string();
        let (key, certificate) = (file("key.pem"), file("certificate.pem"));
        let output = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ])
            .args(["-nodes", "-days", "2", "-subj", "/CN=kiln test"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &key, "-out", &certificate])
            .output()
            .context("openssl cannot be started; is it installed?")?;
        if !output.status.success() {
            bail!(
                "openssl failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let tls = format!("  tls:\n    certificate: {certificate}\n    key: {key}\n");
        let mut registry = Self::start_with(&tls)?;
        registry.authority = std::fs::read(&certificate)?;
        Ok(registry)
    }

    fn start_with(extra: &str) -> Result<Self> {
        // Another process may take the port before the registry does; then another is tried.
        for _ in 0..5 {
            if let Some(registry) = Self::try_start(extra)? {
                return Ok(registry);
            }
        }
        bail!("no port for a registry")
    }

    fn try_start(extra: &str) -> Result<Option<Self>> {
        let directory = tempfile::tempdir()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let config = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    \
                 rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  \
                 addr: 127.0.0.1:{port}\n  relativeurls: true\n{extra}",
                storage.display()
            ),
        )?;
        let log = std::fs::File::create(directory.path().join("log"))?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("docker-registry cannot be started; is it installed?")?;
        let mut registry = Self {
            child,
            directory,
            port,
            authority: Vec::new(),
        };
        let end = Instant::now() + START;
        while Instant::now() < end {
            if registry.child.try_wait()?.is_some() {
                let log = std::fs::read_to_string(registry.directory.path().join("log"))?;
                if log.contains("address already in use") {
                    return Ok(None);
                }
                bail!("docker-registry ended: {log}");
            }
            if listens(&registry.child, port) {
                return Ok(Some(registry));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("docker-registry does not listen")
    }

    /// Host and port, as they stand in references.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The certificate to trust, in PEM form; empty without TLS.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        &self.authority
    }

    /// The address with its scheme.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_empty() {
            "http"
        } else {
            "https"
        };
        format!("{scheme}://{}", self.host())
    }

    /// Where the registry keeps its files.
    #[must_use]
    pub fn storage(&self) -> std::path::PathBuf {
        Path::new(self.directory.path()).join("storage")
    }
}

impl Drop for RegistryProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
