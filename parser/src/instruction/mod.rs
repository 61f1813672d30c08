//! One logical line to one instruction.

mod command;
mod flag;
mod transfer;
mod values;

use crate::ast::{Heredoc, Instruction, Kind};
use crate::diagnostic::{Diagnostic, Severity};
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

/// With more findings than this, names are no longer compared: the file is no Dockerfile.
const MOST_ADVICE: usize = 100;

/// What the builders of the instructions share.
pub(crate) struct Builder<'a, 'b> {
    pub(crate) logical: &'a Logical,
    pub(crate) lines: &'a mut Lines<'b>,
    pub(crate) escape: char,
    pub(crate) diagnostics: &'a mut Vec<Diagnostic>,
}

/// An instruction on the way: its keyword in capitals, where that is, and its arguments.
struct Parts<'t> {
    keyword: &'static str,
    span: Span,
    args: &'t str,
}

impl<'a> Builder<'a, '_> {
    /// Builds the instruction of the whole line; nothing comes back when it has an error.
    pub(crate) fn build(&mut self) -> Option<Instruction> {
        let logical = self.logical;
        self.instruction(&logical.text, false)
    }

    fn text(&self, slice: &str) -> Text {
        self.logical.spanned(slice)
    }

    fn error(&mut self, code: &'static str, message: impl Into<String>, span: Span) {
        self.diagnostics
            .push(Diagnostic::error(code, message, span));
    }

    fn instruction(&mut self, line: &'a str, trigger: bool) -> Option<Instruction> {
        let line = line.trim();
        let (keyword, rest) = words::keyword(line);
        let span = self.logical.span(keyword);
        let Some(upper) = KEYWORDS
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(keyword))
        else {
            let shown: String = keyword.chars().take(40).collect();
            let mut found = Diagnostic::error(
                "unknown-instruction",
                format!("unknown instruction `{shown}`"),
                span,
            );
            if self.diagnostics.len() < MOST_ADVICE {
                found.help = did_you_mean("", keyword, &KEYWORDS);
            }
            self.diagnostics.push(found);
            return None;
        };
        if trigger && matches!(upper, "ONBUILD" | "FROM" | "MAINTAINER") {
            self.error(
                "forbidden-trigger",
                format!("`{upper}` cannot be a trigger of `ONBUILD`"),
                span,
            );
            return None;
        }
        let before = self.diagnostics.len();
        let (raw_flags, args) = words::flags(rest);
        let parts = Parts {
            keyword: upper,
            span,
            args,
        };
        let kind = self.kind(&parts);
        let flags = self.flags(upper, &raw_flags);
        let kind = kind?;
        self.good_since(before).then(|| Instruction {
            span: self.logical.span(line),
            keyword: self.text(keyword),
            flags,
            kind,
            comments: Vec::new(),
            text: line.to_owned(),
        })
    }

    /// True when no error was added to the first `before` diagnostics.
    fn good_since(&self, before: usize) -> bool {
        self.diagnostics
            .iter()
            .skip(before)
            .all(|d| d.severity != Severity::Error)
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
                let instruction = Box::new(self.instruction(parts.args, true)?);
                Some(Kind::Onbuild { instruction })
            }
        }
    }

    /// Reports missing arguments.
    fn require(&mut self, parts: &Parts<'_>, what: &str) -> Option<()> {
        if !parts.args.is_empty() {
            return Some(());
        }
        self.error(
            "missing-argument",
            format!("`{}` requires {what}", parts.keyword),
            parts.span,
        );
        None
    }

    /// Reads the heredocs that the line opens.
    fn heredocs(&mut self, parts: &Parts<'_>, is_command: bool) -> Option<Vec<Heredoc>> {
        let (text, span) = (&self.logical.text, parts.span);
        heredoc::read(text, is_command, span, self.lines, self.diagnostics)
    }
}
