//! Answers as JSON, in the shapes that Docker's `--call` has.

use base64::Engine as _;
use kiln_engine::solver::lint::Finding;
use kiln_engine::solver::lower::{LowerError, Outline, OutlineMount, Target};
use kiln_parser::Span;
use serde_json::{Map, Value, json};

use kiln_engine::SourceText;

fn pretty(value: &Value) -> String {
    // A value that was made here always prints.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn location(source: &SourceText, span: Span) -> Value {
    // As in Docker, each line is a range of its own.
    let lines = source.lines_of(span);
    let range = |line: usize| json!({"start": {"line": line}, "end": {"line": line}});
    let ranges: Vec<Value> = (lines.first..=lines.last).map(range).collect();
    json!({ "ranges": ranges })
}

fn base64(source: &SourceText) -> String {
    base64::engine::general_purpose::STANDARD.encode(&source.text)
}

/// An object without the members that are empty.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let filled = members.into_iter().filter(|(_, value)| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    });
    let filled = filled.map(|(name, value)| (name.to_owned(), value));
    Value::Object(filled.collect::<Map<_, _>>())
}

/// `beyond` findings are left out.
pub(super) fn check(
    found: &[Finding],
    beyond: usize,
    source: &SourceText,
    error: Option<&LowerError>,
) -> String {
    let warnings: Vec<Value> = found
        .iter()
        .map(|finding| {
            object([
                ("ruleName", finding.rule.name().into()),
                ("description", finding.rule.description().into()),
                ("url", finding.rule.url().into()),
                ("detail", finding.detail.as_str().into()),
                ("location", location(source, finding.about)),
            ])
        })
        .collect();
    let file = json!({
        "filename": source.name, "language": "Dockerfile", "data": base64(source),
    });
    let mut answer = json!({"warnings": warnings, "sources": [file]});
    if beyond > 0 {
        answer["warningsOmitted"] = beyond.into();
    }
    if let Some(error) = error {
        let place = error.span.map(|span| location(source, span));
        answer["buildError"] = json!({
            "message": error.message, "location": place.unwrap_or_else(|| json!({})),
        });
    }
    pretty(&answer)
}

pub(super) fn targets(list: &[Target], source: &SourceText) -> String {
    let one = |target: &Target| {
        object([
            ("name", target.name.clone().into()),
            ("default", target.default.into()),
            ("description", target.description.clone().into()),
            ("base", target.base.as_str().into()),
            ("platform", target.platform.clone().into()),
            ("location", location(source, target.about)),
        ])
    };
    let list: Vec<Value> = list.iter().map(one).collect();
    pretty(&json!({"targets": list, "sources": [base64(source)]}))
}

pub(super) fn outline(outline: &Outline, source: &SourceText) -> String {
    let args: Vec<Value> = outline
        .args
        .iter()
        .map(|arg| {
            object([
                ("name", arg.name.as_str().into()),
                ("description", arg.description.clone().into()),
                ("value", arg.value.clone().into()),
                ("location", location(source, arg.about)),
            ])
        })
        .collect();
    let mounts = |list: &[OutlineMount], key: &str| {
        let one = |mount: &OutlineMount| {
            object([
                (key, mount.id.as_str().into()),
                ("required", mount.required.into()),
                ("location", location(source, mount.about)),
            ])
        };
        Value::from(list.iter().map(one).collect::<Vec<_>>())
    };
    pretty(&object([
        ("name", outline.name.clone().into()),
        ("description", outline.description.clone().into()),
        ("args", args.into()),
        ("secrets", mounts(&outline.secrets, "name")),
        ("ssh", mounts(&outline.ssh, "name")),
        ("cache", mounts(&outline.caches, "ID")),
        ("sources", json!([base64(source)])),
    ]))
}
