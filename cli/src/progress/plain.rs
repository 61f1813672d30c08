//! Plain lines in the form that Docker prints: `#5 [2/4] RUN …`, with what CI systems fold and what
//! keeps them from believing that a silent step hangs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use kiln_engine::human_bytes;
use kiln_engine::solver::event::{Event, Outcome};
use kiln_engine::solver::explain::Found;
use kiln_engine::solver::plan::VertexId;

use crate::github;

use super::model::{Line, Model};
use super::{View, print, reason};

/// How long a step may say nothing before it is said that it still runs.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// Transfers that are named then.
const NAMED: usize = 3;

/// The CI system that shows the lines, as far as it can fold them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Folds {
    /// None that is known.
    #[default]
    None,
    /// GitHub's workflow commands: `::group::`.
    Github,
    /// GitLab's collapsible sections: `section_start`.
    Gitlab,
}

impl Folds {
    /// What the environment says.
    pub(super) fn of_environment() -> Self {
        let is_gitlab = || std::env::var_os("GITLAB_CI").is_some_and(|v| v == "true");
        match () {
            () if github::is_here() => Self::Github,
            () if is_gitlab() => Self::Gitlab,
            () => Self::None,
        }
    }
}

pub(super) struct Plain {
    /// Every step is explained.
    explain: bool,
    folds: Folds,
    /// Output without its end of line yet.
    open: BTreeMap<VertexId, Line>,
    /// Steps whose name has been printed.
    named: Vec<VertexId>,
    /// The step whose lines are printed at the moment, and the number of its fold.
    current: Option<(VertexId, usize)>,
    /// Folds so far.
    folded: usize,
    /// When it was last said of a step that it still runs.
    beats: BTreeMap<VertexId, Instant>,
}

impl Plain {
    pub(super) fn new(explain: bool, folds: Folds) -> Self {
        Self {
            explain,
            folds,
            open: BTreeMap::new(),
            named: Vec::new(),
            current: None,
            folded: 0,
            beats: BTreeMap::new(),
        }
    }

    /// Ends the fold of the step whose lines came last.
    fn end_fold(&mut self, out: &mut String) {
        if let Some((_, number)) = self.current.take() {
            let _ = match self.folds {
                Folds::None => Ok(()),
                Folds::Github => writeln!(out, "::endgroup::"),
                Folds::Gitlab => {
                    writeln!(out, "\x1b[0Ksection_end:{}:kiln_{number}\r\x1b[0K", now())
                }
            };
        }
    }

    /// Makes the lines that follow those of a step, under its name; returns the step's number.
    fn name(&mut self, vertex: VertexId, model: &Model, out: &mut String) -> usize {
        let Some(step) = model.steps.get(&vertex) else {
            return 0;
        };
        let first = !self.named.contains(&vertex);
        if first {
            self.named.push(vertex);
        }
        let title = format!("#{} {}", step.number, step.name);
        if self.folds == Folds::None {
            if first {
                let _ = writeln!(out, "{title}");
            }
        } else if self.current.is_none_or(|(current, _)| current != vertex) {
            self.end_fold(out);
            self.folded += 1;
            self.current = Some((vertex, self.folded));
            let _ = match self.folds {
                Folds::Gitlab => writeln!(
                    out,
                    "\x1b[0Ksection_start:{}:kiln_{}[collapsed=true]\r\x1b[0K{title}",
                    now(),
                    self.folded
                ),
                _ => writeln!(out, "::group::{title}"),
            };
        }
        step.number
    }

    fn finished(&mut self, vertex: VertexId, event: &Event, model: &Model, out: &mut String) {
        let Event::Finished {
            outcome,
            took,
            error,
            ..
        } = event
        else {
            return;
        };
        let number = self.name(vertex, model, out);
        let seconds = took.as_secs_f64();
        if let Some(rest) = self.open.remove(&vertex).and_then(|mut line| line.take()) {
            let _ = writeln!(out, "#{number} {seconds:.3} {}", github::inert(&rest));
        }
        let _ = match outcome {
            Outcome::Cached(Found::Remote(name)) => writeln!(out, "#{number} CACHED from {name}"),
            Outcome::Cached(Found::Local) => writeln!(out, "#{number} CACHED"),
            Outcome::Fetched | Outcome::InPlace | Outcome::Ran => {
                writeln!(out, "#{number} DONE {seconds:.1}s")
            }
            Outcome::Cancelled | Outcome::NotReached => writeln!(out, "#{number} CANCELED"),
            Outcome::Failed => {
                let error = error.as_deref().unwrap_or("failed");
                error.lines().enumerate().try_for_each(|(n, line)| {
                    let word = if n == 0 { "ERROR: " } else { "" };
                    writeln!(out, "#{number} {word}{line}")
                })
            }
        };
        if self.folds == Folds::None {
            out.push('\n');
        } else {
            self.end_fold(out);
        }
    }

    /// Says of steps that have long been silent that they still run.
    fn beat(&mut self, model: &Model, now: Instant) -> String {
        let mut out = String::new();
        for vertex in &model.order {
            let Some(step) = model.steps.get(vertex) else {
                continue;
            };
            let Some(started) = step
                .started
                .filter(|_| step.outcome.is_none() && !step.waits)
            else {
                continue;
            };
            let heard = self.beats.get(vertex).copied().unwrap_or(step.heard);
            if now.saturating_duration_since(heard.max(step.heard)) < HEARTBEAT {
                continue;
            }
            self.beats.insert(*vertex, now);
            let number = self.name(*vertex, model, &mut out);
            let seconds = now.saturating_duration_since(started).as_secs();
            let _ = write!(out, "#{number} still running, {seconds} s");
            // Whoever sends nothing is named.
            let open = step.moved.iter().filter(|(_, moved)| !moved.is_over());
            for (n, (label, moved)) in open.take(NAMED).enumerate() {
                let before = if n == 0 { ": waiting for" } else { "," };
                let so_far = human_bytes(moved.bytes);
                let _ = match moved.total {
                    Some(total) => {
                        write!(out, "{before} {label} ({so_far} of {})", human_bytes(total))
                    }
                    None => write!(out, "{before} {label} ({so_far} so far)"),
                };
            }
            out.push('\n');
        }
        out
    }

    /// The lines of what happened.
    pub(super) fn lines(&mut self, event: &Event, model: &Model) -> String {
        let mut out = String::new();
        match event {
            Event::Started { vertex } if self.folds == Folds::None => {
                self.name(*vertex, model, &mut out);
            }
            Event::Log {
                vertex, bytes: new, ..
            } => {
                let began = model.steps.get(vertex).and_then(|s| s.started);
                let mut number = None;
                for byte in new {
                    let open = self.open.entry(*vertex).or_default();
                    if !open.push(*byte) {
                        continue;
                    }
                    let line = open.take().unwrap_or_default();
                    let number = match number {
                        Some(number) => number,
                        None => *number.insert(self.name(*vertex, model, &mut out)),
                    };
                    let at = began.map_or(0.0, |b| b.elapsed().as_secs_f64());
                    let _ = writeln!(out, "#{number} {at:.3} {}", github::inert(&line));
                }
            }
            Event::Progress {
                vertex,
                label,
                current,
                total: Some(total),
            } if current == total => {
                let number = self.name(*vertex, model, &mut out);
                let _ = writeln!(out, "#{number} {label} {} done", human_bytes(*total));
            }
            Event::Explained { vertex, reason } => {
                if let Some(line) = reason::line(reason, self.explain) {
                    let number = self.name(*vertex, model, &mut out);
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
            Event::Finished { vertex, .. } => self.finished(*vertex, event, model, &mut out),
            _ => {}
        }
        out
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl View for Plain {
    fn event(&mut self, event: &Event, model: &Model) {
        if let Event::Warning(warning) = event {
            super::warn(warning);
        }
        let mut out = self.lines(event, model);
        out.push_str(&self.beat(model, Instant::now()));
        if !out.is_empty() {
            print(&out);
        }
    }

    fn tick(&mut self, model: &Model) {
        let out = self.beat(model, Instant::now());
        if !out.is_empty() {
            print(&out);
        }
    }

    fn end(&mut self, _: &Model) {
        let mut out = String::new();
        self.end_fold(&mut out);
        if !out.is_empty() {
            print(&out);
        }
    }

    fn pace(&self) -> Duration {
        Duration::from_secs(5)
    }
}

#[cfg(test)]
mod tests {
    use kiln_engine::solver::event::Stream;

    use super::*;

    /// A model in which these steps have started.
    fn model(names: &[&str]) -> (Model, Vec<VertexId>) {
        let mut model = Model::default();
        let mut ids = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let vertex = VertexId::new(n);
            model.apply(&Event::Planned {
                vertex,
                name: (*name).into(),
                lines: None,
            });
            model.apply(&Event::Started { vertex });
            ids.push(vertex);
        }
        (model, ids)
    }

    #[test]
    fn a_silent_step_is_said_to_run_once_a_minute() {
        let (mut model, ids) = model(&["RUN make"]);
        let mut plain = Plain::new(false, Folds::None);
        plain.named.clone_from(&ids);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(plain.beat(&model, at(59)), "");
        assert_eq!(plain.beat(&model, at(61)), "#1 still running, 61 s\n");
        assert_eq!(plain.beat(&model, at(90)), "");
        assert_eq!(plain.beat(&model, at(122)), "#1 still running, 122 s\n");
        // It is told who is waited for, and no more of what is here.
        for (label, current, total) in [
            ("http://a/b", 2000, None),
            ("c", 1000, Some(4000)),
            ("d", 9, Some(9)),
        ] {
            model.apply(&Event::Progress {
                vertex: ids[0],
                label: label.into(),
                current,
                total,
            });
        }
        assert_eq!(
            plain.beat(&model, at(200)),
            "#1 still running, 200 s: waiting for c (1.0kB of 4.0kB), http://a/b (2.0kB so far)\n"
        );
        model.apply(&Event::Finished {
            vertex: ids[0],
            outcome: Outcome::Ran,
            took: Duration::ZERO,
            error: None,
            key: None,
        });
        assert_eq!(plain.beat(&model, at(1000)), "");
    }

    #[test]
    fn folds_open_when_another_step_speaks_and_close_with_it() {
        for (folds, open, close) in [
            (Folds::Github, "::group::#1 RUN a\n", "::endgroup::\n"),
            (
                Folds::Gitlab,
                "kiln_1[collapsed=true]\r\x1b[0K#1 RUN a\n",
                "kiln_1\r\x1b[0K\n",
            ),
        ] {
            let (model, ids) = model(&["RUN a", "RUN b"]);
            let mut plain = Plain::new(false, folds);
            let mut out = String::new();
            plain.name(ids[0], &model, &mut out);
            assert!(out.ends_with(open), "{out:?}");
            out.clear();
            plain.name(ids[0], &model, &mut out);
            assert_eq!(out, "", "the same fold goes on");
            plain.name(ids[1], &model, &mut out);
            assert!(
                out.contains(close) && out.ends_with("#2 RUN b\n"),
                "{out:?}"
            );
            let event = Event::Finished {
                vertex: ids[1],
                outcome: Outcome::Failed,
                took: Duration::ZERO,
                error: Some("first\nsecond".into()),
                key: None,
            };
            out.clear();
            plain.finished(ids[1], &event, &model, &mut out);
            assert!(out.starts_with("#2 ERROR: first\n#2 second\n"), "{out:?}");
            assert!(plain.current.is_none());
        }
    }

    #[test]
    fn a_line_that_is_written_over_is_printed_once() {
        let (mut model, ids) = model(&["RUN a"]);
        let mut plain = Plain::new(false, Folds::None);
        for part in ["1%\r", "2%\r", "100%\n"] {
            let event = Event::Log {
                vertex: ids[0],
                stream: Stream::Out,
                bytes: part.into(),
            };
            model.apply(&event);
            plain.event(&event, &model);
        }
        assert_eq!(model.steps[&ids[0]].output, ["100%"]);
    }
}
