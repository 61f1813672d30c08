//! The state of a stage while its instructions are lowered, and the plan that grows from all.

use std::collections::{BTreeMap, BTreeSet};

use kiln_image::{History, ImageConfig, Platform};
use kiln_parser::{
    Expanded, Instruction, Kind, LineIndex, Lookup, Span, Text, expand_raw, expand_word,
    expand_words, nearest,
};

use super::args::{BUILTIN_ARGS, Globals, PROXY_ARGS};
use super::epoch;
use super::error::{LowerError, LowerWarning};
use super::outline::Intake;
use super::run::lone_heredoc;
use super::stages::{self, Base, Stage};
use super::state::{DEFAULT_PATH, State, env_value};
use super::transfer::without_credentials;
use super::{HistoryLine, Lowered, NamedContext, Request};
use crate::explain::Origin;
use crate::key::digest_of;
use crate::lint::{self, Findings, Spot};
use crate::plan::{
    Action, BuildPlatform, Copy, File, Lines, Op, Plan, Source, SourceKind, Vertex, VertexId,
};
use crate::ports::ResolvedImage;

/// The main context, in words for messages.
pub(super) const BUILD_CONTEXT: &str = "the build context";

/// Everything that is shared while stages are lowered.
pub(super) struct Build<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) globals: &'a Globals,
    pub(super) lines: &'a LineIndex<'a>,
    pub(super) images: BTreeMap<(String, String), ResolvedImage>,
    pub(super) plan: Plan,
    pub(super) states: BTreeMap<usize, State>,
    pub(super) warnings: Vec<LowerWarning>,
    pub(super) used_args: BTreeSet<String>,
    pub(super) findings: &'a Findings,
    /// What stages take from outside, for the outline.
    pub(super) intake: BTreeMap<usize, Intake>,
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
        images: BTreeMap<(String, String), ResolvedImage>,
        findings: &'a Findings,
    ) -> Self {
        Self {
            request,
            globals,
            lines,
            images,
            plan: Plan::default(),
            states: BTreeMap::new(),
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
        let expanded = expand_word(&text.value, self.escape(), state)
            .map_err(|e| LowerError::expand(&e, text.span))?;
        self.check_variables(text, &expanded, state);
        Ok(expanded.text)
    }

    /// Expands a word that may become several.
    pub(super) fn words(&self, text: &Text, state: &State) -> Result<Vec<String>, LowerError> {
        expand_words(&text.value, self.escape(), state)
            .map_err(|e| LowerError::expand(&e, text.span))
    }

    /// Expands variables in a here-document and keeps quotes. Its escape is a backslash whatever the file's is.
    pub(super) fn document(&self, text: &Text, state: &State) -> Result<String, LowerError> {
        let expanded =
            expand_raw(&text.value, '\\', state).map_err(|e| LowerError::expand(&e, text.span))?;
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
        let unset: Vec<&str> = names.filter(|n| state.get(n).is_none()).collect();
        if unset.is_empty() {
            return;
        }
        let declared = |name: &str| state.args.iter().any(|(n, _)| n == name);
        let env = state.config.config.env.iter();
        let visible: Vec<&str> = env
            .map(|entry| entry.split('=').next().unwrap_or_default())
            .chain(state.args.iter().map(|(name, _)| name.as_str()))
            .collect();
        lint::variables::check(text, &unset, declared, &visible, state.spot, self.findings);
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
        let words = text.split_whitespace().map(without_credentials);
        let text = words.collect::<Vec<_>>().join(" ");
        format!("[{stage}{}/{}] {text}", place.number, place.total)
    }

    /// Adds a vertex for an instruction.
    pub(super) fn add(
        &mut self,
        place: Place<'_>,
        instruction: &Instruction,
        op: Op,
        inputs: Vec<VertexId>,
    ) -> VertexId {
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
    ) -> VertexId {
        let lines = self.lines_of(instruction.span);
        let ignore_cache = self.ignore_cache(place, Some(lines));
        self.plan.add(Vertex {
            op,
            inputs,
            name: Self::name(place, &title(instruction)),
            lines: Some(lines),
            ignore_cache,
            origin,
        })
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
            ..Origin::default()
        }
    }

    /// Notes the steps of a stage that is not needed.
    pub(super) fn skip(&mut self, stages: &[Stage], index: usize) {
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
            self.skipped.push((name, self.lines_of(instruction.span)));
        }
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
            state.spot = Spot {
                about: instruction.span,
                trigger: number < stage.triggers,
            };
            let shell = !state.config.config.shell.is_empty();
            let (spot, findings) = (state.spot, self.findings);
            state.seen.instruction(instruction, spot, shell, findings);
            self.instruction(place, instruction, &mut state)?;
        }
        self.states.insert(index, state);
        Ok(())
    }

    fn base_state(&mut self, stage: &Stage, place: Place<'_>) -> Result<State, LowerError> {
        let scratch = |platform: &Platform| {
            let mut config = ImageConfig::for_platform(platform);
            config.config.working_dir = "/".into();
            config
        };
        let mut state = match &stage.base {
            Base::Stage(index) => {
                let mut state = self.states.get(index).cloned().ok_or_else(|| {
                    LowerError::new("the base stage was not lowered", stage.from.span)
                })?;
                state.own_cmd = false;
                state.seen = state.seen.of_child();
                state
            }
            Base::Scratch => State::new(stage, scratch(&stage.platform)),
            Base::Context(name) => {
                let context = self.context_vertex(name, place);
                State {
                    tip: Some(self.tree_as_layer(context, stage, place)),
                    history: vec![HistoryLine {
                        created_by: format!("FROM {name}"),
                        empty: false,
                    }],
                    layers: vec![stage.from.span],
                    ..State::new(stage, scratch(&stage.platform))
                }
            }
            Base::Image(reference) => {
                let tip = self.image_vertex(reference, &stage.platform, place, stage.from.span)?;
                let key = (reference.clone(), stage.platform.to_string());
                let image = self.images.get(&key).cloned().ok_or_else(|| {
                    LowerError::new(format!("`{reference}` was not resolved"), stage.from.span)
                })?;
                State {
                    tip: Some(tip),
                    base: Some(image.clone()),
                    base_unknown: self.unknown.contains(&key),
                    ..State::new(stage, image.config)
                }
            }
        };
        if env_value(&state.config.config.env, "PATH").is_none() {
            state.config.config.env.push(DEFAULT_PATH.into());
        }
        // The image's environment counts anew, also over arguments of the stage that it is from.
        for entry in state.config.config.env.clone() {
            let (name, value) = entry.split_once('=').unwrap_or((&entry, ""));
            state.set(name, value);
        }
        Ok(state)
    }

    /// A directory as the lowest layer of a stage.
    fn tree_as_layer(&mut self, tree: VertexId, stage: &Stage, place: Place<'_>) -> VertexId {
        let copy = Copy {
            input: 0,
            sources: vec!["/".into()],
            dest: "/".into(),
            chown: None,
            chmod: None,
            unpack: false,
            exclude: None,
            parents: false,
            reset_owner: true,
            rename_to: None,
            place: "the context".into(),
        };
        let file = File {
            actions: vec![Action::Copy(copy)],
            on_base: false,
            epoch: self.epoch,
        };
        let place = Place { number: 1, ..place };
        self.add(place, &stage.from, Op::File(file), vec![tree])
    }

    /// The vertex of an image, for FROM, `COPY --from` and mounts.
    pub(super) fn image_vertex(
        &mut self,
        reference: &str,
        platform: &Platform,
        place: Place<'_>,
        span: Span,
    ) -> Result<VertexId, LowerError> {
        let image = self
            .images
            .get(&(reference.to_owned(), platform.to_string()))
            .ok_or_else(|| {
                LowerError::new(format!("image `{reference}` was not resolved"), span)
            })?;
        let kind = SourceKind::Image {
            reference: image.reference.clone(),
            config: image.config_digest.clone(),
        };
        let name = Self::name(
            Place { number: 1, ..place },
            &format!("FROM {}", image.reference),
        );
        Ok(self.plan.add(Vertex {
            op: Op::Source(Source {
                kind,
                platform: BuildPlatform(platform.clone()),
            }),
            inputs: vec![],
            name,
            lines: Some(self.lines_of(span)),
            ignore_cache: None,
            origin: Origin::default(),
        }))
    }

    /// The vertex of a context; an empty name is the main one.
    pub(super) fn context_vertex(&mut self, name: &str, place: Place<'_>) -> VertexId {
        let (kind, label) = match self.request.contexts.get(name) {
            Some(NamedContext::Source(kind)) => (kind.clone(), format!("[context {name}] load")),
            _ => (
                self.request.context.clone(),
                "[internal] load build context".to_owned(),
            ),
        };
        let ignore_cache = self
            .ignore_cache(place, None)
            .filter(|_| !matches!(kind, SourceKind::Context { .. }));
        self.plan.add(Vertex {
            op: Op::Source(Source {
                kind,
                platform: BuildPlatform(self.request.build_platform.clone()),
            }),
            inputs: vec![],
            name: label,
            lines: None,
            ignore_cache,
            origin: Origin::default(),
        })
    }

    /// The vertex that `--from=text` or `from=text` means; none is an empty tree.
    pub(super) fn vertex_of_from(
        &mut self,
        text: &str,
        place: Place<'_>,
        span: Span,
    ) -> Result<Option<VertexId>, LowerError> {
        match stages::from_of(text, place.stages, place.stage, self.request, span)? {
            Base::Scratch => Ok(None),
            Base::Stage(index) => {
                let state = self.states.get(&index).ok_or_else(|| {
                    LowerError::new(format!("stage `{text}` was not lowered"), span)
                })?;
                Ok(state.tip)
            }
            Base::Context(name) => Ok(Some(self.context_vertex(&name, place))),
            Base::Image(reference) => {
                let platform = self.request.platform.clone();
                self.image_vertex(&reference, &platform, place, span)
                    .map(Some)
            }
        }
    }

    /// What `--from=text` or `from=text` means, in words for messages.
    pub(super) fn words_for(
        &self,
        text: &str,
        place: Place<'_>,
        span: Span,
    ) -> Result<String, LowerError> {
        let base = stages::from_of(text, place.stages, place.stage, self.request, span)?;
        Ok(match base {
            Base::Scratch => "an empty tree".into(),
            Base::Stage(index) => match place.stages.get(index).and_then(|s| s.name.as_ref()) {
                Some(name) => format!("stage `{name}`"),
                None => format!("stage {index}"),
            },
            Base::Context(name) => format!("context `{name}`"),
            Base::Image(reference) => format!("image `{reference}`"),
        })
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
            base: state.base,
            history: state.history,
            layers: state.layers,
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
