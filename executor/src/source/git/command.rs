//! Runs `git`, away from the configuration of the machine and of the user.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::progress::{Family, WINDOW};
use super::url::GitUrl;
use crate::error::{Error, Result};
use kiln_solver::Hint;

/// SIGXFSZ, which ends what makes a file that is too large.
const TOO_LARGE: i32 = 25;
/// What git says of a helper that it ended.
const TOO_LARGE_TEXT: &str = "died of signal 25";

/// How often a byte of a repository is written at most, more or less: to a pipe, to a pack, and unpacked
/// to files. A small pack can hold a tree of any size.
const COPIES: u64 = 4;

/// Protocols that repositories and their submodules are fetched by.
const PROTOCOLS: &str = "https:http:ssh:git";

/// Settings that keep a repository from running or reading anything, in every call.
const SETTINGS: [&str; 13] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.symlinks=true",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "credential.helper=",
    "advice.detachedHead=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.file.allow=never",
];

/// Variables by which a caller's git would lead ours elsewhere: kiln may run in a hook.
const FOREIGN: [&str; 30] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ASKPASS",
    "GIT_ATTR_SOURCE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CURL_VERBOSE",
    "GIT_DEFAULT_HASH",
    "GIT_DIR",
    "GIT_EXTERNAL_DIFF",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_PROXY_COMMAND",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_TEMPLATE_DIR",
    "GIT_TRACE",
    "GIT_TRACE2",
    "GIT_TRACE_CURL",
    "GIT_TRACE_PACKET",
    "GIT_WORK_TREE",
    "SSH_ASKPASS",
];

/// `git` for one repository.
pub(super) struct Git<'a> {
    url: &'a GitUrl,
    /// The working tree.
    pub(super) path: String,
    /// Bytes of a file that it writes, at most.
    limit: u64,
    /// How long it may make no progress.
    window: Duration,
    cancel: &'a CancellationToken,
}

impl<'a> Git<'a> {
    pub(super) fn new(
        url: &'a GitUrl,
        path: &Path,
        limit: u64,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self {
            url,
            path: path.to_string_lossy().into_owned(),
            limit,
            window: WINDOW,
            cancel,
        }
    }

    /// The same with another bound on how long it may make no progress.
    #[cfg(test)]
    pub(super) fn patient_for(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// Runs `git` in the working tree, if it is there yet. Gives its output; `what` is the part of
    /// the error after "cannot".
    pub(super) async fn run(&self, what: &str, args: &[&str]) -> Result<String> {
        let inside = Path::new(&self.path).is_dir().then_some(self.path.as_str());
        self.start(what, inside, args).await
    }

    /// Runs `git` outside of any repository.
    pub(super) async fn outside(&self, what: &str, args: &[&str]) -> Result<String> {
        self.start(what, None, args).await
    }

    fn command(&self, directory: Option<&str>) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("git");
        for name in FOREIGN {
            command.env_remove(name);
        }
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        // Beside the working tree, nothing above the scratch directory is a repository of ours.
        let ceiling = Path::new(&self.path).parent().unwrap_or(Path::new("/"));
        command.env("GIT_CEILING_DIRECTORIES", ceiling);
        command.current_dir(directory.map_or(ceiling, Path::new));
        // A pack has no size that its server would have to tell.
        kiln_sys::process::limit_file_size(command.as_std_mut(), self.limit);
        if let Some(login) = &self.url.login {
            // In the environment, which only this user sees, not on the command line.
            command
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", format!("url.{}.insteadOf", login.with))
                .env("GIT_CONFIG_VALUE_0", &login.without);
        }
        command
    }

    async fn start(&self, what: &str, directory: Option<&str>, args: &[&str]) -> Result<String> {
        let child = self
            .command(directory)
            .args(args)
            .spawn()
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => Error::Missing {
                    text: "git repositories need the `git` command, and it is not installed".into(),
                    hint: Hint::InstallGit,
                },
                _ => Error::io("start git", e),
            })?;
        let shown = &self.url.remote;
        let at = || format!("git repository `{shown}`: cannot {what}");
        let too_large = || Error::DownloadTooLarge {
            what: at(),
            limit: self.limit,
        };
        let family = child.id();
        let mut output = pin!(child.wait_with_output());
        // Dropped before the child is, so that its number is still that of the group.
        let mut family = Family::of(family);
        let output = tokio::select! {
            output = &mut output => {
                family.has_ended();
                output.map_err(|e| Error::io("run git", e))?
            }
            () = self.cancel.cancelled() => return Err(Error::Cancelled),
            () = family.writes_more_than(self.limit.saturating_mul(COPIES)) => return Err(too_large()),
            () = family.stalls(self.window) => {
                return Err(Error::Stalled { what: at(), seconds: self.window.as_secs() });
            }
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = self.without_secrets(&String::from_utf8_lossy(&output.stderr));
        // It, or one of its helpers, of which it tells.
        if output.status.signal() == Some(TOO_LARGE) || said.contains(TOO_LARGE_TEXT) {
            return Err(too_large());
        }
        let why = complaint(&said);
        Err(Error::Missing {
            text: format!("{}: {why}", at()),
            hint: hint(&said),
        })
    }

    fn without_secrets(&self, text: &str) -> String {
        let secrets = self.url.login.iter().flat_map(|l| &l.secrets);
        secrets.fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), "***")
        })
    }
}

/// What git complained about: its `fatal` and `error` lines, else the last line.
fn complaint(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let marked = |line: &&str| {
        ["fatal: ", "error: ", "ERROR: "]
            .iter()
            .find_map(|m| line.strip_prefix(m))
            .map(str::to_owned)
    };
    let mut told: Vec<String> = lines.iter().filter_map(marked).collect();
    told.dedup();
    told.truncate(4);
    if told.is_empty() {
        told.extend(lines.last().map(ToString::to_string));
    }
    let text = told.join("; ");
    if text.is_empty() {
        "git gave no reason".into()
    } else {
        text
    }
}

fn hint(said: &str) -> Hint {
    let has = |part: &str| said.contains(part);
    if has("terminal prompts disabled") || has("Authentication failed") {
        Hint::GitCredentials
    } else if has("Permission denied (") || has("Host key verification failed") {
        Hint::GitSshKey
    } else if has("transport '") {
        Hint::GitProtocols
    } else {
        Hint::CheckGitAddress
    }
}
