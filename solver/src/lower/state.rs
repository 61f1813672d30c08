//! What is known of a stage while its instructions are lowered.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_image::{ImageConfig, Platform};
use kiln_parser::{Lookup, Span};

use super::HistoryLine;
use super::budget::{ENTRY, of_config};
use super::stages::Stage;
use super::variables::Variables;
use crate::lint::Location;
use crate::lint::seen::Seen;
use crate::plan::VertexId;
use crate::ports::ResolvedImage;

pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage that has been lowered as far as its last instruction.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) tip: Option<VertexId>,
    pub(super) config: ImageConfig,
    pub(super) base: Option<Arc<ResolvedImage>>,
    /// The base is an image of which nothing is known.
    pub(super) base_unknown: bool,
    /// The last line of its history.
    pub(super) history: Option<LineId>,
    /// Declared arguments in order, with their values.
    pub(super) args: Variables<Option<String>>,
    /// What steps and words see: of ENV and ARG of one name, the later counts.
    pub(super) scope: Variables<String>,
    /// Where the variables of the config are in its list.
    env: HashMap<String, usize>,
    pub(super) platform: Platform,
    /// CMD was given in this stage, so that ENTRYPOINT does not clear it.
    pub(super) own_cmd: bool,
    /// What checks remember.
    pub(super) seen: Seen,
    /// The instruction that is lowered.
    pub(super) spot: Location,
}

/// A line of history among those of all stages.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineId(usize);

/// The history of all stages. One goes on where the stage that it starts from ends, so that they share the
/// lines before.
#[derive(Debug, Default)]
pub(super) struct Chronicle(Vec<Told>);

#[derive(Debug)]
struct Told {
    line: HistoryLine,
    /// The instruction of the layer that belongs to it.
    layer: Option<Span>,
    before: Option<LineId>,
}

impl Chronicle {
    /// Adds a line, and the layer that belongs to it.
    pub(super) fn add(
        &mut self,
        before: Option<LineId>,
        created_by: String,
        layer: Option<Span>,
    ) -> LineId {
        let line = HistoryLine {
            created_by,
            empty: layer.is_none(),
        };
        self.0.push(Told {
            line,
            layer,
            before,
        });
        LineId(self.0.len() - 1)
    }

    /// All lines as far as `last`, and the instructions of their layers.
    pub(super) fn until(&self, last: Option<LineId>) -> (Vec<HistoryLine>, Vec<Span>) {
        let told = |id: LineId| self.0.get(id.0);
        let mut lines = Vec::new();
        let mut layers = Vec::new();
        let all = std::iter::successors(last.and_then(told), |at| at.before.and_then(told));
        for at in all {
            lines.push(at.line.clone());
            layers.extend(at.layer);
        }
        lines.reverse();
        layers.reverse();
        (lines, layers)
    }
}

impl State {
    pub(super) fn new(stage: &Stage, config: ImageConfig) -> Self {
        let mut state = Self {
            tip: None,
            config,
            base: None,
            base_unknown: false,
            history: None,
            args: Variables::default(),
            scope: Variables::default(),
            env: HashMap::new(),
            platform: stage.platform.clone(),
            own_cmd: false,
            seen: Seen::default(),
            spot: Location {
                about: stage.from.span,
                trigger: false,
            },
        };
        for (at, entry) in state.config.config.env.iter().enumerate() {
            let name = entry.split('=').next().unwrap_or_default();
            state.env.entry(name.to_owned()).or_insert(at);
        }
        state
    }

    /// What a copy takes.
    pub(super) fn size(&self) -> usize {
        let args = self.args.in_order().into_iter();
        let args = args.map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len));
        let scope = self.scope.in_order().into_iter();
        let scope = scope.map(|(name, value)| name.len() + value.len());
        let variables: usize = args.chain(scope).map(|bytes| bytes + 2 * ENTRY).sum();
        let places: usize = self.env.keys().map(|name| name.len() + ENTRY).sum();
        of_config(&self.config) + variables + places
    }
}

impl Lookup for State {
    fn get(&self, name: &str) -> Option<String> {
        self.scope.get(name).cloned()
    }
}

impl State {
    /// Sets a variable for the instructions that follow; it comes last in their environment.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.scope.set_last(name, value.to_owned());
    }

    /// Sets a variable of the image, in its place if it has one.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let env = &mut self.config.config.env;
        match self.env.get(name).and_then(|at| env.get_mut(*at)) {
            Some(old) => *old = entry,
            None => {
                self.env.insert(name.to_owned(), env.len());
                env.push(entry);
            }
        }
    }

    /// Whether the image sets a variable.
    pub(super) fn has_env(&self, name: &str) -> bool {
        let entry = self
            .env
            .get(name)
            .and_then(|at| self.config.config.env.get(*at));
        entry.is_some_and(|entry| entry.len() > name.len())
    }

    /// Names of variables that have a value or may get one.
    pub(super) fn names(&self) -> Vec<&str> {
        let env = self.env.keys().map(String::as_str);
        let mut names: Vec<&str> = env.chain(self.args.names()).collect();
        // Of names that are equally near, the same one is suggested each time.
        names.sort_unstable();
        names
    }

    /// Whether a variable is an argument, and not part of the image.
    pub(super) fn is_argument(&self, name: &str) -> bool {
        self.args.names().any(|own| own == name) && !self.has_env(name)
    }

    /// Declares an argument: a second time keeps its place.
    pub(super) fn declare(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = &value {
            self.set(name, value);
        }
        self.args.set(name, value);
    }
}
