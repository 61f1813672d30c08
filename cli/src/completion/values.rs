//! What is offered for the values of options and arguments, beside names of images.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::ArgAction;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, ValueCompleter};
use kiln_engine::host::{Pipes, read_named_text};
use kiln_engine::peek;
use kiln_engine::solver::lower::targets;
use kiln_parser::flags::{MountSpec, MountType, parse_mount};
use kiln_parser::{Dockerfile, Kind};

/// Bytes of a Dockerfile that is read for the sake of a key press.
const MAX_DOCKERFILE: u64 = 1 << 20;

/// Filters of commands, as they are begun.
const FILTERS: [(&[&str], &[&str]); 3] = [
    (
        &["images"],
        &[
            "dangling=true",
            "dangling=false",
            "label=",
            "label!=",
            "reference=",
            "until=",
        ],
    ),
    (&["image", "prune"], &["label=", "label!=", "until="]),
    (
        &["prune"],
        &[
            "type=exec.cachemount",
            "type=regular",
            "unused-for=",
            "until=",
        ],
    ),
];

/// Templates of commands: the fields that people ask for.
const TEMPLATES: [(&[&str], &[&str]); 5] = [
    (
        &["images"],
        &[
            "Repository",
            "Tag",
            "ID",
            "CreatedSince",
            "CreatedAt",
            "Size",
            "Digest",
        ],
    ),
    (
        &["history"],
        &[
            "ID",
            "CreatedSince",
            "CreatedAt",
            "CreatedBy",
            "Size",
            "Comment",
        ],
    ),
    (
        &["system", "df"],
        &["Type", "TotalCount", "Active", "Size", "Reclaimable"],
    ),
    (&["cache", "ls"], &["ID", "Size", "LastUsed"]),
    (
        &["inspect"],
        &["Id", "Config", "RootFS", "Architecture", "Os", "Created"],
    ),
];

/// What a Dockerfile is asked for.
#[derive(Clone, Copy, Debug)]
enum Section {
    Stages,
    Arguments,
    Secrets,
}

/// Adds completers to the command line. `words` are what was typed so far, `root` is the store.
pub(super) fn add(
    command: clap::Command,
    words: &[OsString],
    root: Option<&Path>,
) -> clap::Command {
    let file = dockerfile_of(words);
    let of_file = |part| {
        ArgValueCompleter::new(OfDockerfile {
            file: file.clone(),
            part,
        })
    };
    let mut command = command.mut_subcommand("build", |build| {
        build
            .mut_arg("target", |arg| arg.add(of_file(Section::Stages)))
            .mut_arg("no_cache_filter", |arg| arg.add(of_file(Section::Stages)))
            .mut_arg("build_arg", |arg| arg.add(of_file(Section::Arguments)))
            .mut_arg("secret", |arg| arg.add(of_file(Section::Secrets)))
    });
    command = command.mut_subcommand("cache", |cache| {
        let ids = |argument: &'static str| {
            let root = root.map(Path::to_path_buf);
            move |sub: clap::Command| {
                sub.mut_arg(argument, |arg| {
                    arg.add(ArgValueCompleter::new(Mounts { root }))
                })
            }
        };
        cache
            .mut_subcommand("rm", ids("ids"))
            .mut_subcommand("inspect", ids("ids"))
            .mut_subcommand("export", ids("id"))
    });
    for (path, values) in FILTERS {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        command = on(command, path, "filter", Words(values));
    }
    for (path, fields) in TEMPLATES {
        let fields = fields.iter().map(|field| format!("{{{{.{field}}}}}"));
        let values = std::iter::once("json".to_owned()).chain(fields).collect();
        command = on(command, path, "format", Words(values));
    }
    command
}

/// Adds a completer to an argument of the command at `path`.
fn on(
    command: clap::Command,
    path: &[&str],
    argument: &'static str,
    words: Words,
) -> clap::Command {
    match path {
        [] => command.mut_arg(argument, |arg| arg.add(ArgValueCompleter::new(words))),
        [first, rest @ ..] => command.mut_subcommand(*first, |sub| on(sub, rest, argument, words)),
    }
}

/// The Dockerfile that a line names so far: that of `--file`, or of the directory that is given.
fn dockerfile_of(words: &[OsString]) -> Option<PathBuf> {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let mut context = None;
    let mut at = 1;
    while let Some(word) = words.get(at) {
        at += 1;
        for (option, joined) in [("--file", "--file="), ("-f", "-f")] {
            if *word == option {
                return words.get(at).map(PathBuf::from);
            }
            if let Some(path) = word.strip_prefix(joined).filter(|path| !path.is_empty()) {
                return Some(PathBuf::from(path));
            }
        }
        match word.strip_prefix('-') {
            None if *word != "build" && Path::new(word).is_dir() => context = Some(*word),
            // The value of an option is no context.
            Some(option) if !word.contains('=') && takes_value(option) => at += 1,
            _ => {}
        }
    }
    Some(Path::new(context.unwrap_or(".")).join("Dockerfile"))
}

/// Whether an option of `build`, without its dashes, is followed by a value.
fn takes_value(option: &str) -> bool {
    use clap::CommandFactory as _;
    let cli = crate::args::Cli::command();
    let Some(build) = cli.find_subcommand("build") else {
        return false;
    };
    let name = option.trim_start_matches('-');
    let mut arguments = build.get_arguments().chain(cli.get_arguments());
    arguments.any(|arg| {
        let long = arg.get_long() == Some(name);
        let short = arg
            .get_short()
            .is_some_and(|c| name.len() == 1 && name.starts_with(c));
        (long || short) && matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
    })
}

/// Candidates that begin with what is typed. Names that would do something to a terminal are none.
fn beginning(typed: &OsStr, all: Vec<String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_str().unwrap_or_default();
    let mut fit: Vec<String> = all
        .into_iter()
        .filter(|word| word.starts_with(typed) && !word.contains(char::is_control))
        .collect();
    fit.sort_unstable();
    fit.dedup();
    fit.into_iter().map(CompletionCandidate::new).collect()
}

/// Words that are known beforehand.
#[derive(Clone)]
struct Words(Vec<String>);

impl ValueCompleter for Words {
    fn complete(&self, typed: &OsStr) -> Vec<CompletionCandidate> {
        beginning(typed, self.0.clone())
    }
}

/// Ids of the store's cache mounts.
struct Mounts {
    root: Option<PathBuf>,
}

impl ValueCompleter for Mounts {
    fn complete(&self, typed: &OsStr) -> Vec<CompletionCandidate> {
        let ids = self.root.as_deref().map(peek::cache_mount_ids);
        beginning(typed, ids.and_then(Result::ok).unwrap_or_default())
    }
}

/// Names that a Dockerfile has.
struct OfDockerfile {
    file: Option<PathBuf>,
    part: Section,
}

impl OfDockerfile {
    fn names(&self) -> Option<Vec<String>> {
        let path = self.file.as_deref()?;
        let text = read_named_text(path, MAX_DOCKERFILE, Pipes::Refused).ok()?;
        let dockerfile = kiln_parser::parse(&text).dockerfile;
        Some(match self.part {
            Section::Stages => {
                let stages = targets(&dockerfile).into_iter();
                stages.filter_map(|stage| stage.name).collect()
            }
            Section::Arguments => arguments(&dockerfile),
            Section::Secrets => secrets(&dockerfile),
        })
    }
}

impl ValueCompleter for OfDockerfile {
    fn complete(&self, typed: &OsStr) -> Vec<CompletionCandidate> {
        beginning(typed, self.names().unwrap_or_default())
    }
}

fn arguments(dockerfile: &Dockerfile) -> Vec<String> {
    let mut out = Vec::new();
    for instruction in &dockerfile.instructions {
        if let Kind::Arg(list) = &instruction.kind {
            out.extend(list.iter().map(|arg| format!("{}=", arg.name.value)));
        }
    }
    out
}

fn secrets(dockerfile: &Dockerfile) -> Vec<String> {
    let mut out = Vec::new();
    let flags = dockerfile.instructions.iter().flat_map(|i| &i.flags);
    for flag in flags.filter(|flag| flag.name.value == "mount") {
        let value = flag.value.as_ref().map(|value| parse_mount(&value.value));
        if let Some(Ok(MountSpec {
            kind: MountType::Secret,
            id: Some(id),
            ..
        })) = value
        {
            out.push(format!("id={id}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_do_something_to_a_terminal_is_not_offered() {
        let all = ["abc", "ab\u{1b}[2J", "ab\u{9b}", "ab\n", "xyz"].map(str::to_owned);
        let found = beginning(OsStr::new("a"), all.to_vec());
        let found: Vec<_> = found.iter().map(|c| c.get_value().to_owned()).collect();
        assert_eq!(found, ["abc"]);
    }

    #[test]
    fn the_dockerfile_is_that_of_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_str().unwrap();
        for (line, want) in [
            ("kiln build --target ".to_owned(), "./Dockerfile".to_owned()),
            ("kiln build -f x/D --target ".into(), "x/D".into()),
            ("kiln build -fD --target ".into(), "D".into()),
            ("kiln build --file=D --target ".into(), "D".into()),
            (
                format!("kiln build {at} --target "),
                format!("{at}/Dockerfile"),
            ),
            (
                format!("kiln build -t {at} --target "),
                "./Dockerfile".into(),
            ),
            (
                format!("kiln build --no-cache {at} --target "),
                format!("{at}/Dockerfile"),
            ),
        ] {
            let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            assert_eq!(dockerfile_of(&words), Some(want.into()), "{line}");
        }
    }
}
