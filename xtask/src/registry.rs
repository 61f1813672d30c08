//! A `docker-registry` process on loopback.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::shell::Run;

/// A registry that runs until it is dropped.
pub(crate) struct Registry {
    process: Child,
    port: u16,
}

impl Registry {
    /// Serves the storage directory `storage`; its configuration and log go to `scratch`.
    pub(crate) fn start(storage: &Path, scratch: &Path) -> Result<Self> {
        std::fs::create_dir_all(scratch).context("registry's directory")?;
        let port = free_port()?;
        let config = scratch.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: '{}', maxthreads: 100}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n",
            storage.display()
        );
        std::fs::write(&config, text).context("registry's configuration")?;
        let log = std::fs::File::create(scratch.join("registry.log")).context("registry's log")?;
        let process = Run::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .command()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("docker-registry")?;
        let mut registry = Self { process, port };
        registry.wait_until_it_answers(scratch)?;
        Ok(registry)
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn wait_until_it_answers(&mut self, scratch: &Path) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.try_wait()?;
            if ended.is_some() || Instant::now() > until {
                let log = std::fs::read_to_string(scratch.join("registry.log")).unwrap_or_default();
                bail!("docker-registry does not answer\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended on its own.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nobody listens on just now.
fn free_port() -> Result<u16> {
    let probe = TcpListener::bind("127.0.0.1:0").context("loopback")?;
    Ok(probe.local_addr()?.port())
}
