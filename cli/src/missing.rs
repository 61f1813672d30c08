//! What people know from Docker and kiln does not have yet: a plain word in place of a guess at what
//! was meant.

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::args::Cli;
use crate::errors::Failure;
use crate::usage::called;

/// Commands of `docker`.
const COMMANDS: &[&str] = &[
    "attach", "commit", "compose", "config", "context", "cp", "create", "diff", "events", "exec",
    "export", "kill", "login", "logout", "logs", "manifest", "network", "pause", "plugin", "port",
    "ps", "push", "rename", "restart", "rm", "search", "start", "stats", "stop", "top", "unpause",
    "update", "volume", "wait",
];

/// Commands below one of docker's that kiln has too.
const BELOW: &[(&str, &[&str])] = &[
    (
        "buildx",
        &[
            "bake",
            "create",
            "dap",
            "debug",
            "dial-stdio",
            "du",
            "history",
            "imagetools",
            "inspect",
            "ls",
            "rm",
            "stop",
            "use",
            "version",
        ],
    ),
    (
        "container",
        &[
            "attach", "commit", "cp", "create", "diff", "exec", "export", "inspect", "kill",
            "list", "logs", "ls", "pause", "port", "prune", "ps", "rename", "restart", "rm",
            "start", "stats", "stop", "top", "unpause", "update", "wait",
        ],
    ),
    ("image", &["push"]),
    ("system", &["dial-stdio", "events", "info"]),
];

/// What to do in place of commands of docker's.
const INSTEAD: &[(&[&str], &str)] = &[
    (
        &[
            "attach",
            "container",
            "exec",
            "kill",
            "logs",
            "pause",
            "port",
            "ps",
            "rename",
            "restart",
            "rm",
            "start",
            "stats",
            "stop",
            "top",
            "unpause",
            "update",
            "wait",
        ],
        "kiln keeps no containers: `kiln run` runs one in the foreground and throws it away",
    ),
    (
        &[
            "buildx create",
            "buildx inspect",
            "buildx ls",
            "buildx rm",
            "buildx stop",
            "buildx use",
        ],
        "there are no builders to manage: `kiln build` builds by itself",
    ),
    (&["buildx du"], "`kiln system df -v` lists what takes room"),
    (&["system info"], "it is `kiln info`"),
    (&["buildx version"], "it is `kiln version`"),
    (
        &["image push", "push"],
        "`kiln build --push` pushes what it has built",
    ),
];

/// Options of `docker run`.
const RUN: &[&str] = &[
    "-a",
    "-c",
    "-d",
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
    "--label-file",
    "--link",
    "--log-driver",
    "--log-opt",
    "--mac-address",
    "--memory",
    "--memory-reservation",
    "--memory-swap",
    "--mount",
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
    "--detach",
    "--invoke",
    "--policy",
    "--print",
    "--server-config",
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
    let usual = "`kiln help` and `kiln help COMMAND` list what there is";
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let command = text(error, ContextKind::InvalidSubcommand)?;
            let path = path_of(words, Some(command));
            let (known, full) = match path.as_slice() {
                [] => (COMMANDS, command.to_owned()),
                [group] => {
                    let below = BELOW.iter().find(|(name, _)| name == group)?.1;
                    (below, format!("{group} {command}"))
                }
                _ => return None,
            };
            let missing = || Failure::usage(format!("kiln has no `{full}` yet"));
            known
                .contains(&command)
                .then(|| missing().with_hint(instead(&full).unwrap_or(usual)))
        }
        ErrorKind::UnknownArgument => {
            let option = text(error, ContextKind::InvalidArg)?;
            let option = option.split('=').next().unwrap_or(option);
            let path = path_of(words, None);
            let known = match path.last()?.as_str() {
                "run" => RUN,
                "build" => BUILD,
                _ => return None,
            };
            let command = path.join(" ");
            let missing = || Failure::usage(format!("kiln {command} has no `{option}` yet"));
            known.contains(&option).then(|| missing().with_hint(usual))
        }
        _ => None,
    }
}

/// What to do in place of a command, or of all commands of its group.
fn instead(command: &str) -> Option<&'static str> {
    let group = command.split(' ').next().unwrap_or_default();
    let find = |wanted: &str| INSTEAD.iter().find(|(all, _)| all.contains(&wanted));
    find(command).or_else(|| find(group)).map(|(_, hint)| *hint)
}

/// The names of the commands that words call.
fn path_of(words: &[String], invalid: Option<&str>) -> Vec<String> {
    let all = Cli::command();
    let path = called(&all, words, invalid);
    path.iter().map(|c| c.get_name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

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
            (
                "build --policy x .",
                Some("kiln build has no `--policy` yet"),
            ),
            (
                "buildx build --policy x .",
                Some("kiln buildx build has no `--policy` yet"),
            ),
            (
                "container run -d busybox",
                Some("kiln container run has no `-d` yet"),
            ),
            ("container ls", Some("kiln has no `container ls` yet")),
            ("buildx ls", Some("kiln has no `buildx ls` yet")),
            ("image push x", Some("kiln has no `image push` yet")),
            ("system info", Some("kiln has no `system info` yet")),
            ("image ps", None),
            ("imgae prune", None),
            ("build --pusch .", None),
            ("frobnicate", None),
            ("cache push", None),
            ("pull --push x", None),
        ] {
            assert_eq!(said(line).as_deref(), want, "{line}");
        }
    }

    #[test]
    fn something_to_do_instead_is_named() {
        for (command, hint) in [
            ("ps", "kiln run"),
            ("container prune", "kiln run"),
            ("buildx ls", "kiln build"),
            ("buildx du", "kiln system df"),
            ("buildx version", "kiln version"),
        ] {
            assert!(instead(command).unwrap().contains(hint), "{command}");
        }
        assert_eq!(instead("volume"), None);
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
            if let Some((_, below)) = BELOW.iter().find(|(n, _)| *n == command.get_name()) {
                let there = command.get_subcommands().map(clap::Command::get_name);
                assert!(there.into_iter().all(|name| !below.contains(&name)));
            }
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
