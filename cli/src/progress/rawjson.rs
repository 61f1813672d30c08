//! The event stream as JSON, one object a line.

use kiln_engine::solver::event::{Event, Outcome, Stream, Warning};
use kiln_engine::solver::plan::VertexId;
use serde_json::{Value, json};

use super::model::Model;
use super::{View, print, reason};
use crate::ui;

pub(super) struct RawJson;

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Cached(_) => "cached",
        Outcome::Fetched => "fetched",
        Outcome::InPlace => "in-place",
        Outcome::Ran => "ran",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "canceled",
        Outcome::NotReached => "not-reached",
    }
}

fn value(event: &Event) -> Value {
    match event {
        Event::Planned {
            vertex,
            name,
            lines,
        } => json!({
            "event": "planned", "vertex": vertex.index(), "name": &**name,
            "lines": lines.map(|l| [l.first, l.last]),
        }),
        Event::Started { vertex } => json!({"event": "started", "vertex": vertex.index()}),
        Event::Began { vertex } => json!({"event": "began", "vertex": vertex.index()}),
        Event::Waiting { vertex } => json!({"event": "waiting", "vertex": vertex.index()}),
        Event::Finished {
            vertex,
            outcome: o,
            took,
            error,
            key,
        } => json!({
            "event": "finished", "vertex": vertex.index(), "outcome": outcome(o),
            "from": match o { Outcome::Cached(found) => Some(reason::place(found)), _ => None },
            "ms": took.as_secs_f64() * 1000.0, "error": error, "key": key,
        }),
        Event::Skipped { name, lines } => json!({
            "event": "skipped", "name": &**name, "lines": [lines.first, lines.last],
        }),
        Event::Explained { vertex, reason } => {
            let mut event = reason::facts(reason);
            event["event"] = "explained".into();
            event["vertex"] = vertex.index().into();
            event
        }
        Event::Log {
            vertex,
            stream,
            bytes,
        } => json!({
            "event": "log", "vertex": vertex.index(),
            "stream": match stream { Stream::Out => "out", Stream::Err => "err" },
            "text": String::from_utf8_lossy(bytes),
        }),
        Event::Progress {
            vertex,
            label,
            current,
            total,
        } => json!({
            "event": "progress", "vertex": vertex.index(), "label": label, "current": current,
            "total": total, "unit": "bytes",
        }),
        Event::Warning(of) => warning(of),
    }
}

/// A warning as an event.
pub(super) fn warning(of: &Warning) -> Value {
    json!({
        "event": "warning", "vertex": of.vertex.map(VertexId::index), "code": of.code.name(),
        "place": of.place.as_deref(), "text": of.text,
    })
}

impl View for RawJson {
    fn event(&mut self, event: &Event, _: &Model) {
        print(&format!("{}\n", ui::event_line(value(event))));
    }

    fn tick(&mut self, _: &Model) {}

    fn end(&mut self, _: &Model) {}
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kiln_engine::solver::event::WarningCode;

    use super::*;

    /// Programs find each code where the events are described.
    #[test]
    fn codes_of_warnings_are_documented() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let read = |name: &str| std::fs::read_to_string(docs.join(name)).unwrap();
        let page = read("json.md");
        let schema: Value = serde_json::from_str(&read("schema/events.json")).unwrap();
        let events = schema["oneOf"].as_array().unwrap();
        let of_warning = events.iter().find(|e| e["title"] == "warning").unwrap();
        let listed = of_warning["properties"]["code"]["enum"].as_array().unwrap();
        let listed: Vec<&str> = listed.iter().map(|name| name.as_str().unwrap()).collect();
        let all: Vec<&str> = WarningCode::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(listed, all);
        for name in all {
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
            let is_plain = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(name.chars().all(is_plain), "{name}");
        }
    }
}
