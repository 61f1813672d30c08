//! `FROM`: its arguments, its platform, and what it names when nothing is given.

use kiln_image::{Platform, Reference};
use kiln_parser::{Expanded, Span, Text};

use super::{At, Findings, Rule, variables};

/// What is known of a `FROM` when its words are expanded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FromWords<'a> {
    /// The instruction.
    pub(crate) about: Span,
    /// Names that are declared, or that kiln gives.
    pub(crate) declared: &'a [&'a str],
    /// Name of the stage, in lower case.
    pub(crate) stage: &'a str,
    /// Value of TARGETPLATFORM.
    pub(crate) target: Option<&'a str>,
}

impl FromWords<'_> {
    fn at(&self, caret: Span) -> At {
        At {
            about: self.about,
            caret,
        }
    }

    /// Checks a word that was expanded, where names in `set` had a value.
    pub(crate) fn word(
        &self,
        text: &Text,
        expanded: &Expanded,
        set: impl Fn(&str) -> bool,
        findings: &Findings,
    ) {
        let names = expanded.used.iter().map(String::as_str);
        let unset: Vec<&str> = names.filter(|name| !set(name)).collect();
        variables::check_from(text, &unset, self.declared, self.about, findings);
    }

    /// Checks `--platform`, where names in `set` had a value.
    pub(crate) fn platform(
        &self,
        text: &Text,
        expanded: &Expanded,
        set: impl Fn(&str) -> bool,
        findings: &Findings,
    ) {
        self.word(text, expanded, &set, findings);
        if matches!(expanded.used.as_slice(), [name] if name == "TARGETPLATFORM" && set(name))
            && self.target == Some(expanded.text.as_str())
        {
            let detail = format!("`--platform={}` is what `FROM` takes anyway", text.value);
            findings.report(Rule::RedundantTargetPlatform, self.at(text.span), detail);
        }
        if !expanded.used.is_empty() {
            return;
        }
        let Ok(platform) = expanded.text.parse::<Platform>() else {
            return;
        };
        // A stage that has the platform in its name is meant for it.
        let named = [&platform.os, &platform.architecture]
            .iter()
            .any(|part| self.stage.contains(part.as_str()));
        if !named {
            let detail = format!(
                "`--platform={}` is a constant, whatever platform is built",
                expanded.text
            );
            findings.report(
                Rule::FromPlatformFlagConstDisallowed,
                self.at(text.span),
                detail,
            );
        }
    }
}

/// Checks what the name in the instruction `about` is without any build argument.
pub(crate) fn check_default_name(about: Span, text: &Text, name: &str, findings: &Findings) {
    if Reference::parse(name).is_err() {
        let detail = format!(
            "without build arguments `{}` is `{name}`, which names no image",
            text.value
        );
        let at = At {
            about,
            caret: text.span,
        };
        findings.report(Rule::InvalidDefaultArgInFrom, at, detail);
    }
}

/// Checks the platform of a base image.
pub(crate) fn check_base_platform(
    name: &str,
    wanted: &Platform,
    found: &Platform,
    at: At,
    findings: &Findings,
) {
    if wanted.os != found.os || wanted.architecture != found.architecture {
        let detail = format!("base image `{name}` is for {found}, and {wanted} is built");
        findings.report(Rule::InvalidBaseImagePlatform, at, detail);
    }
}
