//! An SSH agent for the keys of `--ssh ID=KEY`, which runs as long as the build.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::errors::Failure;

/// How long an agent may take until its socket is there.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// A running `ssh-agent` with keys in it; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    /// The directory of its socket.
    _dir: tempfile::TempDir,
    socket: PathBuf,
}

impl Agent {
    /// Starts an agent and adds these private keys to it.
    ///
    /// # Errors
    /// The programs of OpenSSH are missing, or a key cannot be read or has a passphrase.
    pub(crate) fn start(keys: &[PathBuf]) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("kiln-agent-").tempdir()?;
        let socket = dir.path().join("agent");
        let mut command = Command::new("ssh-agent");
        command
            .args(["-D", "-a"])
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // It holds keys: it must not outlive this process, however that ends.
        kiln_engine::host::process::end_with_parent(&mut command);
        let child = command.spawn().map_err(|e| missing("ssh-agent", &e))?;
        let mut agent = Self {
            child,
            _dir: dir,
            socket,
        };
        let begun = Instant::now();
        while !agent.socket.exists() {
            let has_ended = agent.child.try_wait()?.is_some();
            if has_ended || begun.elapsed() > START_TIMEOUT {
                return Err(Failure::new("--ssh: ssh-agent does not start"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        for key in keys {
            agent.add(key)?;
        }
        Ok(agent)
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    fn add(&self, key: &Path) -> Result<(), Failure> {
        let output = Command::new("ssh-add")
            .arg("-q")
            .arg("--")
            .arg(key)
            .env("SSH_AUTH_SOCK", &self.socket)
            // Nobody is asked for a passphrase.
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("SSH_ASKPASS", "/bin/false")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .map_err(|e| missing("ssh-add", &e))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let (why, hint) = refusal(&said);
        Err(Failure::new(format!("--ssh: the key `{}`: {why}", key.display())).with_hint(hint))
    }
}

/// Why `ssh-add` does not take a key, out of what it says, and what to do.
fn refusal(said: &str) -> (String, &'static str) {
    // OpenSSH frames its warning of a key that others can read (authfile.c, sshkey_perm_ok).
    if let Some(line) = (said.lines()).find(|line| line.starts_with("Permissions 0")) {
        let why = line.trim().trim_end_matches('.').to_owned();
        return (why, "chmod 600 lets its owner alone read it");
    }
    let first = said.lines().find(|line| !line.trim().is_empty());
    let why = first.unwrap_or("it cannot be added").trim().to_owned();
    (
        why,
        "a key with a passphrase goes into an agent of your own with ssh-add, and then --ssh default",
    )
}

fn missing(program: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("--ssh: cannot start `{program}`: {error}"))
        .with_hint("keys need the programs of OpenSSH (package openssh-client)")
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It has no work of its own, so nothing is lost with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_key_that_others_can_read_is_told_without_the_frame() {
        let said = "@@@@@@@@@\n@  WARNING  @\n@@@@@@@@@\nPermissions 0644 for 'key' are too open.\nIt is required\n";
        let (why, hint) = super::refusal(said);
        assert_eq!(why, "Permissions 0644 for 'key' are too open");
        assert!(hint.contains("chmod 600"));
        assert_eq!(
            super::refusal("\nError loading key\n").0,
            "Error loading key"
        );
    }
}
