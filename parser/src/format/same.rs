//! Whether two files mean the same.

use super::shell;
use crate::ast::{
    Command, Dockerfile, Form, Healthcheck, Heredoc, Instruction, Kind, SourceArg, Transfer,
};
use crate::span::{Span, Text};

/// All but white space, with no regard to case: what formatting never changes.
pub(super) fn ink(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_ascii_lowercase())
}

/// Whether two trees differ in nothing but places, the case of keywords, and the number of blanks
/// between words of shell commands.
pub(super) fn same(one: &Dockerfile, other: &Dockerfile) -> bool {
    let is_shell = shell::is_known(one);
    is_shell == shell::is_known(other) && plain(one, is_shell) == plain(other, is_shell)
}

/// The tree without what may differ.
fn plain(dockerfile: &Dockerfile, is_shell: bool) -> Dockerfile {
    let mut plain = dockerfile.clone();
    let directives = &mut plain.directives;
    texts(directives.syntax.iter_mut().chain(&mut directives.check));
    for one in &mut plain.instructions {
        instruction(one, is_shell);
    }
    plain
}

fn text(text: &mut Text) {
    text.span = Span::new(0, 0);
}

fn texts<'a>(all: impl IntoIterator<Item = &'a mut Text>) {
    all.into_iter().for_each(text);
}

fn instruction(one: &mut Instruction, is_shell: bool) {
    one.span = Span::new(0, 0);
    // Everything of it is in the other fields.
    one.text.clear();
    text(&mut one.keyword);
    one.keyword.value.make_ascii_uppercase();
    texts(&mut one.comments);
    for flag in &mut one.flags {
        flag.span = Span::new(0, 0);
        text(&mut flag.name);
        texts(&mut flag.value);
    }
    match &mut one.kind {
        Kind::From {
            image,
            as_word,
            alias,
        } => {
            // Its case means nothing.
            *as_word = None;
            text(image);
            texts(alias);
        }
        Kind::Run(c)
        | Kind::Cmd(c)
        | Kind::Entrypoint(c)
        | Kind::Healthcheck(Healthcheck::Cmd(c)) => command(c, is_shell),
        Kind::Shell(list) | Kind::Expose(list) | Kind::Volume(list) => texts(list),
        Kind::Label(pairs) | Kind::Env(pairs) => {
            for pair in pairs {
                text(&mut pair.key);
                text(&mut pair.value);
            }
        }
        Kind::Arg(list) => {
            for arg in list {
                text(&mut arg.name);
                texts(&mut arg.default);
            }
        }
        Kind::Maintainer(value)
        | Kind::User(value)
        | Kind::Workdir(value)
        | Kind::Stopsignal(value) => text(value),
        Kind::Copy(list) | Kind::Add(list) => transfer(list),
        Kind::Onbuild { instruction: inner } => instruction(inner, is_shell),
        Kind::Healthcheck(Healthcheck::None) => {}
    }
}

fn command(command: &mut Command, is_shell: bool) {
    match &mut command.form {
        Form::Exec(list) => texts(list),
        Form::Shell(line) => {
            text(line);
            if is_shell {
                line.value = with_single_blanks(&line.value);
            }
        }
    }
    command.heredocs.iter_mut().for_each(heredoc);
}

fn with_single_blanks(command: &str) -> String {
    let mut out = String::with_capacity(command.len());
    let mut done = 0;
    for blanks in shell::separators(command) {
        out.push_str(command.get(done..blanks.start).unwrap_or(""));
        out.push(' ');
        done = blanks.end;
    }
    out.push_str(command.get(done..).unwrap_or(""));
    out
}

fn transfer(transfer: &mut Transfer) {
    for source in &mut transfer.sources {
        match source {
            SourceArg::Path(path) => text(path),
            SourceArg::Heredoc(doc) => heredoc(doc),
        }
    }
    text(&mut transfer.dest);
}

fn heredoc(doc: &mut Heredoc) {
    text(&mut doc.content);
}
