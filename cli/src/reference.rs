//! docs/cli: a page for each command, made from the definitions of the command line.
//!
//! `cargo xtask docs` writes the pages anew; the test fails where they are not what the definitions say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use crate::args::Cli;

/// What stands under the title of each page.
const MADE: &str =
    "<!-- `cargo xtask docs` makes this page from the definitions of the command line. -->";

/// The page of all commands.
const INDEX: &str = "README.md";

/// The heading of the options that every command takes: they are described once.
const GLOBAL: &str = "Options of every command";

/// All pages, by their files' names.
fn pages() -> BTreeMap<String, String> {
    let mut top = Cli::command();
    top.build();
    let mut pages = BTreeMap::new();
    let mut index = head("kiln", &top);
    index.push_str("## Commands\n\n| command | what it does |\n|---|---|\n");
    add(&top, "kiln", &mut pages, &mut index);
    index.push('\n');
    index.push_str(&options(&top, |_| true));
    index.push_str(&after(&top));
    pages.insert(INDEX.to_owned(), index);
    pages
}

/// Adds the pages of the commands below one, and their rows of the index.
fn add(above: &Command, name: &str, pages: &mut BTreeMap<String, String>, index: &mut String) {
    let shown = |c: &&Command| !c.is_hide_set() && c.get_name() != "help";
    for command in above.get_subcommands().filter(shown) {
        let name = format!("{name} {}", command.get_name());
        let file = format!("{}.md", name.replace(' ', "-"));
        let about = command.get_about().map(ToString::to_string);
        let about = cell(&about.unwrap_or_default());
        let is_group = command.get_subcommands().any(|c| c.get_name() != "help");
        // A group has no page: its commands have.
        let entry = match is_group {
            true => format!("`{name}`"),
            false => format!("[`{name}`]({file})"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(index, "| {entry} | {about} |");
        if is_group {
            add(command, &name, pages, index);
        } else {
            let mut page = head(&name, command);
            page.push_str(&arguments(command));
            page.push_str(&options(command, |heading| heading != GLOBAL));
            let _ = writeln!(page, "\n[{GLOBAL}]({INDEX}#options-of-every-command)");
            page.push_str(&after(command));
            pages.insert(file, page);
        }
    }
}

/// Title, description and usage.
fn head(name: &str, command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    format!("# {name}\n\n{MADE}\n\n{about}\n\n```text\n{usage}\n```\n\n")
}

fn arguments(command: &Command) -> String {
    let shown = command.get_positionals().filter(|arg| !arg.is_hide_set());
    let rows: Vec<String> = shown
        .map(|arg| format!("| `{}` | {} |\n", bar(&arg.to_string()), meaning(arg)))
        .collect();
    match rows.is_empty() {
        true => String::new(),
        false => format!("| argument | meaning |\n|---|---|\n{}\n", rows.concat()),
    }
}

/// A table for each heading that is wanted.
fn options(command: &Command, wanted: impl Fn(&str) -> bool) -> String {
    let mut tables: BTreeMap<(bool, &str), String> = BTreeMap::new();
    let shown = |arg: &&Arg| !arg.is_positional() && !arg.is_hide_set() && arg.get_id() != "help";
    for arg in command.get_arguments().filter(shown) {
        let heading = arg.get_help_heading().unwrap_or("Options");
        let table = tables.entry((heading == GLOBAL, heading)).or_default();
        let _ = writeln!(table, "| {} | {} |", names(arg), meaning(arg));
    }
    let tables = tables
        .into_iter()
        .filter(|((_, heading), _)| wanted(heading));
    let tables = tables.map(|((_, heading), rows)| {
        format!("\n## {heading}\n\n| option | meaning |\n|---|---|\n{rows}")
    });
    tables.collect::<String>().trim_start().to_owned()
}

/// `-t`, `--tag NAME`.
fn names(arg: &Arg) -> String {
    let value = match arg.get_action() {
        ArgAction::Set | ArgAction::Append => {
            let names = arg.get_value_names().unwrap_or_default();
            let names: Vec<&str> = names.iter().map(clap::builder::Str::as_str).collect();
            let names = names.join(" ");
            let optional = arg.get_num_args().is_some_and(|n| n.min_values() == 0);
            match (names.is_empty(), optional) {
                (true, _) => String::new(),
                (false, true) => format!("[={names}]"),
                (false, false) => format!(" {names}"),
            }
        }
        _ => String::new(),
    };
    let short = arg.get_short().map(|c| format!("-{c}"));
    let long = arg.get_long().map(|name| format!("--{name}"));
    let mut all: Vec<String> = short.into_iter().chain(long).collect();
    if let Some(last) = all.last_mut() {
        last.push_str(&value);
    }
    let all: Vec<String> = all.iter().map(|name| format!("`{}`", bar(name))).collect();
    all.join(", ")
}

/// The help, and what of values is not in it.
fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    let mut text = cell(&help.map(ToString::to_string).unwrap_or_default());
    let code = |words: Vec<String>| {
        let words: Vec<String> = words
            .iter()
            .map(|word| format!("`{}`", bar(word)))
            .collect();
        words.join(", ")
    };
    let values = arg.get_possible_values();
    let values = values.iter().filter(|value| !value.is_hide_set());
    let values: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
    let has_values = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    if has_values && !values.is_empty() && !arg.is_hide_possible_values_set() {
        let _ = write!(text, "; one of {}", code(values));
    }
    let defaults = arg.get_default_values().iter();
    let defaults: Vec<String> = defaults
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    if has_values && !defaults.is_empty() && !arg.is_hide_default_value_set() {
        let _ = write!(text, "; default {}", code(defaults));
    }
    text
}

fn after(command: &Command) -> String {
    match command.get_after_long_help().or(command.get_after_help()) {
        Some(text) => format!("\n```text\n{}\n```\n", text.to_string().trim_end()),
        None => String::new(),
    }
}

/// A text as it stands in a table.
fn cell(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = bar(&words.join(" "));
    // Markdown takes no heed of angle brackets in code.
    let parts = text.split('`').enumerate();
    let parts: Vec<String> = parts
        .map(|(n, part)| match n % 2 {
            0 => part.replace('<', "&lt;"),
            _ => part.to_owned(),
        })
        .collect();
    parts.join("`")
}

/// A bar would end the cell, in code too.
fn bar(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn the_pages_of_the_commands_are_what_the_command_line_says() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/cli");
    let pages = pages();
    for (name, text) in &pages {
        kiln_testkit::golden::check(&folder.join(name), text);
    }
    let there: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let of_no_command: Vec<&String> = there
        .iter()
        .filter(|name| !pages.contains_key(*name))
        .collect();
    assert!(of_no_command.is_empty(), "{of_no_command:?}");
}

#[test]
fn a_cell_is_one_line_and_ends_where_it_ends() {
    for (text, shown) in [
        ("a\n  b", "a b"),
        ("a|b", "a\\|b"),
        ("<a> `<b>`", "&lt;a> `<b>`"),
        ("`a|b`", "`a\\|b`"),
    ] {
        assert_eq!(cell(text), shown, "{text}");
    }
}
