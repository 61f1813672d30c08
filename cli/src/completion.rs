//! Completion: what a shell's script asks kiln for while somebody types.
//!
//! The scripts of `kiln completions` run `kiln -- WORDS` with a variable that names the shell. That is
//! answered before anything else happens, from the database of the store, opened for reading alone.
//! Whoever presses a key wants no errors: what cannot be found out is not offered.

mod values;

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, CommandFactory as _};
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, ValueCompleter, complete as candidates,
};
use clap_complete::env::{Elvish, EnvCompleter, Fish, Powershell, Shells, Zsh};
use kiln_engine::peek;

use crate::args::{Cli, Global};
use crate::settings;

/// Names the shell that asks.
const VARIABLE: &str = "KILN_COMPLETE";

/// Commands and the ids of their arguments that are images of the store.
const IMAGES: [(&str, &str); 6] = [
    ("run", "image_and_command"),
    ("tag", "source"),
    ("rmi", "images"),
    ("history", "image"),
    ("inspect", "images"),
    ("save", "images"),
];

const SHELLS: Shells<'static> = Shells(&[&Bash, &Elvish, &Fish, &Powershell, &Zsh]);

/// Answers the script of a shell; none if none asks. No thread may exist yet.
pub(crate) fn answer() -> Option<ExitCode> {
    let shell = std::env::var(VARIABLE).ok()?;
    let shell = SHELLS.completer(&shell)?;
    let mut words = std::env::args_os().skip(1);
    if words.next()? != "--" {
        return None;
    }
    let mut answer = Vec::new();
    let here = std::env::current_dir().ok();
    let words: Vec<OsString> = words.collect();
    let mut command = command(&typed(shell, &words));
    let done = shell.write_complete(&mut command, words, here.as_deref(), &mut answer);
    let told = done.and_then(|()| std::io::stdout().write_all(&answer));
    Some(match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

/// The words that were typed, of what a shell's script says.
fn typed(shell: &dyn EnvCompleter, said: &[OsString]) -> Vec<OsString> {
    let line = said.first().and_then(|line| line.to_str());
    match line.filter(|_| shell.is(Bash.name())).and_then(split) {
        Some((words, _)) => words.into_iter().map(OsString::from).collect(),
        None => said.to_vec(),
    }
}

/// The script of a shell for kiln under this name, such as that of an alias.
///
/// # Errors
/// There is none for it.
pub(crate) fn script(shell: &str, name: &str) -> std::io::Result<Vec<u8>> {
    let unknown = || std::io::Error::other(format!("no completions for `{shell}`"));
    let shell = SHELLS.completer(shell).ok_or_else(unknown)?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, name, name, "kiln", &mut script)?;
    Ok(script)
}

/// The command line with what is known of the arguments' values.
fn command(words: &[OsString]) -> clap::Command {
    let root = root(words);
    let mut command = values::add(Cli::command(), words, root.as_deref());
    for (name, argument) in IMAGES {
        let images = ArgValueCompleter::new(Images { root: root.clone() });
        command = command.mut_subcommand(name, |sub| sub.mut_arg(argument, |arg| arg.add(images)));
    }
    // What follows the first word is no image.
    command.mut_subcommand("run", |run| {
        let rest = Arg::new("command").num_args(0..).trailing_var_arg(true);
        let image = |arg: Arg| {
            let one = arg.action(ArgAction::Set).num_args(1);
            one.trailing_var_arg(false).value_name("IMAGE")
        };
        run.mut_arg("image_and_command", image).arg(rest)
    })
}

/// The store that a command line is about.
fn root(words: &[OsString]) -> Option<PathBuf> {
    let given = |option: &str, variable: &str| {
        let mut found = std::env::var_os(variable);
        for (at, word) in words.iter().enumerate() {
            let Some(word) = word.to_str() else { continue };
            match word.strip_prefix(option) {
                Some("") => found = words.get(at + 1).cloned(),
                Some(value) => {
                    if let Some(value) = value.strip_prefix('=') {
                        found = Some(value.into());
                    }
                }
                None => {}
            }
        }
        found
    };
    let global = Global {
        root: given("--root", "KILN_ROOT"),
        config: given("--config", "KILN_CONFIG"),
        log_level: None,
        debug: false,
    };
    Some(settings::resolve(&global, None).ok()?.engine.root)
}

/// Images of the store.
struct Images {
    root: Option<PathBuf>,
}

impl ValueCompleter for Images {
    fn complete(&self, typed: &OsStr) -> Vec<CompletionCandidate> {
        let (Some(root), Some(typed)) = (&self.root, typed.to_str()) else {
            return Vec::new();
        };
        let names = peek::image_names(root).unwrap_or_default();
        // Short, unless the long form is being typed.
        let shown = names.into_iter().filter_map(|name| {
            let fits = [name.familiar(), name.to_string()];
            fits.into_iter().find(|name| name.starts_with(typed))
        });
        let mut shown: Vec<String> = shown.collect();
        shown.sort_unstable();
        shown.into_iter().map(CompletionCandidate::new).collect()
    }
}

/// Bash takes lines apart at colons, which names of images have. So its script gives the line as it was
/// typed, and what bash takes words apart at.
struct Bash;

const BASH: &str = r#"
_NAME() {
    local IFS=$'\n'
    COMPREPLY=($(VARIABLE=bash COMPLETER -- "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2> /dev/null))
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} =~ [=/:]$ ]]; then
        compopt -o nospace 2> /dev/null
    fi
}
complete -o bashdefault -o default -F _NAME BIN
"#;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == "bash"
    }

    fn write_registration(
        &self,
        variable: &str,
        name: &str,
        bin: &str,
        completer: &str,
        out: &mut dyn std::io::Write,
    ) -> std::io::Result<()> {
        let script = BASH
            .replace(
                "NAME",
                &name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"),
            )
            .replace("VARIABLE", variable)
            .replace("COMPLETER", completer)
            .replace("BIN", bin);
        out.write_all(script.trim_start().as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        words: Vec<OsString>,
        here: Option<&Path>,
        out: &mut dyn std::io::Write,
    ) -> std::io::Result<()> {
        let mut words = words.into_iter().map(OsString::into_string);
        let (Some(Ok(line)), Some(Ok(breaks))) = (words.next(), words.next()) else {
            return Err(std::io::Error::other("the line is not text"));
        };
        let Some((words, quoted)) = split(&line) else {
            return Ok(());
        };
        let typed = words.last().cloned().unwrap_or_default();
        // Inside quotes bash takes nothing apart, and nothing needs a backslash.
        let is_break = |c: char| !quoted && matches!(c, ':' | '=') && breaks.contains(c);
        let kept = typed.rfind(is_break).map_or("", |at| &typed[..=at]);
        let at = words.len().saturating_sub(1);
        let words = words.iter().map(OsString::from).collect();
        for candidate in candidates(command, words, at, here)? {
            let value = candidate.get_value().to_str();
            // Options are for who begins to type one, as docker has it.
            let value = value.filter(|value| !value.starts_with('-') || typed.starts_with('-'));
            // Bash puts it in the place of what follows the last break.
            if let Some(rest) = value.and_then(|value| value.strip_prefix(kept)) {
                let rest = if quoted { rest.into() } else { escaped(rest) };
                writeln!(out, "{rest}")?;
            }
        }
        Ok(())
    }
}

/// The words of a line, of which the last is being typed, and whether that one is in quotes.
fn split(line: &str) -> Option<(Vec<String>, bool)> {
    // What is typed ends with the line, also where it is nothing yet.
    const END: char = '\u{1}';
    for close in ["", "\"", "'"] {
        let Some(mut words) = shlex::split(&format!("{line}{END}{close}")) else {
            continue;
        };
        let last = words.last_mut()?;
        let typed = last.strip_suffix(END)?.to_owned();
        *last = typed;
        return Some((words, !close.is_empty()));
    }
    None
}

/// A word as it is typed in bash.
fn escaped(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-:=@,+%~".contains(c);
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        if !plain(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_arguments_that_are_completed_exist_and_keep_their_place() {
        let place = |command: clap::Command, name: &str, argument: &str| {
            let mut sub = command.find_subcommand(name).unwrap().clone();
            sub.build();
            let images = sub.get_arguments().find(|arg| arg.get_id() == argument);
            images.and_then(Arg::get_index)
        };
        let mut all = command(&[]);
        all.build();
        all.debug_assert();
        for (name, argument) in IMAGES {
            let found = place(command(&[]), name, argument);
            assert!(found.is_some(), "{name}");
            assert_eq!(found, place(Cli::command(), name, argument), "{name}");
        }
    }

    #[test]
    fn lines_are_taken_apart_as_typed() {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        for (line, want) in [
            (
                "kiln rmi a:b c",
                Some((words(&["kiln", "rmi", "a:b", "c"]), false)),
            ),
            ("kiln rmi ", Some((words(&["kiln", "rmi", ""]), false))),
            (
                "kiln  rmi 'a b",
                Some((words(&["kiln", "rmi", "a b"]), true)),
            ),
            ("kiln \"a'b", Some((words(&["kiln", "a'b"]), true))),
            ("kiln a\\ b", Some((words(&["kiln", "a b"]), false))),
            ("kiln # x", None),
        ] {
            assert_eq!(split(line), want, "{line}");
        }
    }
}
