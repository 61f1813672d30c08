//! The whole file: directives, comments, logical lines, and the order of instructions.

#[cfg(test)]
mod tests;

use crate::ast::{Dockerfile, Instruction, Kind};
use crate::diagnostic::{Diagnostic, Severity};
use crate::directive::Reader;
use crate::instruction::{Builder, KEYWORDS};
use crate::lines::{Lines, Logical, offset_in};
use crate::span::{Span, Spanned, Text};
use crate::{Parsed, words};

/// Parses a file.
pub(crate) fn file(source: &str) -> Parsed {
    let mut read = read(source, Reader::default());
    check_order(&mut read, source);
    let Read {
        reader,
        statements,
        mut diagnostics,
    } = read;
    diagnostics.sort_by_key(|d| d.span.start);
    let instructions = statements
        .into_iter()
        .filter_map(|s| s.instruction)
        .collect();
    Parsed {
        dockerfile: Dockerfile {
            directives: reader.directives,
            instructions,
        },
        diagnostics,
    }
}

/// Parses text that must hold one instruction.
pub(crate) fn single(text: &str, escape: char) -> (Option<Instruction>, Vec<Diagnostic>) {
    let Read {
        statements,
        mut diagnostics,
        ..
    } = read(text, Reader::closed(escape));
    let mut statements = statements.into_iter();
    let first = statements.next();
    if first.is_none() {
        diagnostics.push(Diagnostic::error(
            "empty",
            "the text holds no instruction",
            Span::new(0, text.len()),
        ));
    }
    if let Some(second) = statements.next() {
        diagnostics.push(Diagnostic::error(
            "several-instructions",
            "the text holds more than one instruction",
            second.span,
        ));
    }
    let good = diagnostics.iter().all(|d| d.severity != Severity::Error);
    (
        first.and_then(|s| s.instruction).filter(|_| good),
        diagnostics,
    )
}

/// One instruction as it stands in the file, whether it is good or not.
struct Statement {
    keyword: String,
    span: Span,
    instruction: Option<Instruction>,
}

struct Read {
    reader: Reader,
    statements: Vec<Statement>,
    diagnostics: Vec<Diagnostic>,
}

fn read(source: &str, mut reader: Reader) -> Read {
    let mut lines = Lines::new(source);
    let mut diagnostics = Vec::new();
    let mut statements = Vec::new();
    let mut comments: Vec<Text> = Vec::new();
    while let Some(line) = lines.next() {
        if reader.take(&line, &mut diagnostics) {
            continue;
        }
        let body = line.body();
        let content = body.trim_start();
        let start = line.start + offset_in(body, content);
        if let Some(comment) = content.strip_prefix('#') {
            let comment = comment.trim();
            let at = line.start + offset_in(body, comment);
            comments.push(Spanned::new(
                comment.to_owned(),
                Span::new(at, at + comment.len()),
            ));
            continue;
        }
        if content.is_empty() {
            comments.clear();
            continue;
        }
        let escape = reader.directives.escape;
        let logical = Logical::read(&mut lines, content, start, escape, &mut diagnostics);
        let mut builder = Builder {
            logical: &logical,
            lines: &mut lines,
            escape,
            diagnostics: &mut diagnostics,
        };
        let mut instruction = builder.build();
        let span = Span::new(start, lines.last_end());
        let comments = std::mem::take(&mut comments);
        if let Some(instruction) = &mut instruction {
            set_end(instruction, start, span.end);
            instruction.comments = comments;
        }
        let (keyword, _) = words::keyword(&logical.text);
        let shown = logical.span(keyword);
        statements.push(Statement {
            keyword: keyword
                .chars()
                .take(40)
                .collect::<String>()
                .to_ascii_uppercase(),
            span: shown,
            instruction,
        });
    }
    Read {
        reader,
        statements,
        diagnostics,
    }
}

/// An instruction reaches to the end of its last line, with its heredocs.
fn set_end(instruction: &mut Instruction, start: usize, end: usize) {
    instruction.span = Span::new(start, end);
    if let Kind::Onbuild { instruction: inner } = &mut instruction.kind {
        inner.span = Span::new(inner.span.start, end);
    }
}

/// Drops what stands before the first `FROM` and is no `ARG`, and reports it once.
fn check_order(read: &mut Read, source: &str) {
    if read.statements.is_empty() {
        if read
            .diagnostics
            .iter()
            .all(|d| d.severity != Severity::Error)
        {
            let span = Span::new(0, source.len());
            read.diagnostics.push(
                Diagnostic::error("empty-file", "the file holds no instructions", span)
                    .with_help("begin with `FROM image`"),
            );
        }
        return;
    }
    let first = read.statements.iter().position(|s| s.keyword == "FROM");
    let head = first.unwrap_or(read.statements.len());
    // A misspelt keyword may have been meant as `FROM`.
    let known = |s: &Statement| KEYWORDS.contains(&s.keyword.as_str());
    let mut reported = !read.statements.iter().take(head).all(known);
    for statement in read.statements.iter_mut().take(head) {
        if statement.keyword == "ARG" {
            continue;
        }
        // An instruction with errors of its own has been reported already.
        if statement.instruction.take().is_some() && !reported {
            reported = true;
            read.diagnostics.push(
                Diagnostic::error(
                    "no-stage",
                    format!("`{}` stands before the first `FROM`", statement.keyword),
                    statement.span,
                )
                .with_help("only `ARG` may stand there"),
            );
        }
    }
    let only_args = read.statements.iter().all(|s| s.keyword == "ARG");
    if let (None, true, Some(last)) = (first, only_args, read.statements.last()) {
        read.diagnostics.push(
            Diagnostic::error("no-stage", "the file holds no `FROM`", last.span)
                .with_help("add `FROM image`"),
        );
    }
}
