//! What the engine tells, as it is said: steps go to a display, the rest is printed.

use std::sync::{Arc, Mutex, PoisonError};

use kiln_engine::solver::event::Event as StepEvent;
use kiln_engine::{Difference, Event, Events, Pushed, SourceText};

use crate::app;
use crate::diagnostics;
use crate::progress::{self, Display, Mode};
use crate::ui;

/// Differences between two builds, by step.
pub(crate) type Differences = Arc<Mutex<Vec<(String, Difference)>>>;

/// Prints all but steps, which nobody sees.
pub(crate) fn printed(mode: Mode) -> Events {
    Events::new(move |event| say(event, mode))
}

/// What is said when a display has ended.
pub(crate) type Later = Arc<Mutex<Vec<Event>>>;

/// Says what was kept until a display had ended.
pub(crate) fn say_later(later: &Later, mode: Mode) {
    let mut later = later.lock().unwrap_or_else(PoisonError::into_inner);
    for event in later.drain(..) {
        say(event, mode);
    }
}

/// Steps go to `display`; what is said of the Dockerfile shows its lines. What was removed to make room is kept.
pub(crate) fn shown(display: &Display, mode: Mode, source: SourceText, later: &Later) -> Events {
    let (steps, later) = (display.events(), later.clone());
    Events::new(move |event| match event {
        Event::Step(event) => steps.send(event),
        Event::Removed(_) => {
            let mut later = later.lock().unwrap_or_else(PoisonError::into_inner);
            later.push(event);
        }
        Event::Dockerfile(warning) if mode != Mode::Quiet => {
            diagnostics::lower_warning(&source, &warning);
        }
        event => say(event, mode),
    })
}

/// Steps go to `display`, and differences are kept.
pub(crate) fn compared(display: &Display, mode: Mode, kept: &Differences) -> Events {
    let (steps, kept) = (display.events(), kept.clone());
    Events::new(move |event| match event {
        Event::Step(event) => steps.send(event),
        Event::Difference { step, difference } => {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push((step, difference));
        }
        event => say(event, mode),
    })
}

/// Prints one event, as docker words it where it has words for it.
fn say(event: Event, mode: Mode) {
    let told = !matches!(mode, Mode::Quiet | Mode::Rawjson);
    let note = |text: String| {
        if told {
            ui::note(&text);
        }
    };
    match event {
        Event::Step(event) => progress::events().send(event),
        Event::Removed(removed) => app::tell_of_removal(&removed),
        Event::NotFoundHere(name) if mode != Mode::Quiet => {
            let shown = name.familiar();
            ui::note(&format!("Unable to find image '{shown}' locally"));
        }
        Event::Pulled {
            name,
            digest,
            up_to_date,
        } if mode != Mode::Quiet => {
            ui::note(&format!("Digest: {digest}"));
            let state = match up_to_date {
                true => "Image is up to date for",
                false => "Downloaded newer image for",
            };
            ui::note(&format!("Status: {state} {}", name.familiar()));
        }
        Event::Pushing(name) => note(format!("The push refers to repository [{}]", name.name())),
        Event::PushedLayer { digest, became } => {
            let what = match became {
                Pushed::Existed => "Layer already exists",
                Pushed::Mounted => "Mounted",
                Pushed::Uploaded => "Pushed",
            };
            note(format!("{}: {what}", digest.short()));
        }
        Event::Pushed { name, digest, size } => {
            let tag = name.tag().unwrap_or("latest");
            note(format!("{tag}: digest: {digest} size: {size}"));
        }
        _ => {}
    }
}

/// Shows the pull of an image, if there is one.
pub(crate) struct Pulling {
    mode: Mode,
    state: Arc<Mutex<PullDisplay>>,
}

/// How far a pull is.
enum PullDisplay {
    /// It may begin.
    NotBegun,
    /// It is shown.
    Shown(Display),
    /// It is over; nothing is shown after it.
    Over,
}

impl Pulling {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            mode,
            state: Arc::new(Mutex::new(PullDisplay::NotBegun)),
        }
    }

    /// The first step begins the display, which is about the image `name`.
    pub(crate) fn events(&self, name: &str) -> Events {
        let (mode, state) = (self.mode, self.state.clone());
        let title = format!("Pulling {name}");
        Events::new(move |event| match event {
            Event::Step(event) => step(event, &state, mode, &title),
            event => {
                if let Event::Pulled { .. } = event {
                    // What it says comes after all steps.
                    end(&state);
                }
                say(event, mode);
            }
        })
    }

    /// Shows the rest.
    pub(crate) fn finish(&self) {
        end(&self.state);
    }
}

fn step(mut event: StepEvent, state: &Mutex<PullDisplay>, mode: Mode, title: &str) {
    // It is printed at the end, so only who reads events needs it here as well.
    if let StepEvent::Finished { error, .. } = &mut event
        && mode != Mode::Rawjson
    {
        *error = None;
    }
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if let (PullDisplay::NotBegun, StepEvent::Planned { .. }) = (&*state, &event) {
        *state = PullDisplay::Shown(Display::start(mode, title.to_owned(), false));
    }
    // To the display, if there is one; else warnings are printed.
    progress::events().send(event);
}

fn end(state: &Mutex<PullDisplay>) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if let PullDisplay::Shown(display) = std::mem::replace(&mut *state, PullDisplay::Over) {
        display.finish();
    }
}
