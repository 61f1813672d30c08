//! `kiln completions` and `kiln man`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::args::Cli;
use crate::completion;
use crate::errors::Failure;
use crate::ui;

/// Print a shell's completion script
///
/// It asks kiln for what can come next, and so completes names of images of the store, too. A script
/// belongs to the kiln that printed it: print it again for another version.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(kiln completions bash)
  kiln completions bash > /etc/bash_completion.d/kiln
  kiln completions bash --name docker
  kiln completions fish > ~/.config/fish/completions/kiln.fish")]
pub(crate) struct Args {
    /// Shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
    /// Name that kiln is called by: that of an alias or a link
    #[arg(long, value_name = "NAME", default_value = "kiln", value_parser = name)]
    name: String,
}

/// A word that a shell takes for the name of a command.
fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match !text.is_empty() && !text.starts_with('-') && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("a name has letters, digits and `_-.`".into()),
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let script = completion::script(&args.shell.to_string(), &args.name)?;
    ui::file(String::from_utf8_lossy(&script).trim_end());
    Ok(ExitCode::SUCCESS)
}

/// Write the manual pages into a directory
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Directory, made if need be
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes one page for the command and one for each of its commands.
pub(crate) fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    let bad = |e: std::io::Error| {
        Failure::new(format!(
            "cannot write to `{}`: {e}",
            args.directory.display()
        ))
    };
    std::fs::create_dir_all(&args.directory).map_err(bad)?;
    let mut top = Cli::command();
    top.build();
    let page = |command: clap::Command, name: String| {
        let mut text = Vec::new();
        clap_mangen::Man::new(command)
            .title(name.to_uppercase())
            .render(&mut text)?;
        std::fs::write(args.directory.join(format!("{name}.1")), text)
    };
    for sub in top
        .get_subcommands()
        .filter(|s| !s.is_hide_set() && s.get_name() != "help")
    {
        let name = format!("kiln-{}", sub.get_name());
        let command = sub
            .clone()
            .name(name.clone())
            .bin_name(format!("kiln {}", sub.get_name()));
        page(command, name).map_err(bad)?;
    }
    page(top, "kiln".into()).map_err(bad)?;
    Ok(ExitCode::SUCCESS)
}
