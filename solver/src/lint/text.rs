//! What the text of a file tells without any values.

use kiln_parser::{Diagnostic, Instruction, Kind, Parsed, Severity, Span, Text};

use super::{At, Findings, Location, Rule, casing, names, quotes, secrets};

/// Applies the rules about the text alone. In a file with errors, what stands before the first
/// one is checked.
pub fn check_text(parsed: &Parsed, findings: &Findings) {
    let errors = parsed
        .diagnostics
        .iter()
        .filter(|d| d.severity == Severity::Error);
    let limit = errors.map(|d| d.span.start).min();
    let blank = |d: &&Diagnostic| d.code == Diagnostic::EMPTY_CONTINUATION;
    for diagnostic in parsed.diagnostics.iter().filter(blank) {
        // From the blank line to the end of the instruction, whose last line BuildKit reports.
        let Span { start, end } = diagnostic.span;
        let at = At {
            about: Span::new(end.saturating_sub(1), end),
            caret: Span::new(start, start),
        };
        let detail = "a blank line stands inside a continued instruction";
        findings.report(Rule::NoEmptyContinuation, at, detail);
    }
    let all = &parsed.dockerfile.instructions;
    let before_errors = |i: &&Instruction| limit.is_none_or(|limit| i.span.end <= limit);
    for instruction in all.iter().filter(before_errors) {
        one(instruction, findings);
    }
    if limit.is_none() {
        names::check(all, findings);
        casing::check_instructions(all, findings);
    }
}

fn one(instruction: &Instruction, findings: &Findings) {
    let spot = Location {
        about: instruction.span,
        trigger: false,
    };
    quotes::check(instruction, spot, findings);
    match &instruction.kind {
        Kind::From {
            alias: Some(alias),
            as_word,
            ..
        } => {
            casing::check_from(instruction, as_word.as_ref(), alias, findings);
            let name = alias.value.to_lowercase();
            check_description(instruction, &[&name], alias.span, findings);
        }
        Kind::Maintainer(_) => {
            let detail = "`MAINTAINER` is deprecated; write \
                          `LABEL org.opencontainers.image.authors=\"...\"`";
            findings.report(
                Rule::MaintainerDeprecated,
                spot.at(instruction.keyword.span),
                detail,
            );
        }
        Kind::Arg(list) => {
            let names: Vec<&str> = list.iter().map(|arg| arg.name.value.as_str()).collect();
            let first = list.first().map_or(instruction.span, |arg| arg.name.span);
            check_description(instruction, &names, first, findings);
            for arg in list {
                if let Some(default) = &arg.default {
                    secrets::check_value("ARG", &arg.name.value, default, spot, findings);
                }
            }
        }
        Kind::Env(pairs) => {
            for pair in pairs {
                secrets::check_value("ENV", &pair.key.value, &pair.value, spot, findings);
            }
        }
        _ => {}
    }
}

/// A comment right above a definition is its description, and should begin with its name.
fn check_description(instruction: &Instruction, names: &[&str], caret: Span, findings: &Findings) {
    let (Some(comment), Some(first)) = (instruction.comments.last(), names.first()) else {
        return;
    };
    let word = comment.value.split(' ').next().unwrap_or_default();
    // An empty comment keeps others apart from the definition.
    if word.is_empty() || names.contains(&word) {
        return;
    }
    let keyword = instruction.keyword.value.to_uppercase();
    let example = if names.len() > 1 { "NAME" } else { first };
    let detail = format!(
        "the comment above this `{keyword}` should have the form `# {example} description`, or a \
         blank line below it"
    );
    let about = instruction.span;
    findings.report(
        Rule::InvalidDefinitionDescription,
        At { about, caret },
        detail,
    );
}

/// What the comments above a definition say of `name`: the rest of the first that begins with it.
#[must_use]
pub fn description(comments: &[Text], name: &str) -> Option<String> {
    comments
        .iter()
        .find_map(|c| c.value.strip_prefix(name)?.strip_prefix(' '))
        .map(str::to_owned)
}
