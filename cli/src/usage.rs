//! The usage line of a command line that was refused.

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue};

use crate::args::Cli;

/// Puts the usual usage line of the command that `words` call into `error`: clap's own shows options
/// that come from the environment as if they had to be given.
pub(crate) fn usual(error: &mut clap::Error, words: &[String]) {
    if error.get(ContextKind::Usage).is_none() {
        return;
    }
    let mut all = Cli::command();
    all.build();
    let invalid = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) => Some(word.clone()),
        _ => None,
    };
    let command = *called(&all, words, invalid.as_deref())
        .last()
        .unwrap_or(&&all);
    if let Some(found) = invalid.and_then(|word| nearest_command(command, &word)) {
        let found = ContextValue::Strings(vec![found]);
        error.insert(ContextKind::SuggestedSubcommand, found);
    }
    let usage = command.clone().render_usage();
    error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
}

/// The help of the command that `words` call.
pub(crate) fn help(words: &[String]) -> String {
    let mut all = Cli::command();
    all.build();
    let mut command = match called(&all, words, None).last() {
        Some(command) => (*command).clone(),
        None => all,
    };
    command.render_help().to_string().trim_end().to_owned()
}

/// The commands below `all` that `words` call, one below the other, behind options of every command;
/// what stands behind a word that is no command, `invalid`, belongs to none.
pub(crate) fn called<'a>(
    all: &'a clap::Command,
    words: &[String],
    invalid: Option<&str>,
) -> Vec<&'a clap::Command> {
    let (mut at, mut path) = (all, Vec::new());
    for word in words.iter().take_while(|w| Some(w.as_str()) != invalid) {
        if let Some(inner) = at.find_subcommand(word) {
            path.push(inner);
            at = inner;
        }
    }
    path
}

/// The one command below `command` that was probably meant; clap names several.
fn nearest_command(command: &clap::Command, word: &str) -> Option<String> {
    let (hidden, shown): (Vec<_>, Vec<_>) =
        command.get_subcommands().partition(|c| c.is_hide_set());
    let names: Vec<&str> = shown.iter().chain(&hidden).map(|c| c.get_name()).collect();
    kiln_parser::nearest(word, &names).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn usage_is_that_of_the_command_that_was_called_or_meant() {
        for (line, want) in [
            ("build --tag .", "Usage: kiln build [OPTIONS] <CONTEXT>"),
            (
                "--root x build --nosuch .",
                "Usage: kiln build [OPTIONS] <CONTEXT>",
            ),
            ("tag a", "Usage: kiln tag [OPTIONS] <SOURCE> <TARGET>"),
            ("cache rm --nosuch", "Usage: kiln cache rm [OPTIONS] "),
            ("images prune --nosuch", "Usage: kiln images [OPTIONS] "),
            ("imgae prune", "Usage: kiln [OPTIONS] <COMMAND>"),
            ("image prune --nosuch", "Usage: kiln image prune [OPTIONS]"),
            ("run", "Usage: kiln run [OPTIONS] <IMAGE> [COMMAND]..."),
            ("system prine", "similar subcommand exists: 'prune'"),
            ("biuld .", "similar subcommand exists: 'build'"),
            ("imagse", "similar subcommand exists: 'images'"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let all = std::iter::once("kiln".to_owned()).chain(words.clone());
            let mut error = Cli::try_parse_from(all).unwrap_err();
            usual(&mut error, &words);
            let text = error.to_string();
            assert!(text.contains(want), "{line}: {text}");
        }
    }
}
