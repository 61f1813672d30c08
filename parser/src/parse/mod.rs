//! The whole file: directives, comments, logical lines, and the order of instructions.

#[cfg(test)]
mod tests;

use crate::Parsed;
use crate::ast::{Directives, Dockerfile, Instruction, Kind};
use crate::diagnostic::{Diagnostic, Findings, Severity};
use crate::directive::Reader;
use crate::instruction::{Builder, Built};
use crate::lines::{Lines, Logical, offset_in};
use crate::span::{Span, Spanned, Text};

/// Parses a file.
pub(crate) fn file(source: &str) -> Parsed {
    let mut statements = Statements::new(source, Reader::default());
    let mut head = Some(Head::default());
    let mut instructions = Vec::new();
    while let Some(statement) = statements.next() {
        if statement.keyword == Some("FROM")
            && let Some(head) = head.take()
        {
            head.report(&mut statements.findings, true);
        }
        let kept = head.as_mut().is_none_or(|head| head.keeps(&statement));
        instructions.extend(statement.instruction.filter(|_| kept));
    }
    let (directives, mut findings) = statements.finish();
    match head {
        Some(head) if head.last.is_some() => head.report(&mut findings, false),
        Some(_) if findings.errors() == 0 => findings.error(|| {
            let span = Span::new(0, source.len());
            Diagnostic::error("empty-file", "the file holds no instructions", span)
                .with_help("begin with `FROM image`")
        }),
        _ => {}
    }
    Parsed {
        dockerfile: Dockerfile {
            directives,
            instructions,
        },
        diagnostics: findings.into_sorted(),
    }
}

/// Parses text that must hold one instruction.
pub(crate) fn single(text: &str, escape: char) -> (Option<Instruction>, Vec<Diagnostic>) {
    let mut statements = Statements::new(text, Reader::closed(escape));
    let first = statements.next();
    let second = statements.next();
    while statements.next().is_some() {}
    let (_, mut findings) = statements.finish();
    if first.is_none() {
        let span = Span::new(0, text.len());
        findings.error(|| Diagnostic::error("empty", "the text holds no instruction", span));
    }
    if let Some(second) = second {
        findings.error(|| {
            Diagnostic::error(
                "several-instructions",
                "the text holds more than one instruction",
                second.at,
            )
        });
    }
    let diagnostics = findings.into_sorted();
    let good = diagnostics.iter().all(|d| d.severity != Severity::Error);
    (
        first.and_then(|s| s.instruction).filter(|_| good),
        diagnostics,
    )
}

/// One instruction as it stands in the file, whether it is good or not.
struct Statement {
    /// In capitals; none when there is no such keyword.
    keyword: Option<&'static str>,
    /// Where the keyword is.
    at: Span,
    instruction: Option<Instruction>,
}

/// A cursor over the statements of a source.
struct Statements<'a> {
    lines: Lines<'a>,
    reader: Reader,
    findings: Findings,
    /// The comment lines since the last statement or blank line.
    comments: Vec<Text>,
}

impl<'a> Statements<'a> {
    fn new(source: &'a str, reader: Reader) -> Self {
        Self {
            lines: Lines::new(source),
            reader,
            findings: Findings::default(),
            comments: Vec::new(),
        }
    }

    fn next(&mut self) -> Option<Statement> {
        while let Some(line) = self.lines.next() {
            if self.reader.take(&line, &mut self.findings) {
                continue;
            }
            let content = line.body.trim_start();
            let start = line.start + offset_in(line.body, content);
            if let Some(comment) = content.strip_prefix('#') {
                let comment = comment.trim();
                let at = line.start + offset_in(line.body, comment);
                self.comments.push(Spanned::new(
                    comment.to_owned(),
                    Span::new(at, at + comment.len()),
                ));
            } else if content.is_empty() {
                self.comments.clear();
            } else {
                return Some(self.statement(content, start));
            }
        }
        None
    }

    /// Reads the statement whose first line is `content`.
    fn statement(&mut self, content: &'a str, start: usize) -> Statement {
        let escape = self.reader.directives.escape;
        let logical = Logical::read(&mut self.lines, content, start, escape, &mut self.findings);
        let mut builder = Builder {
            logical: &logical,
            lines: &mut self.lines,
            escape,
            findings: &mut self.findings,
        };
        let Built {
            keyword,
            at,
            mut instruction,
        } = builder.build();
        let comments = std::mem::take(&mut self.comments);
        if let Some(instruction) = &mut instruction {
            set_end(instruction, start, self.lines.last_end());
            instruction.comments = comments;
        }
        Statement {
            keyword,
            at,
            instruction,
        }
    }

    fn finish(self) -> (Directives, Findings) {
        (self.reader.directives, self.findings)
    }
}

/// An instruction reaches to the end of its last line, with its heredocs.
fn set_end(instruction: &mut Instruction, start: usize, end: usize) {
    instruction.span = Span::new(start, end);
    if let Kind::Onbuild { instruction: inner } = &mut instruction.kind {
        inner.span = Span::new(inner.span.start, end);
    }
}

/// What stands before the first `FROM`.
#[derive(Default)]
struct Head {
    /// Some keyword is unknown: it may have been meant as `FROM`.
    misspelt: bool,
    /// The first good instruction that may not stand there.
    misplaced: Option<(&'static str, Span)>,
    /// Something other than `ARG` stands there.
    other: bool,
    /// The last statement.
    last: Option<Span>,
}

impl Head {
    /// Whether the instruction may stand before the first `FROM`. One with errors of its own has
    /// been reported already.
    fn keeps(&mut self, statement: &Statement) -> bool {
        self.last = Some(statement.at);
        match statement.keyword {
            Some("ARG") => return true,
            None => self.misspelt = true,
            Some(keyword) if statement.instruction.is_some() => {
                self.misplaced.get_or_insert((keyword, statement.at));
            }
            Some(_) => {}
        }
        self.other = true;
        false
    }

    /// Reports what is wrong, once; `closed` says that a `FROM` follows.
    fn report(self, findings: &mut Findings, closed: bool) {
        if let (Some((keyword, at)), false) = (self.misplaced, self.misspelt) {
            findings.error(|| {
                let message = format!("`{keyword}` stands before the first `FROM`");
                Diagnostic::error("no-stage", message, at).with_help("only `ARG` may stand there")
            });
        }
        if let (Some(last), false, false) = (self.last, self.other, closed) {
            findings.error(|| {
                Diagnostic::error("no-stage", "the file holds no `FROM`", last)
                    .with_help("add `FROM image`")
            });
        }
    }
}
