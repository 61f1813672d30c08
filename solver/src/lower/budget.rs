//! A bound on what a Dockerfile makes of its text.
//!
//! A few lines double a value until it is as large as a word may get, and a few more use it in variables,
//! labels, files, lines of history or stages. So all of that is counted together: memory and time of a
//! lowering are bounded whatever the file says.

use std::cell::{Cell, RefCell};

use kiln_image::{ContainerConfig, ImageConfig};
use kiln_parser::{
    ExpandError, Expanded, Fuel, Lookup, Span, expand_raw, expand_word, expand_words,
};

use super::error::LowerError;

/// Bytes that values, commands, environments, files and lines of history of one Dockerfile may take
/// together, with each of their copies. A file of a thousand steps that all see a hundred variables takes
/// a few million; what a kernel gives to one command is below two.
const MOST_BYTES: usize = 128 << 20;

/// Bytes that all substitutions and searches of one Dockerfile may handle together: about a second of work.
const MOST_WORK: usize = 1 << 30;

/// What it costs to look at one thing, in bytes of substitutions.
const LOOK: usize = 8;

/// What one string or entry of a list takes beside its bytes.
pub(super) const ENTRY: usize = 48;

/// A Dockerfile makes too much of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum OverBudget {
    #[error("the values, commands and environments up to here take more than {} MiB", MOST_BYTES >> 20)]
    Bytes,
    #[error(
        "the substitutions and the searches for stages up to here handle more than {} MiB",
        MOST_WORK >> 20
    )]
    Work,
}

impl OverBudget {
    fn at(self, span: Span) -> LowerError {
        let help = match self {
            Self::Bytes => {
                "look for a value that grows with each line, or a long list that each stage or step repeats"
            }
            Self::Work => "look for a long value with patterns, or for thousands of stages",
        };
        LowerError::new(self.to_string(), span).with_help(Some(help))
    }
}

/// What is left for a lowering.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: Cell<usize>,
    fuel: RefCell<Fuel>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: Cell::new(MOST_BYTES),
            fuel: RefCell::new(Fuel::new(MOST_WORK)),
        }
    }
}

impl Budget {
    /// Takes so many bytes for what stands at `span`.
    pub(super) fn take(&self, bytes: usize, span: Span) -> Result<(), LowerError> {
        match self.bytes.get().checked_sub(bytes) {
            Some(left) => {
                self.bytes.set(left);
                Ok(())
            }
            None => Err(OverBudget::Bytes.at(span)),
        }
    }

    /// Takes the time of looking at so many things one after the other.
    pub(super) fn look_at(&self, things: usize, span: Span) -> Result<(), LowerError> {
        let work = things.saturating_mul(LOOK);
        let burnt = self.fuel.borrow_mut().burn(work);
        burnt.map_err(|_| OverBudget::Work.at(span))
    }

    fn failed(error: &ExpandError, span: Span) -> LowerError {
        match error {
            ExpandError::TooLarge { limit } if *limit >= MOST_WORK >> 20 => {
                OverBudget::Work.at(span)
            }
            other => LowerError::expand(other, span),
        }
    }

    /// What a word was expanded to, if there is room for it.
    fn paid(
        &self,
        expanded: Result<Expanded, ExpandError>,
        span: Span,
    ) -> Result<Expanded, LowerError> {
        let expanded = expanded.map_err(|e| Self::failed(&e, span))?;
        self.take(expanded.text.len(), span)?;
        Ok(expanded)
    }

    /// Expands a word.
    pub(super) fn word(
        &self,
        text: &str,
        escape: char,
        env: &dyn Lookup,
        span: Span,
    ) -> Result<Expanded, LowerError> {
        self.paid(
            expand_word(text, escape, env, &mut self.fuel.borrow_mut()),
            span,
        )
    }

    /// Expands a word that may become several.
    pub(super) fn words(
        &self,
        text: &str,
        escape: char,
        env: &dyn Lookup,
        span: Span,
    ) -> Result<Vec<String>, LowerError> {
        let words = expand_words(text, escape, env, &mut self.fuel.borrow_mut());
        let words = words.map_err(|e| Self::failed(&e, span))?;
        self.take(of_list(&words), span)?;
        Ok(words)
    }

    /// Expands a text that keeps its quotes.
    pub(super) fn raw(
        &self,
        text: &str,
        escape: char,
        env: &dyn Lookup,
        span: Span,
    ) -> Result<Expanded, LowerError> {
        self.paid(
            expand_raw(text, escape, env, &mut self.fuel.borrow_mut()),
            span,
        )
    }
}

/// What strings take.
pub(super) fn of_list<'a>(list: impl IntoIterator<Item = &'a String>) -> usize {
    list.into_iter().map(|s| s.len() + ENTRY).sum()
}

/// What a copy of a config takes.
pub(super) fn of_config(image: &ImageConfig) -> usize {
    let ContainerConfig {
        env,
        entrypoint,
        cmd,
        shell,
        on_build,
        labels,
        volumes,
        exposed_ports,
        ..
    } = &image.config;
    let lists = [env, entrypoint, cmd, shell, on_build];
    let sets = [volumes, exposed_ports];
    let labels = labels.iter().map(|(k, v)| k.len() + v.len() + 2 * ENTRY);
    lists.into_iter().map(of_list).sum::<usize>()
        + sets.into_iter().map(of_list).sum::<usize>()
        + labels.sum::<usize>()
        + ENTRY * (1 + image.history.len())
}
