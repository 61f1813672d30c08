//! What is said of the findings of build checks.

use std::io::IsTerminal;

use kiln_engine::SourceText;
use kiln_engine::solver::event::{Warning, WarningCode};
use kiln_engine::solver::lint::{Finding, Findings};

use crate::progress::{self, Mode};
use crate::{diagnostics, github, ui};

/// What to do about forbidden findings.
pub(super) const FORBIDDEN: &str = "`error=true` in the options of checks makes warnings errors";

/// Which rules were broken.
pub(super) fn summary(findings: &Findings) -> String {
    let names: Vec<&str> = findings.broken().iter().map(|rule| rule.name()).collect();
    format!("checks failed: {}", names.join(", "))
}

/// Shows findings one after the other, for a build and for a check alike. `print` prints to
/// `stream`.
pub(super) fn show(
    found: &[Finding],
    source: &SourceText,
    stream: &impl IsTerminal,
    print: impl Fn(&str),
) {
    for finding in found {
        print(&format!(
            "{}\n",
            diagnostics::finding(source, finding, stream)
        ));
    }
}

/// Has GitHub show findings beside the lines that they are about.
pub(super) fn annotate(found: &[Finding], source: &SourceText) {
    for finding in found.iter().filter(|_| github::is_here()) {
        let lines = source.lines_of(finding.about);
        let text = format!("{}: {}", finding.rule.name(), finding.detail);
        let lines = Some((lines.first, lines.last));
        ui::painted(&github::annotation("warning", source, lines, &text));
    }
}

/// Tells what was found, at the end of a build.
pub(super) fn tell(findings: &Findings, source: &SourceText, mode: Mode) {
    let found = findings.sorted();
    match mode {
        Mode::Quiet => {}
        Mode::Rawjson => {
            for finding in &found {
                let lines = source.lines_of(finding.about);
                let event = serde_json::json!({
                    "event": "warning", "vertex": null, "rule": finding.rule.name(),
                    "text": finding.detail, "lines": [lines.first, lines.last],
                });
                ui::event(event);
            }
            if findings.beyond() > 0 {
                let text = format!(
                    "{} more warnings from build checks are not shown",
                    findings.beyond()
                );
                let warning = Warning::new(WarningCode::ChecksOmitted, text);
                progress::warn(&warning);
            }
        }
        Mode::Auto | Mode::Tty | Mode::Plain => {
            show(&found, source, &std::io::stderr(), ui::painted);
            annotate(&found, source);
            match (found.len(), findings.beyond()) {
                (0, 0) => {}
                (1, 0) => ui::note("1 warning from build checks"),
                (n, 0) => ui::note(&format!("{n} warnings from build checks")),
                (n, beyond) => ui::note(&format!(
                    "{} warnings from build checks, the last {beyond} not shown",
                    n + beyond
                )),
            }
        }
    }
}
