//! What people know from Docker and kiln does not have yet: a plain word in place of a guess at what
//! was meant.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::errors::Failure;

/// Commands of `docker`.
const COMMANDS: &[&str] = &[
    "attach",
    "builder",
    "buildx",
    "commit",
    "compose",
    "config",
    "container",
    "context",
    "cp",
    "create",
    "diff",
    "events",
    "exec",
    "export",
    "image",
    "info",
    "kill",
    "login",
    "logout",
    "logs",
    "manifest",
    "network",
    "pause",
    "plugin",
    "port",
    "ps",
    "push",
    "rename",
    "restart",
    "rm",
    "search",
    "start",
    "stats",
    "stop",
    "top",
    "unpause",
    "update",
    "version",
    "volume",
    "wait",
];

/// Options of `docker run`.
const RUN: &[&str] = &[
    "-a",
    "-c",
    "-d",
    "-h",
    "-l",
    "-m",
    "-p",
    "-P",
    "--annotation",
    "--attach",
    "--blkio-weight",
    "--cap-add",
    "--cap-drop",
    "--cgroup-parent",
    "--cgroupns",
    "--cidfile",
    "--cpu-period",
    "--cpu-quota",
    "--cpu-shares",
    "--cpus",
    "--cpuset-cpus",
    "--cpuset-mems",
    "--detach",
    "--detach-keys",
    "--device",
    "--dns",
    "--dns-option",
    "--dns-search",
    "--domainname",
    "--expose",
    "--gpus",
    "--group-add",
    "--health-cmd",
    "--health-interval",
    "--health-retries",
    "--health-start-period",
    "--health-timeout",
    "--init",
    "--ip",
    "--ip6",
    "--ipc",
    "--isolation",
    "--label",
    "--label-file",
    "--link",
    "--log-driver",
    "--log-opt",
    "--mac-address",
    "--memory",
    "--memory-reservation",
    "--memory-swap",
    "--mount",
    "--name",
    "--net",
    "--network-alias",
    "--no-healthcheck",
    "--oom-kill-disable",
    "--oom-score-adj",
    "--pid",
    "--pids-limit",
    "--privileged",
    "--publish",
    "--publish-all",
    "--read-only",
    "--restart",
    "--runtime",
    "--security-opt",
    "--shm-size",
    "--sig-proxy",
    "--stop-signal",
    "--stop-timeout",
    "--storage-opt",
    "--sysctl",
    "--tmpfs",
    "--ulimit",
    "--userns",
    "--uts",
    "--volume-driver",
    "--volumes-from",
];

/// Options of `docker build`, with and without buildx.
const BUILD: &[&str] = &[
    "-m",
    "--attest",
    "--builder",
    "--cgroup-parent",
    "--compress",
    "--cpu-period",
    "--cpu-quota",
    "--cpu-shares",
    "--cpuset-cpus",
    "--cpuset-mems",
    "--force-rm",
    "--isolation",
    "--load",
    "--memory",
    "--memory-swap",
    "--policy",
    "--provenance",
    "--push",
    "--rm",
    "--sbom",
    "--security-opt",
];

fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    }
}

/// What to say of a command line that clap refused with `error`, if Docker would know it. `words`
/// are the command line without the program.
pub(crate) fn known_elsewhere(error: &clap::Error, words: &[String]) -> Option<Failure> {
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            // Only kiln's own commands can stand first; below `cache` and `system` are others.
            let command = text(error, ContextKind::InvalidSubcommand)?;
            let known = COMMANDS.contains(&command) && command_of(words).is_none();
            known.then(|| Failure::usage(format!("kiln has no `{command}` yet")))
        }
        ErrorKind::UnknownArgument => {
            let option = text(error, ContextKind::InvalidArg)?;
            let option = option.split('=').next().unwrap_or(option);
            let command = command_of(words)?;
            let known = match command {
                "run" => RUN,
                "build" => BUILD,
                _ => return None,
            };
            known
                .contains(&option)
                .then(|| Failure::usage(format!("kiln {command} has no `{option}` yet")))
        }
        _ => None,
    }
    .map(|failure| failure.with_hint("`kiln help` and `kiln help COMMAND` list what there is"))
}

/// The command that words begin with, behind options of every command.
fn command_of(words: &[String]) -> Option<&str> {
    use clap::CommandFactory as _;
    let all = crate::args::Cli::command();
    let known = |word: &&String| all.get_subcommands().any(|c| c.get_name() == word.as_str());
    words.iter().find(known).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::args::Cli;

    fn said(line: &str) -> Option<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let all = std::iter::once("kiln".to_owned()).chain(words.clone());
        let error = Cli::try_parse_from(all).unwrap_err();
        known_elsewhere(&error, &words).map(|failure| failure.message)
    }

    #[test]
    fn what_docker_knows_is_told_plainly() {
        for (line, want) in [
            ("push x", Some("kiln has no `push` yet")),
            ("--root /x ps -a", Some("kiln has no `ps` yet")),
            ("run -d busybox", Some("kiln run has no `-d` yet")),
            (
                "run -it -p 8080:80 busybox",
                Some("kiln run has no `-p` yet"),
            ),
            (
                "run --memory=1g busybox",
                Some("kiln run has no `--memory` yet"),
            ),
            ("build --push .", Some("kiln build has no `--push` yet")),
            ("build --pusch .", None),
            ("frobnicate", None),
            ("cache push", None),
            ("pull --push x", None),
        ] {
            assert_eq!(said(line).as_deref(), want, "{line}");
        }
    }

    /// What kiln has by now must not be said to be missing.
    #[test]
    fn nothing_is_denied_that_is_there() {
        let cli = Cli::command();
        for command in cli.get_subcommands() {
            assert!(
                !COMMANDS.contains(&command.get_name()),
                "{}",
                command.get_name()
            );
            let list = match command.get_name() {
                "run" => RUN,
                "build" => BUILD,
                _ => continue,
            };
            for arg in command.get_arguments() {
                let long = arg.get_long().map(|l| format!("--{l}"));
                let short = arg.get_short().map(|s| format!("-{s}"));
                for name in long.into_iter().chain(short) {
                    assert!(!list.contains(&name.as_str()), "{name}");
                }
            }
        }
    }
}
