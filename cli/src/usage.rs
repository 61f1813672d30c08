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
    // To pass an option as a value is never what was meant.
    error.remove(ContextKind::Suggested);
    error.remove(ContextKind::SuggestedArg);
    if let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidArg)
        && let Some(found) = nearest_option(command, wrong)
    {
        error.insert(ContextKind::SuggestedArg, ContextValue::String(found));
    }
    let usage = command.clone().render_usage();
    error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
}

/// The long option of `command` that was probably meant; clap takes words for near that have little in
/// common.
fn nearest_option(command: &clap::Command, wrong: &str) -> Option<String> {
    let wrong = wrong.strip_prefix("--")?.split('=').next()?;
    let shown = command.get_arguments().filter(|a| !a.is_hide_set());
    let names: Vec<&str> = shown.filter_map(clap::Arg::get_long).collect();
    // Of a long word the first part says enough.
    let begins = |name: &&str| wrong.len() > 2 && name.starts_with(wrong);
    let begun: Vec<&str> = names.iter().copied().filter(begins).collect();
    let found = match begun.as_slice() {
        [only] => Some(*only),
        // Hardly anybody mistypes the first letter, and short words are near to many.
        _ => kiln_parser::nearest(wrong, &names)
            .filter(|name| name.as_bytes().first() == wrong.as_bytes().first()),
    };
    found.map(|name| format!("--{name}"))
}

/// The help that is asked for in words that clap does not know: `kiln help --help`.
pub(crate) fn asked_help(error: &clap::Error, words: &[String]) -> Option<String> {
    let invalid = match error.get(ContextKind::InvalidSubcommand)? {
        ContextValue::String(word) if matches!(word.as_str(), "-h" | "--help") => word,
        _ => return None,
    };
    let mut all = Cli::command();
    all.build();
    let path = called(&all, words, Some(invalid));
    let help = path
        .iter()
        .position(|command| command.get_name() == "help")?;
    let (above, below) = path.split_at(help);
    let mut command = above.last().map_or(&all, |command| *command);
    for name in below.iter().skip(1).map(|command| command.get_name()) {
        command = command.find_subcommand(name)?;
    }
    let mut command = command.clone();
    Some(command.render_long_help().to_string().trim_end().to_owned())
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
            ("build --lod .", "a similar argument exists: '--load'"),
            (
                "build --no-cach .",
                "a similar argument exists: '--no-cache'",
            ),
            (
                "build --metadata f .",
                "a similar argument exists: '--metadata-file'",
            ),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let all = std::iter::once("kiln".to_owned()).chain(words.clone());
            let mut error = Cli::try_parse_from(all).unwrap_err();
            usual(&mut error, &words);
            let text = error.to_string();
            assert!(text.contains(want), "{line}: {text}");
        }
    }
    #[test]
    fn tips_name_what_was_meant_or_nothing() {
        for line in [
            "build --cpus 2 .",
            "build --cpus=2 .",
            "build --foo .",
            "build -x .",
            "build --memory-reservation 1g .",
            "build --env-file x .",
            "run --foo",
            "run --foo busybox",
            "run -z busybox",
            "images --foo",
            "prune --older 1h",
            "--foo",
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let all = std::iter::once("kiln".to_owned()).chain(words.clone());
            let mut error = Cli::try_parse_from(all).unwrap_err();
            usual(&mut error, &words);
            let text = error.to_string();
            assert!(!text.contains("tip:"), "{line}: {text}");
            assert!(text.contains("unexpected argument"), "{line}: {text}");
        }
    }

    #[test]
    fn help_is_given_however_it_is_asked_for() {
        for (line, want) in [
            ("help --help", "Usage: kiln [OPTIONS] <COMMAND>"),
            ("help -h", "Usage: kiln [OPTIONS] <COMMAND>"),
            ("--debug help --help", "Usage: kiln [OPTIONS] <COMMAND>"),
            ("cache help --help", "Usage: kiln cache [OPTIONS] <COMMAND>"),
            ("help build --help", "Usage: kiln build [OPTIONS] <CONTEXT>"),
            ("help cache ls -h", "Usage: kiln cache ls [OPTIONS]"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let all = std::iter::once("kiln".to_owned()).chain(words.clone());
            let error = Cli::try_parse_from(all).unwrap_err();
            let help = asked_help(&error, &words).unwrap();
            assert!(help.contains(want), "{line}: {help}");
        }
        let words = ["help".to_owned(), "nosuch".to_owned()];
        let error = Cli::try_parse_from(["kiln", "help", "nosuch"]).unwrap_err();
        assert_eq!(asked_help(&error, &words), None);
    }
}
