//! `RUN`, `CMD`, `ENTRYPOINT`, `SHELL` and `HEALTHCHECK`.

use super::{Builder, Parts};
use crate::ast::{Command, Form, Healthcheck, Kind};
use crate::diagnostic::Diagnostic;
use crate::json::{Array, array};
use crate::span::Text;
use crate::words;

impl<'a> Builder<'a, '_> {
    pub(super) fn run(&mut self, parts: &Parts<'a>) -> Option<Kind> {
        let form = self.form(parts.args);
        let heredocs = match &form {
            Some(Form::Shell(_)) => self.heredocs(parts, true)?,
            _ => Vec::new(),
        };
        let form = form?;
        if matches!(&form, Form::Exec(words) if words.is_empty()) {
            self.error("missing-argument", parts.span, || {
                "`RUN` requires a command".to_owned()
            });
            return None;
        }
        self.wonder_at_nothing(&form, parts);
        Some(Kind::Run(Command { form, heredocs }))
    }

    /// `CMD` and `ENTRYPOINT`, where an empty array is allowed: it resets.
    pub(super) fn resettable_command(&mut self, parts: &Parts<'a>) -> Option<Command> {
        let form = self.form(parts.args)?;
        self.wonder_at_nothing(&form, parts);
        Some(Command {
            form,
            heredocs: Vec::new(),
        })
    }

    /// Docker takes a missing command for an empty one.
    fn wonder_at_nothing(&mut self, form: &Form, parts: &Parts<'a>) {
        if matches!(form, Form::Shell(text) if text.value.is_empty()) {
            let message = "there is no command: the shell is given an empty one";
            let found = || Diagnostic::warning("missing-argument", message, parts.span);
            self.findings.warning(found);
        }
    }

    pub(super) fn shell(&mut self, parts: &Parts<'a>) -> Option<Kind> {
        self.require(parts, "a JSON array")?;
        match self.form(parts.args)? {
            Form::Exec(words) if words.is_empty() => {
                self.error("missing-argument", parts.span, || {
                    "`SHELL` requires at least one word".to_owned()
                });
                None
            }
            Form::Exec(words) => Some(Kind::Shell(words)),
            Form::Shell(text) => {
                self.findings.error(|| {
                    Diagnostic::error("shell-not-json", "`SHELL` requires a JSON array", text.span)
                        .with_help("write it as [\"/bin/sh\", \"-c\"], with double quotes")
                });
                None
            }
        }
    }

    pub(super) fn healthcheck(&mut self, parts: &Parts<'a>) -> Option<Kind> {
        self.require(parts, "`NONE` or `CMD` and a command")?;
        let (kind, rest) = words::first_word(parts.args);
        match kind.to_ascii_uppercase().as_str() {
            "NONE" if rest.is_empty() => Some(Kind::Healthcheck(Healthcheck::None)),
            "NONE" => {
                let span = self.logical.span(rest);
                self.error("too-many-arguments", span, || {
                    "`HEALTHCHECK NONE` takes no arguments".to_owned()
                });
                None
            }
            "CMD" => {
                let form = self.form(rest)?;
                if is_empty(&form) {
                    let span = self.logical.span(kind);
                    self.error("missing-argument", span, || {
                        "`HEALTHCHECK CMD` requires a command".to_owned()
                    });
                    return None;
                }
                Some(Kind::Healthcheck(Healthcheck::Cmd(Command {
                    form,
                    heredocs: Vec::new(),
                })))
            }
            _ => {
                let span = self.logical.span(kind);
                self.findings.error(|| {
                    let shown: String = kind.chars().take(40).collect();
                    Diagnostic::error(
                        "unknown-healthcheck",
                        format!("`HEALTHCHECK` knows `NONE` and `CMD`, not `{shown}`"),
                        span,
                    )
                    .with_help("write `HEALTHCHECK CMD command`")
                });
                None
            }
        }
    }

    /// Tells the two forms of a command apart.
    fn form(&mut self, args: &'a str) -> Option<Form> {
        match self.strings(args) {
            Ok(Some(strings)) => Some(Form::Exec(strings)),
            Ok(None) => Some(Form::Shell(self.text(args))),
            Err(()) => None,
        }
    }

    /// The strings of a JSON array; none for other text; an error, reported, for other arrays.
    pub(super) fn strings(&mut self, args: &'a str) -> Result<Option<Vec<Text>>, ()> {
        match array(args) {
            Array::Strings(strings) => Ok(Some(
                strings
                    .into_iter()
                    .map(|(raw, value)| Text {
                        value,
                        span: self.logical.span(raw),
                    })
                    .collect(),
            )),
            Array::Mixed => {
                let span = self.logical.span(args);
                self.error("json-not-strings", span, || {
                    "the JSON array holds something other than strings".to_owned()
                });
                Err(())
            }
            Array::No => {
                // `[ -f x ]` is a fine shell command; `["x` is no command in any shell.
                if args.starts_with("[\"") || args.starts_with("['") {
                    let span = self.logical.span(args);
                    self.findings.warning(|| {
                        Diagnostic::warning(
                            "json-malformed",
                            "this looks like a JSON array but is none, and is taken as plain text",
                            span,
                        )
                        .with_help("check the double quotes, commas and the closing bracket")
                    });
                }
                Ok(None)
            }
        }
    }
}

fn is_empty(form: &Form) -> bool {
    match form {
        Form::Exec(words) => words.is_empty(),
        Form::Shell(text) => text.value.is_empty(),
    }
}
