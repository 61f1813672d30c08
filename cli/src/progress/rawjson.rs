//! The event stream as JSON, one object a line.

use kiln_engine::solver::event::{Event, Outcome, Stream};
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
        Event::Warning { vertex, text } => json!({
            "event": "warning", "vertex": vertex.map(kiln_engine::solver::plan::VertexId::index), "text": text,
        }),
    }
}

impl View for RawJson {
    fn event(&mut self, event: &Event, _: &Model) {
        print(&format!("{}\n", ui::event_line(value(event))));
    }

    fn tick(&mut self, _: &Model) {}

    fn end(&mut self, _: &Model) {}
}
