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
    let mut command = &all;
    for word in words {
        if let Some(inner) = command.find_subcommand(word) {
            command = inner;
        }
    }
    let usage = command.clone().render_usage();
    error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn usage_is_that_of_the_command_that_was_called() {
        for (line, want) in [
            ("build --tag .", "Usage: kiln build [OPTIONS] <CONTEXT>"),
            (
                "--root x build --nosuch .",
                "Usage: kiln build [OPTIONS] <CONTEXT>",
            ),
            ("tag a", "Usage: kiln tag [OPTIONS] <SOURCE> <TARGET>"),
            ("cache rm --nosuch", "Usage: kiln cache rm [OPTIONS] "),
            ("run", "Usage: kiln run [OPTIONS] <IMAGE> [COMMAND]..."),
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
