//! What checks have found, as text, JSON or SARIF.

use kiln_engine::solver::lint::{Finding, Findings};
use kiln_engine::solver::lower::LowerError;

use super::super::checks;
use super::{CallFormat, json, sarif};
use kiln_engine::SourceText;

use crate::diagnostics;
use crate::errors::Failure;
use crate::ui;

/// Prints the answer; a finding that weighs, or an error, is a failure.
pub(super) fn answer(
    format: CallFormat,
    source: &SourceText,
    findings: &Findings,
    mut errors: Vec<LowerError>,
) -> Result<(), Failure> {
    let (found, beyond) = (findings.sorted(), findings.beyond());
    if errors.is_empty() && findings.stop_the_build() {
        errors.push(LowerError {
            message: checks::summary(findings),
            span: None,
            help: Some(checks::FORBIDDEN.into()),
            hint: None,
        });
    }
    match format {
        CallFormat::Json => ui::json(json::check(&found, beyond, source, errors.first())),
        CallFormat::Sarif => {
            let options = findings.options();
            ui::json(sarif::check(&found, beyond, options, source, &errors));
        }
        CallFormat::Text | CallFormat::Dot => text(&found, beyond, source, &errors),
    }
    if !errors.is_empty() || !findings.broken().is_empty() {
        return Err(Failure::silent(1));
    }
    Ok(())
}

fn text(found: &[Finding], beyond: usize, source: &SourceText, errors: &[LowerError]) {
    checks::show(found, source, &std::io::stdout(), ui::painted_data);
    checks::annotate(found, source);
    for error in errors {
        diagnostics::lower_error(source, error);
    }
    let mut warnings = count(found.len() + beyond, "warning");
    if beyond > 0 {
        warnings.push_str(&format!(", the last {beyond} not shown"));
    }
    ui::note(&match errors.len() {
        0 => format!("Check complete: {warnings}"),
        n => format!("Check incomplete: {}, {warnings}", count(n, "error")),
    });
}

fn count(n: usize, what: &str) -> String {
    match n {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}
