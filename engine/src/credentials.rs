//! Credentials for registries: Docker's config file, and the programs that it names.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use kiln_image::with_causes;
use kiln_registry::auth::{Anonymous, CredentialSource, DockerConfig, HelperOutput, HelperRunner};
use kiln_registry::{Notice, Notices};
use kiln_solver::event::WarningCode;
use kiln_sys::{Pipes, read_named};

use crate::config::Config;
use crate::event::Events;

/// The largest file of credentials, in bytes.
const MAX_CREDENTIALS: u64 = 4 << 20;

/// Runs `docker-credential-*` programs.
#[derive(Debug)]
struct Helpers;

impl HelperRunner for Helpers {
    fn get(&self, helper: &str, server: &str) -> std::io::Result<HelperOutput> {
        let mut child = Command::new(format!("docker-credential-{helper}"))
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(server.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        Ok(HelperOutput {
            success: output.status.success(),
            stdout: output.stdout,
        })
    }
}

/// Notices of the registry client as warnings.
pub(crate) fn notices(events: &Events) -> Notices {
    let events = events.clone();
    Notices::new(move |notice| {
        let code = match &notice {
            Notice::MirrorPassedOver { .. } => WarningCode::Mirror,
            Notice::CredentialUnused { .. } => WarningCode::Credentials,
        };
        events.warn(code, notice.to_string());
    })
}

/// What Docker's config file has. Most calls need none of it, so one that cannot be read is warned about and
/// no more, as Docker does it.
pub(crate) fn of(config: &Config, events: &Events) -> Arc<dyn CredentialSource> {
    let Some(path) = &config.docker_config else {
        return Arc::new(Anonymous);
    };
    let unused = |why: &str| -> Arc<dyn CredentialSource> {
        let shown = path.display();
        events.warn(
            WarningCode::Credentials,
            format!("credentials in `{shown}` are not used: {why}"),
        );
        Arc::new(Anonymous)
    };
    match read_named(path, MAX_CREDENTIALS, Pipes::Refused) {
        Ok(bytes) => match DockerConfig::parse(&bytes) {
            Ok(config) => {
                let config = config.with_helpers(Arc::new(Helpers));
                Arc::new(config.with_notices(notices(events)))
            }
            Err(e) => unused(&with_causes(&e)),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Arc::new(Anonymous),
        Err(e) => unused(&e.source.to_string()),
    }
}
