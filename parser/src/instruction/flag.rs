//! Flags of instructions: which exist, which may repeat, which need a value.

use super::Builder;
use crate::ast::Flag;
use crate::diagnostic::Diagnostic;
use crate::flags::{
    allowed_flags, is_bool_flag, is_repeatable_flag, parse_bool_flag, parse_duration,
};
use crate::span::{Span, Spanned};
use crate::suggest::did_you_mean;
use crate::words::RawFlag;

/// The shortest time of a health check that is not zero, in nanoseconds.
const SHORTEST: u64 = 1_000_000;

/// The flags of one instruction: those that it may have, and those that it has had.
struct Known {
    keyword: &'static str,
    allowed: &'static [&'static str],
    seen: Vec<bool>,
}

impl Builder<'_, '_> {
    /// Checks flags; the caller sees from the findings whether all are good.
    pub(super) fn flags(&mut self, keyword: &'static str, raw: Vec<RawFlag<'_>>) -> Vec<Flag> {
        if raw.is_empty() {
            return Vec::new();
        }
        let allowed = allowed_flags(keyword);
        let mut known = Known {
            keyword,
            allowed,
            seen: vec![false; allowed.len()],
        };
        raw.into_iter()
            .map(|raw| {
                let flag = Flag {
                    name: Spanned::new(raw.name.1.into_owned(), self.logical.span(raw.name.0)),
                    value: raw.value.map(|(raw, value)| {
                        Spanned::new(value.into_owned(), self.logical.span(raw))
                    }),
                    span: self.logical.span(raw.raw),
                };
                self.check_flag(&mut known, &flag);
                flag
            })
            .collect()
    }

    fn check_flag(&mut self, known: &mut Known, flag: &Flag) {
        let name = flag.name.value.as_str();
        let keyword = known.keyword;
        let Some(index) = known.allowed.iter().position(|allowed| *allowed == name) else {
            self.findings.error(|| {
                let shown: String = name.chars().take(40).collect();
                let mut found = Diagnostic::error(
                    "unknown-flag",
                    format!("`{keyword}` has no flag `--{shown}`"),
                    flag.span,
                );
                found.help = did_you_mean("--", name, known.allowed);
                found
            });
            return;
        };
        let seen = known
            .seen
            .get_mut(index)
            .is_some_and(|seen| std::mem::replace(seen, true));
        if seen && !is_repeatable_flag(name) {
            self.error("duplicate-flag", flag.span, || {
                format!("the flag `--{name}` is given twice")
            });
        }
        let value = flag.value.as_ref().map(|v| v.value.as_str());
        if is_bool_flag(name) {
            if let Err(error) = parse_bool_flag(value) {
                self.invalid(name, &error.message, flag.span);
            }
            return;
        }
        let Some(value) = value else {
            self.findings.error(|| {
                Diagnostic::error(
                    "missing-flag-value",
                    format!("the flag `--{name}` needs a value"),
                    flag.span,
                )
                .with_help(format!("write `--{name}=value`"))
            });
            return;
        };
        if keyword == "HEALTHCHECK" {
            self.check_health_flag(name, value, flag.span);
        }
    }

    /// Nothing is expanded in the flags of a health check, so that their values are final here.
    fn check_health_flag(&mut self, name: &str, value: &str, span: Span) {
        if value.is_empty() {
            return;
        }
        if name == "retries" {
            if value.parse::<i32>().is_ok_and(|n| n >= 0) {
                return;
            }
            self.invalid(name, &format!("{value:?} is not a count"), span);
        } else {
            match parse_duration(value) {
                Ok(0) | Ok(SHORTEST..) => {}
                Ok(_) => self.invalid(name, "the time is shorter than 1ms", span),
                Err(error) => self.invalid(name, &error.message, span),
            }
        }
    }

    fn invalid(&mut self, name: &str, reason: &str, span: Span) {
        self.error("invalid-flag-value", span, || {
            format!("the value of `--{name}` is wrong: {reason}")
        });
    }
}
