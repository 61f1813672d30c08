//! How answers are printed.

use kiln_engine::host::FileKind;
use serde_json::{Value, json};

use super::Rules;
use super::walk::{Answer, Entry, Found, Status, Total, Totals};
use crate::template::align;
use crate::ui;
use crate::units::size;

/// How many of the largest files are shown.
const LARGEST: usize = 10;

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Partial => "partial",
        }
    }
}

fn files(total: Total) -> String {
    let plural = if total.files == 1 { "" } else { "s" };
    format!("{} file{plural}, {}", total.files, size(total.bytes))
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::CharDevice | FileKind::BlockDevice => "device",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
    }
}

/// A path as people see it: one line, with a slash after directories.
fn shown(path: &str, is_dir: bool) -> String {
    let clean: String = path
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    match (clean.as_str(), is_dir) {
        ("", _) => "./".to_owned(),
        (_, true) => clean + "/",
        (_, false) => clean,
    }
}

fn rule(rules: &Rules, line: Option<usize>) -> String {
    line.map_or_else(|| "no rule matches".to_owned(), |line| rules.place(line))
}

/// The largest files that are in.
fn largest(found: &Found) -> Vec<&Entry> {
    let mut files: Vec<&Entry> = found
        .entries
        .iter()
        .filter(|e| e.status == Status::In && e.size > 0)
        .collect();
    files.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
    files.truncate(LARGEST);
    files
}

/// Prints all that was found.
pub(super) fn text(found: &Found, rules: &Rules) {
    match rules.name() {
        Some(name) => ui::data(&format!("rules: {name}")),
        None => ui::data("rules: none, there is no ignore file"),
    }
    let mut rows = Vec::new();
    for entry in &found.entries {
        let is_dir = entry.kind == FileKind::Directory;
        let bytes = match (is_dir, entry.holds) {
            (false, _) => size(entry.size),
            (true, Some(holds)) => size(holds.bytes),
            (true, None) => "-".to_owned(),
        };
        let mut path = shown(&entry.path, is_dir);
        if let Some(holds) = entry.holds {
            let plural = if holds.files == 1 { "" } else { "s" };
            path.push_str(&format!(" ({} file{plural})", holds.files));
        }
        rows.push(format!(
            "{}\t{bytes}\t{path}\t{}",
            entry.status.word(),
            rule(rules, entry.line)
        ));
    }
    if !rows.is_empty() {
        ui::data("");
        align(&rows).iter().for_each(|line| ui::data(line));
    }
    let largest = largest(found);
    if !largest.is_empty() {
        ui::data("\nlargest files that are in:");
        let rows: Vec<String> = largest
            .iter()
            .map(|e| format!("  {}\t{}", size(e.size), shown(&e.path, false)))
            .collect();
        align(&rows).iter().for_each(|line| ui::data(line));
    }
    ui::data(&format!("\nin:  {}", files(found.totals.included)));
    ui::data(&format!("out: {}", files(found.totals.excluded)));
}

fn total(total: Total) -> Value {
    json!({"files": total.files, "bytes": total.bytes})
}

fn totals(totals: &Totals) -> Value {
    json!({"in": total(totals.included), "out": total(totals.excluded)})
}

fn rule_json(rules: &Rules, line: Option<usize>) -> Value {
    line.map_or(
        Value::Null,
        |line| json!({"file": rules.name(), "line": line, "pattern": rules.text(line)}),
    )
}

fn print(value: &Value) {
    ui::json(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Prints all that was found as JSON.
pub(super) fn json(found: &Found, rules: &Rules) {
    let entries: Vec<Value> = found
        .entries
        .iter()
        .map(|entry| {
            let mut value = json!({
                "path": entry.path, "kind": kind(entry.kind), "status": entry.status.word(),
                "bytes": entry.size, "rule": rule_json(rules, entry.line),
            });
            if let Some(holds) = entry.holds {
                value["holds"] = total(holds);
            }
            value
        })
        .collect();
    let largest: Vec<Value> = largest(found)
        .iter()
        .map(|e| json!({"path": e.path, "bytes": e.size}))
        .collect();
    print(&json!({
        "ignore_file": rules.name(), "entries": entries, "totals": totals(&found.totals),
        "largest": largest,
    }));
}

/// Prints what there is to say of some paths.
pub(super) fn answers_text(answers: &[Answer], rules: &Rules) {
    for answer in answers {
        let is_dir = answer.kind == Some(FileKind::Directory);
        let mut facts = vec![answer.status.word().to_owned()];
        match (answer.kind, &answer.totals) {
            (None, _) => facts.push("nothing is there".to_owned()),
            (_, Some(totals)) => facts.push(format!(
                "holds {} that are in, {} that are out",
                files(totals.included),
                files(totals.excluded)
            )),
            (_, None) => facts.push(size(answer.size)),
        }
        ui::data(&format!(
            "{}: {}",
            shown(&answer.path, is_dir),
            facts.join("; ")
        ));
        if answer.matches.is_empty() {
            ui::data("  no rule matches");
            continue;
        }
        let mut is_out = false;
        let rows: Vec<String> = answer
            .matches
            .iter()
            .map(|m| {
                let effect = match (m.negated, is_out) {
                    (true, false) => "changes nothing",
                    (true, true) => "in",
                    (false, _) => "out",
                };
                is_out = !m.negated;
                let matched = if m.matched == answer.path {
                    "it".to_owned()
                } else {
                    shown(&m.matched, true)
                };
                format!("  {}\tmatches {matched}\t{effect}", rules.place(m.line))
            })
            .collect();
        align(&rows).iter().for_each(|line| ui::data(line));
    }
}

/// Prints what there is to say of some paths as JSON.
pub(super) fn answers_json(answers: &[Answer], rules: &Rules) {
    let values: Vec<Value> = answers
        .iter()
        .map(|answer| {
            let matches: Vec<Value> = answer
                .matches
                .iter()
                .map(|m| {
                    let mut value = rule_json(rules, Some(m.line));
                    value["matched"] = m.matched.clone().into();
                    value["negated"] = m.negated.into();
                    value
                })
                .collect();
            json!({
                "path": answer.path, "kind": answer.kind.map(kind),
                "status": answer.status.word(), "bytes": answer.size,
                "rule": rule_json(rules, answer.line), "matches": matches,
                "holds": answer.totals.as_ref().map(totals),
            })
        })
        .collect();
    print(&json!({"ignore_file": rules.name(), "paths": values}));
}
