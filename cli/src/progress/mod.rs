//! Shows a build's events: a live tree on a terminal, lines elsewhere, JSON for programs.

mod model;
mod palette;
mod plain;
mod rawjson;
mod reason;
#[cfg(test)]
mod snapshots;
mod tty;

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::ValueEnum;
use kiln_engine::solver::event::{Event, Events, Outcome, Warning};
use kiln_engine::solver::explain::Found;

use crate::{printable, ui};

pub(crate) use model::Model;

/// `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// A tree on a terminal, plain lines elsewhere
    #[default]
    Auto,
    /// A live tree
    Tty,
    /// One line for each thing that happens, with the output of steps
    Plain,
    /// Nothing
    #[value(alias = "none")]
    Quiet,
    /// One JSON object a line
    Rawjson,
}

/// The option of commands that show progress.
#[derive(Debug, clap::Args)]
pub(crate) struct ProgressArgs {
    /// How progress is shown [default: auto]
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        env = "KILN_PROGRESS",
        hide_env = true
    )]
    progress: Option<Mode>,
}

impl ProgressArgs {
    /// What was asked for, where `--quiet` counts more.
    pub(crate) fn mode(&self, quiet: bool) -> Mode {
        match (quiet, self.progress) {
            (true, _) => Mode::Quiet,
            (false, Some(mode)) => mode,
            (false, None) => of_docker().and_then(Result::ok).unwrap_or_default(),
        }
    }

    /// From here on stderr has the form that was asked for: before anything is said.
    pub(crate) fn begin(&self, quiet: bool) {
        match self.mode(quiet) {
            Mode::Rawjson => ui::use_json(),
            Mode::Quiet => ui::be_quiet(),
            _ => {}
        }
        if !quiet
            && self.progress.is_none()
            && let Some(Err(value)) = of_docker()
        {
            ui::warning(&format!(
                "BUILDKIT_PROGRESS: there is no progress `{value}`"
            ));
        }
    }
}

/// What docker's variable asks for, or its value where there is no such progress.
fn of_docker() -> Option<Result<Mode, String>> {
    let value = std::env::var("BUILDKIT_PROGRESS").ok();
    let value = value.filter(|value| !value.is_empty())?;
    Some(Mode::from_str(&value, true).map_err(|_| value))
}

/// Gives a terminal back as it was, where the process ends in the middle of showing something.
pub(crate) fn leave_terminal() {
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        tty::show_cursor();
    }
}

/// How long events gather before they are shown: to wake the thread for each takes longer than a step that is found.
const GATHERING: Duration = Duration::from_millis(2);

/// The thread that shows progress.
pub(crate) struct Display {
    thread: Option<JoinHandle<Model>>,
}

/// The way to the display that runs, if one does. There is one terminal, so there is one.
fn shown_by() -> &'static RwLock<Option<mpsc::SyncSender<Event>>> {
    static SHOWN_BY: RwLock<Option<mpsc::SyncSender<Event>>> = RwLock::new(None);
    &SHOWN_BY
}

/// Where events go: to the display that runs. While none does, warnings are printed as they are, and
/// nobody wants the rest.
pub(crate) fn events() -> Events {
    Events::new(|event| {
        let display = shown_by().read().unwrap_or_else(PoisonError::into_inner);
        match (display.as_ref(), event) {
            (_, Event::Warning(_)) if !ui::shows_warnings() => {}
            (Some(send), event) => {
                // It takes events until it is told that there are no more.
                let _ = send.send(event);
            }
            (None, Event::Warning(warning)) => warn(&warning),
            (None, _) => {}
        }
    })
}

/// Prints a warning in the form of all that is printed.
pub(crate) fn warn(warning: &Warning) {
    match ui::is_json() {
        true => ui::event(rawjson::warning(warning)),
        false => ui::warning(&warning.text),
    }
}

trait View {
    /// Something happened; the model knows of it already.
    fn event(&mut self, event: &Event, model: &Model);
    /// Time passes.
    fn tick(&mut self, model: &Model);
    /// Nothing more will happen.
    fn end(&mut self, model: &Model);
    /// How long to wait for the next event before a tick.
    fn pace(&self) -> Duration {
        Duration::from_secs(3600)
    }
}

/// Nothing but warnings.
struct Quiet;

impl View for Quiet {
    fn event(&mut self, event: &Event, _: &Model) {
        if let Event::Warning(warning) = event {
            warn(warning);
        }
    }
    fn tick(&mut self, _: &Model) {}
    fn end(&mut self, _: &Model) {}
}

impl Display {
    /// Starts to show what happens, in this mode; with `explain` also why every step ran or not.
    pub(crate) fn start(mode: Mode, title: String, explain: bool) -> Self {
        let tty = std::io::IsTerminal::is_terminal(&std::io::stderr());
        // A dumb terminal cannot move its cursor.
        let tty = tty && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        let mode = match mode {
            Mode::Auto if tty => Mode::Tty,
            Mode::Auto => Mode::Plain,
            // A tree needs a terminal to be drawn on.
            Mode::Tty if !tty => Mode::Plain,
            other => other,
        };
        // Bounded, so that a step which prints faster than anybody reads is slowed down instead
        // of filling the memory.
        let (send, receive) = mpsc::sync_channel(1024);
        *shown_by().write().unwrap_or_else(PoisonError::into_inner) = Some(send);
        let thread = std::thread::spawn(move || {
            let mut view: Box<dyn View> = match mode {
                Mode::Tty => Box::new(tty::Tty::new(title, explain)),
                Mode::Quiet => Box::new(Quiet),
                Mode::Rawjson => Box::new(rawjson::RawJson),
                Mode::Plain | Mode::Auto => {
                    Box::new(plain::Plain::new(explain, plain::Folds::of_environment()))
                }
            };
            let mut model = Model::default();
            loop {
                let next = match receive.try_recv() {
                    Err(mpsc::TryRecvError::Empty) => {
                        // Whoever ends the display wakes it.
                        std::thread::park_timeout(GATHERING);
                        receive.recv_timeout(view.pace())
                    }
                    Err(mpsc::TryRecvError::Disconnected) => break,
                    Ok(event) => Ok(event),
                };
                match next {
                    Ok(event) => {
                        let event = match mode {
                            // Its strings are escaped, and mean what they say.
                            Mode::Rawjson => event,
                            _ => shown(event),
                        };
                        model.apply(&event);
                        view.event(&event, &model);
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => view.tick(&model),
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
            }
            view.end(&model);
            model
        });
        Self {
            thread: Some(thread),
        }
    }

    /// Where events go.
    #[expect(clippy::unused_self, reason = "whoever has a display sends to it")]
    pub(crate) fn events(&self) -> Events {
        events()
    }

    /// Shows the rest and gives back what was seen.
    pub(crate) fn finish(mut self) -> Model {
        self.end();
        let thread = self.thread.take();
        thread.and_then(|t| t.join().ok()).unwrap_or_default()
    }

    /// Takes no more events. What is on its way is still shown: the channel ends when it is empty.
    fn end(&self) {
        drop(
            shown_by()
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        // Not where it was finished: another one may have begun since.
        if self.thread.is_some() {
            self.end();
        }
    }
}

/// An event with texts that can be printed. Output is made so by the line, and explanations by the word.
fn shown(mut event: Event) -> Event {
    let name = |name: &mut Arc<str>| {
        if let Cow::Owned(clean) = ui::plain(name) {
            *name = clean.into();
        }
    };
    let text = |text: &mut String| {
        if let Cow::Owned(clean) = ui::plain(text) {
            *text = clean;
        }
    };
    match &mut event {
        Event::Planned { name: of, .. } | Event::Skipped { name: of, .. } => name(of),
        Event::Finished { outcome, error, .. } => {
            if let Some(error) = error {
                text(error);
            }
            if let Outcome::Cached(Found::Remote(place)) = outcome {
                *place = printable::marked(place).into();
            }
        }
        Event::Progress { label, .. } => *label = printable::marked(label),
        Event::Warning(warning) => text(&mut warning.text),
        Event::Started { .. }
        | Event::Began { .. }
        | Event::Waiting { .. }
        | Event::Explained { .. }
        | Event::Log { .. } => {}
    }
    event
}

/// Prints to stderr; a reader that has gone away is no error.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
