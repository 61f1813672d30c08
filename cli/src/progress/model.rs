//! What is known of a build's steps.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_engine::solver::event::{Counts, Event, Outcome};
use kiln_engine::solver::explain::Reason;
use kiln_engine::solver::plan::{Lines, VertexId};

use crate::printable;

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
    /// What it wrote since the last end of a line.
    partial: Line,
    /// When it last wrote.
    pub(crate) heard: Instant,
    /// What is moved for it.
    pub(crate) moved: BTreeMap<String, Moved>,
}

/// Something on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    /// Bytes so far.
    pub(crate) bytes: u64,
    /// Bytes in all, if known.
    pub(crate) total: Option<u64>,
}

impl Moved {
    /// Bytes in all, as far as that is known.
    pub(crate) fn expected(self) -> u64 {
        self.total.unwrap_or(self.bytes)
    }

    pub(crate) fn is_over(self) -> bool {
        self.total == Some(self.bytes)
    }
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
    /// How long those steps took when they ran that were cached now.
    pub(crate) saved: Duration,
}

impl Model {
    pub(crate) fn total(&self) -> usize {
        self.planned.len()
    }

    /// Steps that have come to their end: not what was stopped.
    pub(crate) fn done(&self) -> usize {
        let is_done = |step: &&Step| {
            let stopped = matches!(step.outcome, Some(Outcome::Cancelled | Outcome::NotReached));
            step.outcome.is_some() && !stopped
        };
        self.steps.values().filter(is_done).count()
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
                    partial: Line::default(),
                    heard: now,
                    moved: BTreeMap::new(),
                };
                self.steps.insert(*vertex, step);
            }
            Event::Began { vertex } => {
                if let Some(step) = self.steps.get_mut(vertex) {
                    step.started = Some(now);
                    step.heard = now;
                }
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
                    let moved = Moved {
                        bytes: *current,
                        total: *total,
                    };
                    step.moved.insert(label.clone(), moved);
                }
            }
            Event::Explained { vertex, reason } => {
                if let Reason::Hit { took, .. } = reason {
                    self.saved += *took;
                }
                if let Some(step) = self.steps.get_mut(vertex) {
                    step.reason = Some(reason.clone());
                }
            }
            Event::Skipped { name, .. } => {
                self.counts.skipped += 1;
                self.skipped.push(name.clone());
            }
            Event::Warning(_) => {}
        }
    }
}

/// A line of output on its way: a bounded number of bytes, of what was last written over it.
#[derive(Debug, Default)]
pub(super) struct Line {
    bytes: Vec<u8>,
    /// The next byte begins the line anew, unless it ends it.
    returned: bool,
}

impl Line {
    /// Takes a byte in; true at the end of the line.
    pub(super) fn push(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' => return true,
            b'\r' => self.returned = true,
            _ => {
                if std::mem::take(&mut self.returned) {
                    self.bytes.clear();
                }
                if self.bytes.len() < KEPT_BYTES {
                    self.bytes.push(byte);
                }
            }
        }
        false
    }

    /// The line as text, none if it is empty.
    pub(super) fn text(&self) -> Option<String> {
        (!self.bytes.is_empty()).then(|| printable::line(&self.bytes))
    }

    /// Takes the line out.
    pub(super) fn take(&mut self) -> Option<String> {
        let text = self.text();
        *self = Self::default();
        text
    }
}

impl Model {
    /// The steps that took longest, the longest first: at most three, of a second or more.
    pub(crate) fn slowest(&self) -> Vec<&Step> {
        let is_slow = |step: &&Step| {
            step.outcome == Some(Outcome::Ran) && step.took >= Duration::from_secs(1)
        };
        let mut slow: Vec<&Step> = self.steps.values().filter(is_slow).collect();
        slow.sort_by_key(|step| std::cmp::Reverse(step.took));
        slow.truncate(3);
        slow
    }
}

impl Step {
    /// What stands on the line that has no end yet, such as the progress of a download.
    pub(crate) fn unfinished(&self) -> Option<String> {
        self.partial.text()
    }

    fn log(&mut self, bytes: &[u8]) {
        self.heard = Instant::now();
        for byte in bytes {
            if self.partial.push(*byte) {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        let Some(line) = self.partial.take() else {
            return;
        };
        if self.output.len() == KEPT_LINES {
            self.output.pop_front();
        }
        self.output.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_was_last_written_over_it() {
        let cases: [(&[u8], Option<&str>); 6] = [
            (b"", None),
            (b"abc", Some("abc")),
            (b"10%\r50%\r99%", Some("99%")),
            (b"10%\r50%\r", Some("50%")),
            (b"done\r\r", Some("done")),
            (b"\rx", Some("x")),
        ];
        for (bytes, want) in cases {
            let mut line = Line::default();
            assert!(!bytes.iter().any(|b| line.push(*b)), "{bytes:?}");
            assert_eq!(line.text().as_deref(), want, "{bytes:?}");
            assert!(line.push(b'\n'));
            assert_eq!(line.take().as_deref(), want);
            assert_eq!(line.take(), None);
        }
        let mut long = Line::default();
        for _ in 0..100_000 {
            long.push(b'a');
        }
        assert_eq!(long.text().unwrap().len(), KEPT_BYTES);
    }
}
