//! The syntax tree in lines that people can read.

use std::fmt::Write as _;

use kiln_parser::{
    Command, Dockerfile, Form, Healthcheck, Heredoc, Instruction, KeyValue, Kind, LineIndex,
    SourceArg, Text,
};

/// Directives and instructions with their lines, flags and arguments; then the diagnostics.
#[must_use]
pub fn parsed_form(source: &str) -> Vec<String> {
    let parsed = kiln_parser::parse(source);
    let index = LineIndex::new(source);
    let mut lines = directives(&parsed.dockerfile);
    for instruction in &parsed.dockerfile.instructions {
        let span = instruction.span;
        let (first, last) = (
            index.line(span.start),
            index.line(span.end.max(span.start + 1) - 1),
        );
        let mut line = format!("{first}-{last} ");
        write_instruction(&mut line, instruction);
        lines.push(line);
    }
    for found in &parsed.diagnostics {
        let at = index.line(found.span.start);
        lines.push(format!("{:?} at {at}: {}", found.severity, found.message));
    }
    lines
}

fn directives(file: &Dockerfile) -> Vec<String> {
    let mut lines = Vec::new();
    let directives = &file.directives;
    if directives.escape != '\\' {
        lines.push(format!("escape {}", directives.escape));
    }
    for (name, value) in [("syntax", &directives.syntax), ("check", &directives.check)] {
        if let Some(value) = value {
            lines.push(format!("{name} {:?}", value.value));
        }
    }
    lines
}

fn write_instruction(out: &mut String, instruction: &Instruction) {
    out.push_str(&instruction.keyword.value);
    for flag in &instruction.flags {
        let _ = write!(out, " --{}", flag.name.value);
        if let Some(value) = &flag.value {
            let _ = write!(out, "={:?}", value.value);
        }
    }
    let texts = |out: &mut String, list: &[Text]| {
        for text in list {
            let _ = write!(out, " {:?}", text.value);
        }
    };
    match &instruction.kind {
        Kind::From { image, alias, .. } => {
            let _ = write!(out, " {:?}", image.value);
            if let Some(alias) = alias {
                let _ = write!(out, " as {:?}", alias.value);
            }
        }
        Kind::Run(command) | Kind::Cmd(command) | Kind::Entrypoint(command) => {
            write_command(out, command);
        }
        Kind::Healthcheck(Healthcheck::Cmd(command)) => {
            out.push_str(" CMD");
            write_command(out, command);
        }
        Kind::Healthcheck(Healthcheck::None) => out.push_str(" NONE"),
        Kind::Shell(words) | Kind::Expose(words) | Kind::Volume(words) => texts(out, words),
        Kind::Label(pairs) | Kind::Env(pairs) => {
            for KeyValue { key, value, legacy } in pairs {
                let sign = if *legacy { ' ' } else { '=' };
                let _ = write!(out, " {:?}{sign}{:?}", key.value, value.value);
            }
        }
        Kind::Arg(list) => {
            for arg in list {
                let _ = write!(out, " {:?}", arg.name.value);
                if let Some(default) = &arg.default {
                    let _ = write!(out, "={:?}", default.value);
                }
            }
        }
        Kind::Maintainer(text)
        | Kind::User(text)
        | Kind::Workdir(text)
        | Kind::Stopsignal(text) => {
            let _ = write!(out, " {:?}", text.value);
        }
        Kind::Copy(transfer) | Kind::Add(transfer) => {
            for source in &transfer.sources {
                match source {
                    SourceArg::Path(path) => texts(out, std::slice::from_ref(path)),
                    SourceArg::Heredoc(document) => write_document(out, document),
                }
            }
            let _ = write!(out, " to {:?}", transfer.dest.value);
        }
        Kind::Onbuild { instruction } => {
            out.push(' ');
            write_instruction(out, instruction);
        }
    }
}

fn write_command(out: &mut String, command: &Command) {
    match &command.form {
        Form::Exec(words) => {
            out.push_str(" exec");
            for word in words {
                let _ = write!(out, " {:?}", word.value);
            }
        }
        Form::Shell(text) => {
            let _ = write!(out, " shell {:?}", text.value);
        }
    }
    for document in &command.heredocs {
        write_document(out, document);
    }
}

fn write_document(out: &mut String, document: &Heredoc) {
    let _ = write!(
        out,
        " <<{}{}",
        document.fd,
        if document.strip_tabs { "-" } else { "" }
    );
    let quote = if document.expand { "" } else { "'" };
    let _ = write!(
        out,
        "{quote}{}{quote} {:?}",
        document.name, document.content.value
    );
}
