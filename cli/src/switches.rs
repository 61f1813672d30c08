//! `--no-cache=true`: values of switches, as Docker's command line takes them.

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory as _, FromArgMatches as _};

use crate::args::Cli;

/// Reads a command line again that clap refused with `error`, if that was for the value of a switch.
///
/// # Errors
/// It was not, or there is more that is wrong.
pub(crate) fn with_values(
    error: clap::Error,
    words: &[std::ffi::OsString],
) -> Result<Cli, clap::Error> {
    if error.kind() != ErrorKind::TooManyValues {
        return Err(error);
    }
    let matches = taking_values(Cli::command()).try_get_matches_from(words)?;
    Cli::from_arg_matches(&matches)
}

/// The command with switches that may have a value.
fn taking_values(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .value_parser(clap::builder::BoolishValueParser::new())
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false"),
            _ => arg,
        })
        .mut_subcommands(taking_values)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Command;

    fn read(line: &str) -> Option<Cli> {
        let words: Vec<std::ffi::OsString> = line.split(' ').map(Into::into).collect();
        let parsed = Cli::try_parse_from(&words);
        parsed.or_else(|error| with_values(error, &words)).ok()
    }

    #[test]
    fn switches_take_the_values_that_docker_takes() {
        for (line, quiet) in [
            ("kiln build --quiet .", true),
            ("kiln build --quiet=true .", true),
            ("kiln build --quiet=1 --pull=false .", true),
            ("kiln build --quiet=false --no-cache .", false),
            ("kiln build --pull=true .", false),
        ] {
            match read(line).map(|cli| cli.command) {
                Some(Command::Build(args)) => assert_eq!(args.is_quiet(), quiet, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        for line in [
            "kiln build --quiet=maybe .",
            "kiln build --quiet=true --nosuch .",
            "kiln build --quiet=true",
            "kiln --debug=what images",
        ] {
            assert!(read(line).is_none(), "{line}");
        }
        // What follows the image is the container's.
        let run = read("kiln run --rm=true busybox test --rm=false");
        assert!(matches!(run.map(|c| c.command), Some(Command::Run(_))));
    }
}
