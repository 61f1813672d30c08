//! What is known of a build's steps.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_solver::event::{Counts, Event, Outcome};
use kiln_solver::explain::Reason;
use kiln_solver::plan::{Lines, VertexId};

/// Lines of output that are kept of each step.
const KEPT_LINES: usize = 200;
/// Bytes of one line that are kept.
const KEPT_BYTES: usize = 4096;

/// One step.
#[derive(Debug)]
pub(crate) struct Step {
    /// Its number in the order of starting, from 1.
    pub(crate) number: usize,
    pub(crate) name: Arc<str>,
    pub(crate) lines: Option<Lines>,
    pub(crate) started: Option<Instant>,
    /// Nothing is done for it yet.
    pub(crate) waits: bool,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) took: Duration,
    pub(crate) error: Option<String>,
    /// Why it runs, or did not.
    pub(crate) reason: Option<Reason>,
    /// The last lines of its output.
    pub(crate) output: VecDeque<String>,
    partial: Vec<u8>,
    /// Bytes moved: now, in all.
    pub(crate) moved: BTreeMap<String, (u64, u64)>,
}

/// All steps.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) steps: BTreeMap<VertexId, Step>,
    pub(crate) order: Vec<VertexId>,
    planned: BTreeMap<VertexId, (Arc<str>, Option<Lines>)>,
    pub(crate) began: Option<Instant>,
    /// What became of the steps so far.
    pub(crate) counts: Counts,
    /// Steps that the target does not need.
    pub(crate) skipped: Vec<Arc<str>>,
}

impl Model {
    pub(crate) fn total(&self) -> usize {
        self.planned.len()
    }

    pub(crate) fn done(&self) -> usize {
        self.steps.values().filter(|s| s.outcome.is_some()).count()
    }

    /// Takes an event in.
    pub(crate) fn apply(&mut self, event: &Event) {
        let now = Instant::now();
        self.began.get_or_insert(now);
        match event {
            Event::Planned {
                vertex,
                name,
                lines,
            } => {
                self.planned.insert(*vertex, (name.clone(), *lines));
            }
            Event::Started { vertex } => {
                let (name, lines) = self
                    .planned
                    .get(vertex)
                    .cloned()
                    .unwrap_or_else(|| ("".into(), None));
                self.order.push(*vertex);
                let step = Step {
                    number: self.order.len(),
                    name,
                    lines,
                    started: Some(now),
                    waits: false,
                    outcome: None,
                    took: Duration::ZERO,
                    error: None,
                    reason: None,
                    output: VecDeque::new(),
                    partial: Vec::new(),
                    moved: BTreeMap::new(),
                };
                self.steps.insert(*vertex, step);
            }
            Event::Waiting { vertex } => {
                if let Some(step) = self.steps.get_mut(vertex) {
                    step.waits = step.moved.is_empty();
                }
            }
            Event::Finished {
                vertex,
                outcome,
                took,
                error,
                ..
            } => {
                self.counts.add(outcome);
                if let Some(step) = self.steps.get_mut(vertex) {
                    step.flush();
                    step.waits = false;
                    step.outcome = Some(outcome.clone());
                    step.took = *took;
                    step.error.clone_from(error);
                }
            }
            Event::Log { vertex, bytes, .. } => {
                if let Some(step) = self.steps.get_mut(vertex) {
                    step.log(bytes);
                }
            }
            Event::Progress {
                vertex,
                label,
                current,
                total,
            } => {
                if let Some(step) = self.steps.get_mut(vertex) {
                    if std::mem::take(&mut step.waits) {
                        step.started = Some(now);
                    }
                    step.moved
                        .insert(label.clone(), (*current, total.unwrap_or(*current)));
                }
            }
            Event::Explained { vertex, reason } => {
                if let Some(step) = self.steps.get_mut(vertex) {
                    step.reason = Some(reason.clone());
                }
            }
            Event::Skipped { name, .. } => {
                self.counts.skipped += 1;
                self.skipped.push(name.clone());
            }
            Event::Warning { .. } => {}
        }
    }
}

impl Step {
    fn log(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.flush(),
                _ if self.partial.len() < KEPT_BYTES => self.partial.push(*byte),
                _ => {}
            }
        }
    }

    fn flush(&mut self) {
        if self.partial.is_empty() {
            return;
        }
        let line = clean_line(&self.partial);
        self.partial.clear();
        if self.output.len() == KEPT_LINES {
            self.output.pop_front();
        }
        self.output.push_back(line);
    }
}

/// A line of output as text: what follows the last carriage return, without control characters
/// that would move the cursor.
pub(crate) fn clean_line(bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let last = bytes.rsplit(|b| *b == b'\r').next().unwrap_or(bytes);
    let text = String::from_utf8_lossy(last);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next_if_eq(&'[').is_some() {
                while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                chars.next();
            }
        } else if c == '\t' {
            out.push_str("    ");
        } else if !c.is_control() {
            out.push(c);
        }
    }
    out
}

/// A number of bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n}B"),
        1_000..1_000_000 => format!("{:.1}kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}MB", n as f64 / 1e6),
        _ => format!("{:.2}GB", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_what_moves_the_cursor() {
        let cases: [(&[u8], &str); 5] = [
            (b"plain", "plain"),
            (b"10%\r50%\r100%", "100%"),
            (b"done\r", "done"),
            (b"\x1b[31mred\x1b[0m\x1b[2K", "red"),
            (b"a\tb\x07", "a    b"),
        ];
        for (bytes, want) in cases {
            assert_eq!(clean_line(bytes), want);
        }
    }
}
