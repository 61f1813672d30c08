//! One logical line to one instruction.

mod command;
mod flag;
mod transfer;
mod values;

use crate::ast::{Heredoc, Instruction, Kind};
use crate::diagnostic::{Diagnostic, Findings};
use crate::heredoc;
use crate::lines::{Lines, Logical};
use crate::span::{Span, Text};
use crate::suggest::did_you_mean;
use crate::words;

/// Every keyword, as written by convention.
pub(crate) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// What the builders of the instructions share.
pub(crate) struct Builder<'a, 'b> {
    pub(crate) logical: &'a Logical<'a>,
    pub(crate) lines: &'a mut Lines<'b>,
    pub(crate) escape: char,
    pub(crate) findings: &'a mut Findings,
}

/// What a logical line turned out to be.
pub(crate) struct Built {
    /// The keyword in capitals; none when there is no such keyword.
    pub(crate) keyword: Option<&'static str>,
    /// Where the keyword is.
    pub(crate) at: Span,
    /// None when there is an error in it.
    pub(crate) instruction: Option<Instruction>,
}

/// An instruction on the way: its keyword in capitals, where that is, and its arguments.
struct Parts<'t> {
    keyword: &'static str,
    span: Span,
    args: &'t str,
}

impl<'a> Builder<'a, '_> {
    /// Builds the instruction of the whole line.
    pub(crate) fn build(&mut self) -> Built {
        let logical = self.logical;
        self.instruction(&logical.text, false)
    }

    fn text(&self, slice: &str) -> Text {
        self.logical.spanned(slice)
    }

    /// Reports an error; the message is only made when it is kept.
    fn error(&mut self, code: &'static str, span: Span, message: impl FnOnce() -> String) {
        self.findings
            .error(|| Diagnostic::error(code, message(), span));
    }

    fn instruction(&mut self, line: &'a str, trigger: bool) -> Built {
        let line = line.trim();
        let (word, rest) = words::keyword(line);
        let at = self.logical.span(word);
        let keyword = KEYWORDS
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(word));
        let instruction = match keyword {
            Some(upper) if trigger && matches!(upper, "ONBUILD" | "FROM" | "MAINTAINER") => {
                self.error("forbidden-trigger", at, || {
                    format!("`{upper}` cannot be a trigger of `ONBUILD`")
                });
                None
            }
            Some(upper) => self.known(line, upper, Text::new(word.to_owned(), at), rest),
            None => {
                self.findings.error(|| {
                    let shown: String = word.chars().take(40).collect();
                    let mut found = Diagnostic::error(
                        "unknown-instruction",
                        format!("unknown instruction `{shown}`"),
                        at,
                    );
                    found.help = did_you_mean("", word, &KEYWORDS);
                    found
                });
                None
            }
        };
        Built {
            keyword,
            at,
            instruction,
        }
    }

    fn known(
        &mut self,
        line: &'a str,
        upper: &'static str,
        keyword: Text,
        rest: &'a str,
    ) -> Option<Instruction> {
        let before = self.findings.errors();
        let (raw_flags, args) = words::flags(rest);
        let parts = Parts {
            keyword: upper,
            span: keyword.span,
            args,
        };
        let kind = self.kind(&parts);
        let flags = self.flags(upper, raw_flags);
        let kind = kind?;
        (self.findings.errors() == before).then(|| Instruction {
            span: self.logical.span(line),
            keyword,
            flags,
            kind,
            comments: Vec::new(),
            text: line.to_owned(),
        })
    }

    fn kind(&mut self, parts: &Parts<'a>) -> Option<Kind> {
        match parts.keyword {
            "ADD" => self.transfer(parts).map(Kind::Add),
            "COPY" => self.transfer(parts).map(Kind::Copy),
            "RUN" => self.run(parts),
            "CMD" => self.resettable_command(parts).map(Kind::Cmd),
            "ENTRYPOINT" => self.resettable_command(parts).map(Kind::Entrypoint),
            "SHELL" => self.shell(parts),
            "HEALTHCHECK" => self.healthcheck(parts),
            "FROM" => self.from(parts),
            "ARG" => self.arg(parts),
            "ENV" => self.key_values(parts).map(Kind::Env),
            "LABEL" => self.key_values(parts).map(Kind::Label),
            "EXPOSE" => self.list(parts).map(Kind::Expose),
            "VOLUME" => self.volume(parts),
            "MAINTAINER" => self.single(parts).map(Kind::Maintainer),
            "STOPSIGNAL" => self.single(parts).map(Kind::Stopsignal),
            "USER" => self.single(parts).map(Kind::User),
            "WORKDIR" => self.single(parts).map(Kind::Workdir),
            _ => {
                self.require(parts, "an instruction")?;
                let instruction = self.instruction(parts.args, true).instruction?;
                Some(Kind::Onbuild {
                    instruction: Box::new(instruction),
                })
            }
        }
    }

    /// Reports missing arguments.
    fn require(&mut self, parts: &Parts<'_>, what: &str) -> Option<()> {
        if !parts.args.is_empty() {
            return Some(());
        }
        self.error("missing-argument", parts.span, || {
            format!("`{}` requires {what}", parts.keyword)
        });
        None
    }

    /// Reads the heredocs that the line opens.
    fn heredocs(&mut self, parts: &Parts<'_>, is_command: bool) -> Option<Vec<Heredoc>> {
        let (text, span) = (&self.logical.text, parts.span);
        heredoc::read(text, is_command, span, self.lines, self.findings)
    }
}
