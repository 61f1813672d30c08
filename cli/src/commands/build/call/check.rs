//! What checks have found, as text, JSON or SARIF.

use kiln_solver::lint::{Finding, Findings};
use kiln_solver::lower::LowerError;

use super::super::checks;
use super::{Format, json, sarif};
use crate::diagnostics::SourceText;
use crate::errors::Failure;
use crate::ui;

/// Prints the answer; a finding that weighs, or an error, is a failure.
pub(super) fn answer(
    format: Format,
    source: &SourceText,
    findings: &Findings,
    error: Option<&LowerError>,
) -> Result<(), Failure> {
    let found = findings.sorted();
    let forbidden = checks::forbid(findings).then(|| LowerError {
        message: checks::summary(findings),
        span: None,
        help: Some(checks::FORBIDDEN.into()),
    });
    let error = error.or(forbidden.as_ref());
    match format {
        Format::Json => ui::data(&json::check(&found, source, error)),
        Format::Sarif => ui::data(&sarif::check(&found, findings.options(), source, error)),
        Format::Text => text(&found, source, error),
    }
    if error.is_some() || !findings.broken().is_empty() {
        return Err(Failure::silent(1));
    }
    Ok(())
}

fn text(found: &[Finding], source: &SourceText, error: Option<&LowerError>) {
    for finding in found {
        let page = finding.rule.url();
        let page = page.map_or_else(String::new, |url| format!(" - {url}"));
        ui::data(&format!(
            "WARNING: {}{page}\n{}\n{}\n",
            finding.rule.name(),
            finding.detail,
            source.excerpt_of(finding)
        ));
    }
    if let Some(error) = error {
        source.lower_error(error);
    }
    ui::note(&match (found.len(), error) {
        (n, Some(_)) => format!("Check incomplete: {}", count(n)),
        (n, None) => format!("Check complete: {}", count(n)),
    });
}

fn count(n: usize) -> String {
    match n {
        0 => "no warnings".into(),
        1 => "1 warning".into(),
        n => format!("{n} warnings"),
    }
}
