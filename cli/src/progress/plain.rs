//! Plain lines in the form that Docker prints: `#5 [2/4] RUN …`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kiln_solver::event::{Event, Outcome};
use kiln_solver::explain::Found;
use kiln_solver::plan::VertexId;

use super::model::{Model, bytes, clean_line};
use super::{View, print, reason};

pub(super) struct Plain {
    /// Every step is explained.
    explain: bool,
    /// Output without its end of line yet.
    open: BTreeMap<VertexId, Vec<u8>>,
    /// Steps whose name has been printed.
    named: Vec<VertexId>,
}

impl Plain {
    pub(super) fn new(explain: bool) -> Self {
        Self {
            explain,
            open: BTreeMap::new(),
            named: Vec::new(),
        }
    }

    fn name(&mut self, vertex: VertexId, model: &Model, out: &mut String) -> usize {
        let Some(step) = model.steps.get(&vertex) else {
            return 0;
        };
        if !self.named.contains(&vertex) {
            self.named.push(vertex);
            let _ = writeln!(out, "#{} {}", step.number, step.name);
        }
        step.number
    }
}

impl View for Plain {
    fn event(&mut self, event: &Event, model: &Model) {
        let mut out = String::new();
        match event {
            Event::Started { vertex } => {
                self.name(*vertex, model, &mut out);
            }
            Event::Log {
                vertex, bytes: new, ..
            } => {
                let number = self.name(*vertex, model, &mut out);
                let began = model.steps.get(vertex).and_then(|s| s.started);
                let open = self.open.entry(*vertex).or_default();
                for byte in new {
                    if *byte != b'\n' {
                        open.push(*byte);
                        continue;
                    }
                    let at = began.map_or(0.0, |b| b.elapsed().as_secs_f64());
                    let _ = writeln!(out, "#{number} {at:.3} {}", clean_line(open));
                    open.clear();
                }
            }
            Event::Progress {
                vertex,
                label,
                current,
                total: Some(total),
            } if current == total => {
                let number = self.name(*vertex, model, &mut out);
                let _ = writeln!(out, "#{number} {label} {} done", bytes(*total));
            }
            Event::Explained { vertex, reason } => {
                let number = self.name(*vertex, model, &mut out);
                if let Some(line) = reason::line(reason, self.explain) {
                    let _ = writeln!(out, "#{number} {line}");
                }
            }
            Event::Skipped { name, .. } if self.explain => {
                let _ = writeln!(out, "SKIPPED {name}: the target does not need it\n");
            }
            // It has no number: it never began.
            Event::Finished {
                outcome: Outcome::NotReached,
                ..
            } => {}
            Event::Finished {
                vertex,
                outcome,
                took,
                error,
                ..
            } => {
                let number = self.name(*vertex, model, &mut out);
                if let Some(rest) = self.open.remove(vertex).filter(|r| !r.is_empty()) {
                    let _ = writeln!(
                        out,
                        "#{number} {:.3} {}",
                        took.as_secs_f64(),
                        clean_line(&rest)
                    );
                }
                let _ = match outcome {
                    Outcome::Cached(Found::Remote(name)) => {
                        writeln!(out, "#{number} CACHED from {name}\n")
                    }
                    Outcome::Cached(Found::Local) => {
                        writeln!(out, "#{number} CACHED\n")
                    }
                    Outcome::Fetched | Outcome::Ran => {
                        writeln!(out, "#{number} DONE {:.1}s\n", took.as_secs_f64())
                    }
                    Outcome::Cancelled | Outcome::NotReached => {
                        writeln!(out, "#{number} CANCELED\n")
                    }
                    Outcome::Failed => {
                        writeln!(
                            out,
                            "#{number} ERROR: {}\n",
                            error.as_deref().unwrap_or("failed")
                        )
                    }
                };
            }
            Event::Warning { text, .. } => {
                let _ = writeln!(out, "WARN: {text}");
            }
            _ => {}
        }
        if !out.is_empty() {
            print(&out);
        }
    }

    fn tick(&mut self, _: &Model) {}

    fn end(&mut self, _: &Model) {}
}
