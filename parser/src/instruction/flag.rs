//! Flags of instructions: which exist, which may repeat, which need a value.

use super::{Builder, MOST_ADVICE};
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

impl Builder<'_, '_> {
    /// Checks flags; the caller sees from the diagnostics whether all are good.
    pub(super) fn flags(&mut self, keyword: &str, raw: &[RawFlag<'_>]) -> Vec<Flag> {
        let mut flags: Vec<Flag> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for raw in raw {
            let flag = Flag {
                name: Spanned::new(raw.name.1.clone(), self.logical.span(raw.name.0)),
                value: raw
                    .value
                    .as_ref()
                    .map(|(raw, value)| Spanned::new(value.clone(), self.logical.span(raw))),
                span: self.logical.span(raw.raw),
            };
            let first = seen.insert(raw.name.1.as_str());
            self.check_flag(keyword, &flag, first);
            flags.push(flag);
        }
        flags
    }

    fn check_flag(&mut self, keyword: &str, flag: &Flag, first: bool) {
        let name = flag.name.value.as_str();
        let shown: String = name.chars().take(40).collect();
        let allowed = allowed_flags(keyword);
        if !allowed.contains(&name) {
            let mut found = Diagnostic::error(
                "unknown-flag",
                format!("`{keyword}` has no flag `--{shown}`"),
                flag.span,
            );
            if self.diagnostics.len() < MOST_ADVICE {
                found.help = did_you_mean("--", name, allowed);
            }
            self.diagnostics.push(found);
            return;
        }
        if !first && !is_repeatable_flag(name) {
            self.error(
                "duplicate-flag",
                format!("the flag `--{name}` is given twice"),
                flag.span,
            );
        }
        let value = flag.value.as_ref().map(|v| v.value.as_str());
        if is_bool_flag(name) {
            if let Err(error) = parse_bool_flag(value) {
                self.invalid(name, &error.message, flag.span);
            }
            return;
        }
        let Some(value) = value else {
            self.diagnostics.push(
                Diagnostic::error(
                    "missing-flag-value",
                    format!("the flag `--{name}` needs a value"),
                    flag.span,
                )
                .with_help(format!("write `--{name}=value`")),
            );
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
        self.error(
            "invalid-flag-value",
            format!("the value of `--{name}` is wrong: {reason}"),
            span,
        );
    }
}
