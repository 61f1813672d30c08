//! `--call` and `--check`: answers about a Dockerfile, without building anything.

mod check;
mod facts;
mod json;
mod sarif;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use kiln_engine::solver::lint::Findings;
use kiln_engine::solver::lower::{LowerError, Lowered, targets};
use kiln_parser::{Parsed, Severity};

use kiln_engine::{Look, SourceText};

use crate::diagnostics;
use crate::errors::Failure;
use crate::ui;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct CallArgs {
    /// Check the Dockerfile and build nothing; short for --call=check
    #[arg(long, conflicts_with = "call")]
    check: bool,
    /// Build (the default), or tell something and build nothing: check finds likely mistakes in
    /// all stages or in those of --target, outline shows what can be given to the target, targets
    /// lists the stages, plan shows the steps that a build would take. With ,format=json as JSON, check with
    /// ,format=sarif as SARIF, plan with ,format=dot for Graphviz
    #[arg(
        long,
        value_name = "build|check|outline|targets|plan[,format=FORMAT]",
        value_parser = CallParser,
        hide_possible_values = true
    )]
    call: Option<String>,
}

/// Takes any text, and tells completions what it may be.
#[derive(Clone)]
struct CallParser;

impl TypedValueParser for CallParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let all = [
            "build",
            "check",
            "check,format=json",
            "check,format=sarif",
            "outline",
            "outline,format=json",
            "targets",
            "targets,format=json",
            "plan",
            "plan,format=json",
            "plan,format=dot",
        ];
        Some(Box::new(all.into_iter().map(PossibleValue::new)))
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Build,
    Check,
    Outline,
    Targets,
    Plan,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallFormat {
    Text,
    Json,
    Sarif,
    Dot,
}

/// What is done, and how the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    method: Method,
    format: CallFormat,
}

impl Call {
    /// Reads the options.
    pub(super) fn of(args: &CallArgs) -> Result<Self, Failure> {
        if args.check {
            return Self::parse("check");
        }
        Self::parse(args.call.as_deref().unwrap_or("build"))
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let bad = |why: String| {
            Failure::usage(format!("--call `{text}`: {why}")).with_hint(
                "write --call=check, outline, targets, plan or build, with ,format=text or json, \
                 sarif for check, or dot for plan",
            )
        };
        let mut parts = text.split(',');
        let method = match parts.next().unwrap_or_default() {
            "build" => Method::Build,
            "check" | "lint" => Method::Check,
            "outline" => Method::Outline,
            "targets" => Method::Targets,
            "plan" => Method::Plan,
            other => return Err(bad(format!("there is no method `{other}`"))),
        };
        let mut format = CallFormat::Text;
        for part in parts {
            format = match part.split_once('=') {
                Some(("format", "text" | "txt")) => CallFormat::Text,
                Some(("format", "json")) => CallFormat::Json,
                Some(("format", "sarif")) if method == Method::Check => CallFormat::Sarif,
                Some(("format", "dot")) if method == Method::Plan => CallFormat::Dot,
                Some(("format", other)) => {
                    return Err(bad(format!("no format `{other}` for this method")));
                }
                _ => return Err(bad(format!("unknown part `{part}`"))),
            };
        }
        Ok(Self { method, format })
    }

    /// Nothing is asked, a build is wanted.
    pub(super) fn is_build(self) -> bool {
        self.method == Method::Build
    }

    /// Checks look at every stage unless a target is named.
    pub(super) fn look(self, target: Option<&str>) -> Look {
        match self.method == Method::Check && target.is_none_or(str::is_empty) {
            true => Look::EveryStage,
            false => Look::Target,
        }
    }

    /// The answer where the options of checks make no sense.
    pub(super) fn answer_broken(
        self,
        source: &SourceText,
        error: &LowerError,
    ) -> Result<(), Failure> {
        match self.method {
            Method::Check => check::answer(
                self.format,
                source,
                &Findings::default(),
                vec![error.clone()],
            ),
            Method::Build | Method::Outline | Method::Targets | Method::Plan => {
                diagnostics::lower_error(source, error);
                Err(Failure::silent(1))
            }
        }
    }

    /// The answer as far as the text alone gives it: all of it for a list of stages, and for a
    /// text with errors. None where it has to be lowered.
    pub(super) fn answer_early(
        self,
        source: &SourceText,
        parsed: &Parsed,
        findings: &Findings,
    ) -> Option<Result<(), Failure>> {
        let errors: Vec<LowerError> = parsed
            .diagnostics
            .iter()
            .filter(|d| d.severity == Severity::Error)
            .map(|error| LowerError {
                message: error.message.clone(),
                span: Some(error.span),
                help: error.help.clone(),
                hint: None,
            })
            .collect();
        match (self.method, errors.is_empty()) {
            (Method::Build, _) => None,
            (Method::Check, false) => Some(check::answer(self.format, source, findings, errors)),
            (_, false) => {
                diagnostics::diagnostics(source, &parsed.diagnostics);
                Some(Err(Failure::silent(1)))
            }
            (Method::Targets, true) => {
                let list = targets(&parsed.dockerfile);
                match self.format {
                    CallFormat::Json => ui::json(json::targets(&list, source)),
                    CallFormat::Text | CallFormat::Sarif | CallFormat::Dot => {
                        ui::data(&facts::targets(&list));
                    }
                }
                Some(Ok(()))
            }
            (Method::Check | Method::Outline | Method::Plan, true) => None,
        }
    }

    /// The answer after the text was lowered, or could not be.
    pub(super) fn answer(
        self,
        source: &SourceText,
        lowered: Result<&Lowered, &LowerError>,
        findings: &Findings,
    ) -> Result<(), Failure> {
        match (self.method, lowered) {
            (Method::Check, lowered) => {
                let errors = match lowered {
                    Ok(lowered) => lowered.without.clone(),
                    Err(error) => vec![error.clone()],
                };
                check::answer(self.format, source, findings, errors)
            }
            (_, Err(error)) => {
                diagnostics::lower_error(source, error);
                Err(Failure::silent(1))
            }
            (method, Ok(lowered)) => {
                let targets: Vec<_> = lowered.target.into_iter().collect();
                match (method, self.format) {
                    (Method::Plan, CallFormat::Json) => {
                        let plan = lowered.plan.to_json(&targets);
                        ui::json(serde_json::to_string_pretty(&plan)?);
                    }
                    (Method::Plan, CallFormat::Dot) => ui::data(lowered.plan.to_dot().trim_end()),
                    (Method::Plan, _) => ui::data(&facts::plan(&lowered.plan, &targets)),
                    (_, CallFormat::Json) => ui::json(json::outline(&lowered.outline, source)),
                    (_, _) => ui::data(&facts::outline(&lowered.outline)),
                }
                // Triggers of a base image may take something, too.
                for error in &lowered.without {
                    diagnostics::lower_error(source, error);
                }
                match lowered.without.is_empty() {
                    true => Ok(()),
                    false => Err(Failure::silent(1)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, CallFormat, Method};

    #[test]
    fn calls_are_methods_with_formats() {
        for (text, want) in [
            ("build", Some((Method::Build, CallFormat::Text))),
            ("check", Some((Method::Check, CallFormat::Text))),
            ("lint,format=json", Some((Method::Check, CallFormat::Json))),
            (
                "check,format=sarif",
                Some((Method::Check, CallFormat::Sarif)),
            ),
            (
                "outline,format=text",
                Some((Method::Outline, CallFormat::Text)),
            ),
            (
                "targets,format=json",
                Some((Method::Targets, CallFormat::Json)),
            ),
            ("targets,format=sarif", None),
            ("plan", Some((Method::Plan, CallFormat::Text))),
            ("plan,format=dot", Some((Method::Plan, CallFormat::Dot))),
            ("outline,format=dot", None),
            ("check,format=xml", None),
            ("check,json", None),
            ("", None),
            ("Check", None),
        ] {
            let found = Call::parse(text).ok().map(|c| (c.method, c.format));
            assert_eq!(found, want, "{text}");
        }
    }
}
