//! What checks have found as SARIF 2.1.0, the format that code scanners exchange.

use kiln_engine::solver::lint::{CheckOptions, Finding, Rule};
use kiln_engine::solver::lower::LowerError;
use kiln_parser::Span;
use serde_json::{Value, json};

use kiln_engine::SourceText;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// One log of one run, in which `beyond` findings are left out.
pub(super) fn check(
    found: &[Finding],
    beyond: usize,
    options: &CheckOptions,
    source: &SourceText,
    errors: &[LowerError],
) -> String {
    let level = |rule: Rule| {
        if options.weighs(rule) {
            "warning"
        } else {
            "note"
        }
    };
    let rules: Vec<Value> = Rule::ALL
        .iter()
        .map(|rule| {
            let mut entry = json!({
                "id": rule.name(),
                "shortDescription": {"text": rule.description()},
                "defaultConfiguration": {
                    "enabled": options.reports(*rule), "level": level(*rule),
                },
            });
            if let Some(url) = rule.url() {
                entry["helpUri"] = url.into();
            }
            entry
        })
        .collect();
    let results: Vec<Value> = found
        .iter()
        .map(|finding| {
            json!({
                "ruleId": finding.rule.name(),
                "ruleIndex": Rule::ALL.iter().position(|r| *r == finding.rule),
                "level": level(finding.rule),
                "message": {"text": finding.detail},
                "locations": [location(source, finding.caret)],
            })
        })
        .collect();
    let mut notifications: Vec<Value> = errors
        .iter()
        .map(|error| {
            let mut entry = json!({"level": "error", "message": {"text": error.message}});
            if let Some(span) = error.span {
                entry["locations"] = json!([location(source, span)]);
            }
            entry
        })
        .collect();
    if beyond > 0 {
        let text = format!("{beyond} more findings are not among the results");
        notifications.push(json!({"level": "warning", "message": {"text": text}}));
    }
    let mut log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "kiln", "version": env!("CARGO_PKG_VERSION"), "rules": rules,
            }},
            "invocations": [{
                "executionSuccessful": errors.is_empty(),
                "toolExecutionNotifications": notifications,
            }],
            "artifacts": [{"location": {"uri": uri(&source.name)}}],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    if beyond > 0 {
        log["runs"][0]["properties"] = json!({"resultsOmitted": beyond});
    }
    // A value that was made here always prints.
    serde_json::to_string_pretty(&log).unwrap_or_default()
}

fn location(source: &SourceText, span: Span) -> Value {
    let [start, end] = source.positions_of(span);
    json!({"physicalLocation": {
        "artifactLocation": {"uri": uri(&source.name), "index": 0},
        "region": {
            "startLine": start.0, "startColumn": start.1, "endLine": end.0, "endColumn": end.1,
        },
    }})
}

/// A file name as a reference: relative ones stay relative.
fn uri(name: &str) -> String {
    let mut out = String::new();
    if name.starts_with('/') {
        out.push_str("file://");
    }
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn names_become_references() {
        for (name, want) in [
            ("Dockerfile", "Dockerfile"),
            ("a b/é", "a%20b/%C3%A9"),
            ("/x/Dockerfile", "file:///x/Dockerfile"),
            ("<stdin>", "%3Cstdin%3E"),
        ] {
            assert_eq!(uri(name), want);
        }
    }
}
