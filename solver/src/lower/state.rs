//! What is known of a stage while its instructions are lowered.

use kiln_image::{ImageConfig, Platform};
use kiln_parser::{Lookup, Span};

use super::HistoryLine;
use super::stages::Stage;
use crate::lint::Spot;
use crate::lint::seen::Seen;
use crate::plan::VertexId;
use crate::ports::ResolvedImage;

pub(super) const DEFAULT_PATH: &str =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage that has been lowered as far as its last instruction.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) tip: Option<VertexId>,
    pub(super) config: ImageConfig,
    pub(super) base: Option<ResolvedImage>,
    /// The base is an image of which nothing is known.
    pub(super) base_unknown: bool,
    pub(super) history: Vec<HistoryLine>,
    /// Declared arguments in order, with their values.
    pub(super) args: Vec<(String, Option<String>)>,
    /// What steps and words see: of ENV and ARG of one name, the later counts.
    pub(super) scope: Vec<(String, String)>,
    pub(super) platform: Platform,
    /// CMD was given in this stage, so that ENTRYPOINT does not clear it.
    pub(super) own_cmd: bool,
    /// The instructions of the layers so far, those of the base image not among them.
    pub(super) layers: Vec<Span>,
    /// What checks remember.
    pub(super) seen: Seen,
    /// The instruction that is lowered.
    pub(super) spot: Spot,
}

impl State {
    pub(super) fn new(stage: &Stage, config: ImageConfig) -> Self {
        Self {
            tip: None,
            config,
            base: None,
            base_unknown: false,
            history: Vec::new(),
            args: Vec::new(),
            scope: Vec::new(),
            platform: stage.platform.clone(),
            own_cmd: false,
            layers: Vec::new(),
            seen: Seen::default(),
            spot: Spot {
                about: stage.from.span,
                trigger: false,
            },
        }
    }

    /// The history goes on with a layer.
    pub(super) fn add_layer(&mut self, created_by: String) {
        self.layers.push(self.spot.about);
        self.history.push(HistoryLine {
            created_by,
            empty: false,
        });
    }
}

impl Lookup for State {
    fn get(&self, name: &str) -> Option<String> {
        let found = self.scope.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.clone())
    }
}

impl State {
    /// Sets a variable for the instructions that follow; it comes last in their environment.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.scope.retain(|(n, _)| n != name);
        self.scope.push((name.to_owned(), value.to_owned()));
    }

    /// Variables that are arguments, and not part of the image.
    pub(super) fn arguments(&self) -> Vec<String> {
        let names = self.args.iter().map(|(name, _)| name);
        names
            .filter(|name| env_value(&self.config.config.env, name).is_none())
            .cloned()
            .collect()
    }

    /// Declares an argument: a second time keeps its place.
    pub(super) fn declare(&mut self, name: String, value: Option<String>) {
        if let Some(value) = &value {
            self.set(&name, value);
        }
        match self.args.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => *old = value,
            None => self.args.push((name, value)),
        }
    }
}

/// The value of a variable in a list of `NAME=value`.
pub(super) fn env_value<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter()
        .rev()
        .find_map(|e| e.strip_prefix(name)?.strip_prefix('='))
}
