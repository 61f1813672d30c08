//! A live tree of steps on a terminal: one frame is one write, at most ten a second.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use kiln_engine::human_bytes;
use kiln_engine::solver::event::{Event, Outcome, Warning};
use kiln_engine::solver::explain::Found;
use unicode_width::UnicodeWidthChar as _;

use super::model::{Model, Step};
use super::palette::Palette;
use super::{View, print, reason};

const PACE: Duration = Duration::from_millis(100);
/// Terminals with fewer columns show no times.
const NARROW: usize = 24;
/// Lines of output shown of a running step.
const TAIL: usize = 6;

/// Columns and lines of the terminal; some say that they have none.
fn size() -> (u16, u16) {
    let known = kiln_engine::host::pty::size(std::io::stderr()).unwrap_or_default();
    let or = |n, usual| if n == 0 { usual } else { n };
    (or(known.0, 80), or(known.1, 24))
}

const SHOW_CURSOR: &str = "\x1b[?25h";

pub(super) struct Tty {
    title: String,
    colours: bool,
    palette: Palette,
    /// What is to be known: below the tree while it lives, and in full when it is drawn for the last time.
    warnings: Vec<Warning>,
    /// Every step is explained.
    explain: bool,
    drawn: usize,
    last: Instant,
}

impl Tty {
    pub(super) fn new(title: String, explain: bool) -> Self {
        let last = Instant::now()
            .checked_sub(PACE)
            .unwrap_or_else(Instant::now);
        Self {
            title,
            colours: std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
            palette: Palette::of_environment(),
            warnings: Vec::new(),
            explain,
            drawn: 0,
            last,
        }
    }

    /// Keeps what belongs to no step.
    pub(super) fn note(&mut self, event: &Event) {
        if let Event::Warning(warning) = event {
            self.warnings.push(warning.clone());
        }
    }

    /// The lines of the tree, none wider than the terminal: a line that wraps would move all others.
    pub(super) fn frame(&self, model: &Model, width: usize, height: usize) -> Vec<String> {
        let (title, explain) = (self.title.as_str(), self.explain);
        let took = model.began.map_or(0.0, |b| b.elapsed().as_secs_f64());
        let (done, total) = (model.done(), model.total());
        let state = match total {
            _ if model.counts.failed > 0 => "FAILED",
            0 => "",
            total if done == total => "FINISHED",
            _ => "",
        };
        let mut lines = vec![fit(
            &format!("[+] {title} {took:.1}s ({done}/{total}) {state}"),
            width,
        )];
        let steps: Vec<&Step> = model
            .order
            .iter()
            .filter_map(|id| model.steps.get(id))
            .filter(|step| !step.waits)
            .collect();
        let mut body: Vec<(bool, Vec<String>)> = Vec::new();
        for step in &steps {
            body.push((
                step.outcome.is_none(),
                step_lines(step, explain, width, &self.palette),
            ));
        }
        // What is done scrolls away first when the terminal is too low.
        let mut rows: usize = body.iter().map(|(_, l)| l.len()).sum();
        let room = height.saturating_sub(1);
        body.retain(|(running, l)| {
            if rows > room && !running {
                rows -= l.len();
                return false;
            }
            true
        });
        lines.extend(body.into_iter().flat_map(|(_, l)| l));
        if explain {
            let skipped = model.skipped.iter();
            lines.extend(skipped.map(|name| fit(&format!(" => SKIPPED {name}"), width)));
        }
        let warning = &self.palette.warning;
        lines.extend(self.warnings.iter().map(|of| {
            let text = fit(&format!(" => WARN: {}", of.text), width);
            format!("{warning}{text}\x1b[0m")
        }));
        lines.truncate(height);
        lines
    }

    fn draw(&mut self, model: &Model, last: bool) {
        self.last = Instant::now();
        let (width, height) = size();
        let (width, height) = (usize::from(width), usize::from(height).max(4));
        let lines = self.frame(model, width, if last { usize::MAX } else { height - 1 });
        // Synchronised update: the terminal shows the whole frame at once.
        let mut out = String::from("\x1b[?2026h\x1b[?25l");
        if self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        for line in &lines {
            let _ = match self.colours {
                true => write!(out, "\r\x1b[2K{line}\n"),
                false => write!(out, "\r\x1b[2K{}\n", anstream::adapter::strip_str(line)),
            };
        }
        out.push_str("\x1b[J");
        if last {
            out.push_str(SHOW_CURSOR);
        }
        out.push_str("\x1b[?2026l");
        self.drawn = lines.len();
        print(&out);
    }
}

/// Shows the cursor again that each frame hides.
pub(super) fn show_cursor() {
    print(SHOW_CURSOR);
}

impl View for Tty {
    fn event(&mut self, event: &Event, model: &Model) {
        self.note(event);
        if self.last.elapsed() >= PACE {
            self.draw(model, false);
        }
    }

    fn tick(&mut self, model: &Model) {
        self.draw(model, false);
    }

    fn end(&mut self, model: &Model) {
        let warnings = std::mem::take(&mut self.warnings);
        self.draw(model, true);
        warnings.iter().for_each(super::warn);
    }

    fn pace(&self) -> Duration {
        PACE
    }
}

/// Cuts a line to the terminal's width.
fn fit(text: &str, width: usize) -> String {
    let mut used = 0;
    let mut out = String::new();
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        out.push(c);
    }
    out
}

fn step_lines(step: &Step, explain: bool, width: usize, palette: &Palette) -> Vec<String> {
    let time = match step.outcome {
        Some(_) => step.took.as_secs_f64(),
        None => step.started.map_or(0.0, |s| s.elapsed().as_secs_f64()),
    };
    let (mark, colour) = match &step.outcome {
        None => ("=>", ""),
        Some(Outcome::Cached(Found::Local)) => ("=> CACHED", palette.run.as_str()),
        Some(Outcome::Cached(Found::Remote(_))) => ("=> REMOTE", palette.run.as_str()),
        Some(Outcome::Fetched | Outcome::InPlace | Outcome::Ran) => ("=>", palette.run.as_str()),
        Some(Outcome::Failed) => ("=> ERROR", palette.error.as_str()),
        Some(Outcome::Cancelled | Outcome::NotReached) => ("=> CANCELED", palette.cancel.as_str()),
    };
    let mut left = format!("{mark} {}", step.name);
    let moved = step
        .moved
        .values()
        .fold((0, 0), |(a, b), m| (a + m.bytes, b + m.expected()));
    if moved.1 > 0 {
        left = format!(
            "{left}  {} / {}",
            human_bytes(moved.0),
            human_bytes(moved.1)
        );
    }
    // Where there is hardly room for a name there is none for a time.
    let right = match width {
        0..NARROW => String::new(),
        _ => format!(" {time:.1}s"),
    };
    let room = width.saturating_sub(right.len() + 1);
    let left = fit(&left, room);
    let used: usize = left.chars().map(|c| c.width().unwrap_or(0)).sum();
    let end = if colour.is_empty() { "" } else { "\x1b[0m" };
    let gap = " ".repeat(room.saturating_sub(used));
    let mut out = vec![format!(" {colour}{left}{gap}{right}{end}")];
    if let Some(line) = step.reason.as_ref().and_then(|r| reason::line(r, explain)) {
        out.push(format!(
            "\x1b[2m{}\x1b[0m",
            fit(&format!(" => => {line}"), width)
        ));
    }
    if step.outcome.is_none() {
        let unfinished = step.unfinished();
        let lines = step.output.len() + usize::from(unfinished.is_some());
        let skip = lines.saturating_sub(TAIL);
        for line in step.output.iter().chain(&unfinished).skip(skip) {
            out.push(format!(
                "\x1b[2m{}\x1b[0m",
                fit(&format!(" => => {line}"), width)
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use kiln_engine::solver::event::WarningCode;
    use kiln_engine::solver::plan::VertexId;

    use super::*;

    #[test]
    fn no_line_is_wider_than_the_terminal_and_what_was_stopped_is_not_done() {
        let mut model = Model::default();
        for (n, name) in [
            "[1/2] RUN make something that has a long name",
            "[2/2] RUN x",
        ]
        .iter()
        .enumerate()
        {
            let vertex = VertexId::new(n);
            model.apply(&Event::Planned {
                vertex,
                name: (*name).into(),
                lines: None,
            });
            model.apply(&Event::Started { vertex });
        }
        let finished = |vertex: usize, outcome| Event::Finished {
            vertex: VertexId::new(vertex),
            outcome,
            took: Duration::from_secs(100),
            error: None,
            key: None,
        };
        model.apply(&Event::Log {
            vertex: VertexId::new(0),
            stream: kiln_engine::solver::event::Stream::Out,
            bytes: b"10%\r50% of a download that tells much about itself".to_vec(),
        });
        let mut tty = Tty::new("Building a:b".into(), true);
        tty.warnings.push(Warning::new(
            WarningCode::RemoteCache,
            "something that is worth a line of its own",
        ));
        let text = |lines: &[String]| anstream::adapter::strip_str(&lines.join("\n")).to_string();
        for width in [1, 5, 10, 20, 23, 24, 40, 80] {
            let lines = tty.frame(&model, width, 100);
            for line in text(&lines).lines() {
                let columns: usize = line.chars().map(|c| c.width().unwrap_or(0)).sum();
                assert!(columns <= width, "{width}: {line:?}");
            }
        }
        assert!(text(&tty.frame(&model, 80, 100)).contains("=> => 50% of a download"));
        model.apply(&finished(0, Outcome::Failed));
        model.apply(&finished(1, Outcome::Cancelled));
        let head = text(&tty.frame(&model, 80, 1));
        assert!(head.contains("(1/2) FAILED"), "{head}");
    }
}
