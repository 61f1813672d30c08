//! The state of a stage while its instructions are lowered, and the plan that grows from all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_image::{History, SafeUrl};
use kiln_parser::{Expanded, Instruction, Kind, LineIndex, Span, Text, nearest};

use super::args::{BUILTIN_ARGS, Globals, PROXY_ARGS};
use super::budget::{Budget, ENTRY, of_list};
use super::epoch;
use super::error::{LowerError, LowerWarning};
use super::outline::OutlineInputs;
use super::run::lone_heredoc;
use super::stages::{Base, Stage};
use super::state::{Chronicle, State};
use super::{Lowered, Request};
use crate::key::digest_of;
use crate::lint::{self, Findings, Location};
use crate::plan::{Lines, Op, Origin, Plan, Vertex, VertexId};
use crate::ports::ResolvedImage;

/// The main context, in words for messages.
pub(super) const BUILD_CONTEXT: &str = "the build context";

/// Everything that is shared while stages are lowered.
pub(super) struct Build<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) globals: &'a Globals,
    pub(super) lines: &'a LineIndex<'a>,
    pub(super) images: BTreeMap<(String, String), Arc<ResolvedImage>>,
    pub(super) budget: &'a Budget,
    pub(super) plan: Plan,
    /// Those of stages that others will start from, and of the target.
    states: BTreeMap<usize, State>,
    /// How often those of stages will be asked for.
    uses: BTreeMap<usize, usize>,
    /// The results of stages.
    pub(super) tips: BTreeMap<usize, Option<VertexId>>,
    chronicle: Chronicle,
    pub(super) warnings: Vec<LowerWarning>,
    pub(super) used_args: BTreeSet<String>,
    pub(super) findings: &'a Findings,
    /// What stages take from outside, for the outline.
    pub(super) intake: BTreeMap<usize, OutlineInputs>,
    /// Steps that are not needed.
    pub(super) skipped: Vec<(String, Lines)>,
    /// Which of the steps that were named for running again are there.
    pub(super) reruns: BTreeSet<usize>,
    /// `SOURCE_DATE_EPOCH` in seconds.
    pub(super) epoch: Option<u64>,
    /// Images that are not known: what is among `images` says nothing of them.
    pub(super) unknown: BTreeSet<(String, String)>,
}

/// Where an instruction stands: its stage and number.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) stages: &'a [Stage],
    pub(super) stage: usize,
    pub(super) number: usize,
    pub(super) total: usize,
}

impl<'a> Build<'a> {
    pub(super) fn new(
        request: &'a Request<'a>,
        globals: &'a Globals,
        lines: &'a LineIndex<'a>,
        images: BTreeMap<(String, String), Arc<ResolvedImage>>,
        budget: &'a Budget,
        findings: &'a Findings,
    ) -> Self {
        Self {
            request,
            globals,
            lines,
            images,
            budget,
            plan: Plan::default(),
            states: BTreeMap::new(),
            uses: BTreeMap::new(),
            tips: BTreeMap::new(),
            chronicle: Chronicle::default(),
            warnings: Vec::new(),
            used_args: BTreeSet::new(),
            findings,
            intake: BTreeMap::new(),
            skipped: Vec::new(),
            reruns: BTreeSet::new(),
            epoch: None,
            unknown: BTreeSet::new(),
        }
    }

    pub(super) fn escape(&self) -> char {
        self.request.dockerfile.directives.escape
    }

    /// Expands a word in the environment of a stage.
    pub(super) fn word(&self, text: &Text, state: &State) -> Result<String, LowerError> {
        let expanded = self
            .budget
            .word(&text.value, self.escape(), state, text.span)?;
        self.check_variables(text, &expanded, state);
        Ok(expanded.text)
    }

    /// Expands a word that may become several.
    pub(super) fn words(&self, text: &Text, state: &State) -> Result<Vec<String>, LowerError> {
        self.budget
            .words(&text.value, self.escape(), state, text.span)
    }

    /// Expands variables in a here-document and keeps quotes. Its escape is a backslash whatever the file's is.
    pub(super) fn document(&self, text: &Text, state: &State) -> Result<String, LowerError> {
        let expanded = self.budget.raw(&text.value, '\\', state, text.span)?;
        self.check_variables(text, &expanded, state);
        Ok(expanded.text)
    }

    fn check_variables(&self, text: &Text, expanded: &Expanded, state: &State) {
        // Who knows what an image sets that nobody knows.
        if state.base_unknown {
            return;
        }
        // A default in the word does not help: nothing can ever take its place.
        let names = expanded.used.iter().map(String::as_str);
        let unset: Vec<&str> = names.filter(|n| !state.scope.contains(n)).collect();
        if unset.is_empty() {
            return;
        }
        let declared = |name: &str| state.args.contains(name);
        let visible = || state.names();
        lint::variables::check(text, &unset, declared, visible, state.spot, self.findings);
    }

    pub(super) fn lines_of(&self, span: Span) -> Lines {
        let last = span.end.max(span.start + 1) - 1;
        Lines {
            first: self.lines.line(span.start),
            last: self.lines.line(last),
        }
    }

    /// The bracketed prefix of a step's name.
    pub(super) fn name(place: Place<'_>, text: &str) -> String {
        let stage = match &place.stages[place.stage].name {
            Some(name) => format!("{name} "),
            None if place.stages.len() > 1 => format!("stage-{} ", place.stage),
            None => String::new(),
        };
        // Names are shown and stored: a token in an address is not.
        let text = SafeUrl::of_words(text);
        format!("[{stage}{}/{}] {text}", place.number, place.total)
    }

    /// Adds a vertex for an instruction.
    pub(super) fn add(
        &mut self,
        place: Place<'_>,
        instruction: &Instruction,
        op: Op,
        inputs: Vec<VertexId>,
    ) -> Result<VertexId, LowerError> {
        let origin = self.origin(place, instruction);
        self.add_as(place, instruction, origin, op, inputs)
    }

    /// Adds a vertex for an instruction, which explanations call by `origin`.
    pub(super) fn add_as(
        &mut self,
        place: Place<'_>,
        instruction: &Instruction,
        origin: Origin,
        op: Op,
        inputs: Vec<VertexId>,
    ) -> Result<VertexId, LowerError> {
        let lines = self.lines_of(instruction.span);
        let ignore_cache = self.ignore_cache(place, Some(lines));
        let vertex = Vertex {
            op,
            inputs,
            name: Self::name(place, &title(instruction)),
            lines: Some(lines),
            ignore_cache,
            origin,
        };
        self.add_vertex(vertex, instruction.span)
    }

    /// Adds a vertex for what stands at `span`.
    pub(super) fn add_vertex(
        &mut self,
        vertex: Vertex,
        span: Span,
    ) -> Result<VertexId, LowerError> {
        let origin = &vertex.origin;
        let names = [&vertex.name, &origin.step, &origin.instruction];
        let lists = of_list(names);
        let env = match &vertex.op {
            Op::Exec(exec) => exec.env.len() * ENTRY,
            _ => 0,
        };
        let before = self.plan.encoded();
        let id = self.plan.add(vertex);
        let encoded = usize::try_from(self.plan.encoded() - before).unwrap_or(usize::MAX);
        self.budget
            .take(encoded.saturating_add(lists + env), span)?;
        Ok(id)
    }

    /// The history of a stage goes on.
    pub(super) fn tell(&mut self, state: &mut State, line: String) -> Result<(), LowerError> {
        self.tell_of(state, line, None)
    }

    /// The history of a stage goes on with a layer.
    pub(super) fn tell_layer(&mut self, state: &mut State, line: String) -> Result<(), LowerError> {
        self.tell_of(state, line, Some(state.spot.about))
    }

    fn tell_of(
        &mut self,
        state: &mut State,
        line: String,
        layer: Option<Span>,
    ) -> Result<(), LowerError> {
        self.budget.take(line.len() + ENTRY, state.spot.about)?;
        state.history = Some(self.chronicle.add(state.history, line, layer));
        Ok(())
    }

    /// Where an instruction stands, for explanations.
    pub(super) fn origin(&self, place: Place<'_>, instruction: &Instruction) -> Origin {
        let stage = match &place.stages[place.stage].name {
            Some(name) => name.clone(),
            None => place.stage.to_string(),
        };
        Origin {
            project: self.request.project.clone(),
            step: format!("{stage}:{}", place.number),
            instruction: digest_of(&*instruction.text),
        }
    }

    /// Notes the steps of a stage that is not needed.
    pub(super) fn skip(&mut self, stages: &[Stage], index: usize) -> Result<(), LowerError> {
        let steps = stages[index].own().iter().filter(|i| makes_layer(&i.kind));
        let steps: Vec<&Instruction> = steps.collect();
        for (number, instruction) in steps.iter().enumerate() {
            let place = Place {
                stages,
                stage: index,
                number: number + 2,
                total: steps.len() + 1,
            };
            let name = Self::name(place, &title(instruction));
            self.budget.take(name.len() + ENTRY, instruction.span)?;
            self.skipped.push((name, self.lines_of(instruction.span)));
        }
        Ok(())
    }

    /// Counts how many stages start from each of those that are `needed`, so that a state goes to the last
    /// of them without a copy.
    pub(super) fn count_uses(&mut self, stages: &[Stage], needed: &BTreeSet<usize>, target: usize) {
        let bases = needed
            .iter()
            .filter_map(|index| match stages.get(*index)?.base {
                Base::Stage(base) => Some(base),
                _ => None,
            });
        for used in bases.chain([target]) {
            *self.uses.entry(used).or_default() += 1;
        }
    }

    /// The state of a stage, from which the one at `span` starts.
    pub(super) fn state_of(&mut self, index: usize, span: Span) -> Result<State, LowerError> {
        let missing = || LowerError::new("the base stage was not lowered", span);
        let uses = self.uses.entry(index).or_default();
        *uses = uses.saturating_sub(1);
        if *uses == 0 {
            return self.states.remove(&index).ok_or_else(missing);
        }
        let state = self.states.get(&index).ok_or_else(missing)?;
        self.budget.take(state.size(), span)?;
        Ok(state.clone())
    }

    pub(super) fn stage(&mut self, stages: &[Stage], index: usize) -> Result<(), LowerError> {
        let stage = &stages[index];
        let body = &stage.body;
        self.take_in_from(stage, index);
        let steps = body.iter().filter(|i| makes_layer(&i.kind)).count();
        let mut place = Place {
            stages,
            stage: index,
            number: 1,
            total: steps + 1,
        };
        let mut state = self.base_state(stage, place)?;
        state.config.config.on_build.clear();
        for (number, instruction) in body.iter().enumerate() {
            if makes_layer(&instruction.kind) {
                place.number += 1;
            }
            state.spot = Location {
                about: instruction.span,
                trigger: number < stage.triggers,
            };
            let shell = !state.config.config.shell.is_empty();
            let (spot, findings) = (state.spot, self.findings);
            state.seen.instruction(instruction, spot, shell, findings);
            self.instruction(place, instruction, &mut state)?;
        }
        self.tips.insert(index, state.tip);
        if self.uses.get(&index).is_some_and(|uses| *uses > 0) {
            self.states.insert(index, state);
        }
        Ok(())
    }

    /// What may have been meant by an argument that nothing uses, as the end of a sentence.
    fn argument_meant(&self, name: &str) -> String {
        let instructions = self.request.dockerfile.instructions.iter();
        let declared = instructions.flat_map(|instruction| match &instruction.kind {
            Kind::Arg(list) => list.as_slice(),
            _ => &[],
        });
        let declared = declared.map(|arg| arg.name.value.as_str());
        let declared: BTreeSet<&str> = declared.collect();
        if declared.contains(name) {
            return ": only stages that are not built declare it".into();
        }
        let declared: Vec<&str> = declared.into_iter().collect();
        match nearest(name, &declared) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => String::new(),
        }
    }

    /// The result for the first of `chain`, the stages that the target starts from.
    pub(super) fn finish(
        mut self,
        stages: &[Stage],
        chain: &[usize],
    ) -> Result<Lowered, LowerError> {
        let outline = self.outline(stages, chain);
        let mut state = chain
            .first()
            .and_then(|target| self.states.remove(target))
            .ok_or_else(|| LowerError::nowhere("the target stage was not lowered"))?;
        let labels = &mut state.config.config.labels;
        labels.extend(
            self.request
                .labels
                .iter()
                .map(|(k, v)| (k.clone(), v.clone())),
        );
        for name in self.request.build_args.keys() {
            let known = self.used_args.contains(name)
                || self.globals.declared.contains_key(name)
                || self.globals.predefined.contains_key(name)
                || PROXY_ARGS.contains(&name.as_str())
                || BUILTIN_ARGS.contains(&name.as_str())
                || name == epoch::NAME;
            if !known {
                self.warnings.push(LowerWarning {
                    message: format!(
                        "build argument `{name}` was given and nothing uses it{}",
                        self.argument_meant(name)
                    ),
                    span: None,
                });
            }
        }
        let (history, layers) = self.chronicle.until(state.history);
        let mut config = state.config;
        if self.request.platform_given {
            config.set_platform(&self.request.platform);
        }
        config.rootfs.diff_ids.clear();
        config.history = state
            .base
            .as_ref()
            .map_or_else(Vec::<History>::new, |b| b.config.history.clone());
        Ok(Lowered {
            plan: self.plan,
            target: state.tip,
            config,
            base: state.base.map(Arc::unwrap_or_clone),
            history,
            layers,
            outline,
            skipped: self.skipped,
            warnings: self.warnings,
            epoch: self.epoch,
            without: Vec::new(),
        })
    }
}

/// Whether an instruction is counted as a step.
fn makes_layer(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_)
    )
}

/// What an instruction is called: its text, and of a script in a here-document the first line, as BuildKit
/// shows it.
fn title(instruction: &Instruction) -> String {
    let document = match &instruction.kind {
        Kind::Run(command) => lone_heredoc(command),
        _ => None,
    };
    let script = document.map(|document| document.content.value.trim());
    let mut lines = script.unwrap_or_default().lines();
    let Some(first) = lines.next().map(str::trim_end) else {
        return instruction.text.to_string();
    };
    let more = if lines.next().is_some() { "..." } else { "" };
    format!("{} ({first}{more})", instruction.text)
}
