//! What a stage, a copy or a mount starts from: an image, a context, another stage, nothing.

use kiln_image::{ImageConfig, Platform};
use kiln_parser::Span;

use super::NamedContext;
use super::budget::{ENTRY, of_config, of_list};
use super::error::LowerError;
use super::stage::{Build, Place};
use super::stages::{self, Base, Stage};
use super::state::{DEFAULT_PATH, State};
use crate::plan::{
    Action, BuildPlatform, Copy, File, Op, Origin, Source, SourceKind, Vertex, VertexId,
};

impl Build<'_> {
    /// What a stage begins with.
    pub(super) fn base_state(
        &mut self,
        stage: &Stage,
        place: Place<'_>,
    ) -> Result<State, LowerError> {
        let scratch = |platform: &Platform| {
            let mut config = ImageConfig::for_platform(platform);
            config.config.working_dir = "/".into();
            config
        };
        let mut state = match &stage.base {
            Base::Stage(index) => {
                let mut state = self.state_of(*index, stage.from.span)?;
                state.own_cmd = false;
                state.seen = state.seen.of_child();
                state
            }
            Base::Scratch => State::new(stage, scratch(&stage.platform)),
            Base::Context(name) => {
                let context = self.context_vertex(name, place);
                let mut state = State::new(stage, scratch(&stage.platform));
                state.tip = Some(self.tree_as_layer(context, stage, place)?);
                self.tell_layer(&mut state, format!("FROM {name}"))?;
                state
            }
            Base::Image(reference) => {
                let tip = self.image_vertex(reference, &stage.platform, place, stage.from.span)?;
                let key = (reference.clone(), stage.platform.to_string());
                let image = self.images.get(&key).cloned().ok_or_else(|| {
                    LowerError::new(format!("`{reference}` was not resolved"), stage.from.span)
                })?;
                // Its own history is taken from the image in the end.
                let mut config = image.config.clone();
                config.history.clear();
                config.rootfs.diff_ids.clear();
                self.budget
                    .take(of_config(&image.config), stage.from.span)?;
                let mut state = State::new(stage, config);
                state.tip = Some(tip);
                state.base = Some(image);
                state.base_unknown = self.unknown.contains(&key);
                state
            }
        };
        if !state.has_env("PATH") {
            state.set_env("PATH", DEFAULT_PATH);
        }
        // The image's environment counts anew, also over arguments of the stage that it is from.
        let env = state.config.config.env.clone();
        self.budget.take(of_list(&env), stage.from.span)?;
        for entry in env {
            let (name, value) = entry.split_once('=').unwrap_or((&entry, ""));
            state.set(name, value);
        }
        Ok(state)
    }

    /// A directory as the lowest layer of a stage.
    fn tree_as_layer(
        &mut self,
        tree: VertexId,
        stage: &Stage,
        place: Place<'_>,
    ) -> Result<VertexId, LowerError> {
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
            name: image.name.clone(),
            id: image.id.clone(),
        };
        let name = Self::name(
            Place { number: 1, ..place },
            &format!("FROM {}", image.name),
        );
        let vertex = Vertex {
            op: Op::Source(Source {
                kind,
                platform: BuildPlatform(platform.clone()),
            }),
            inputs: vec![],
            name,
            lines: Some(self.lines_of(span)),
            ignore_cache: None,
            origin: Origin::default(),
        };
        self.add_vertex(vertex, span)
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
        self.budget.look_at(place.stages.len(), span)?;
        match stages::from_of(text, place.stages, place.stage, self.request, span)? {
            Base::Scratch => Ok(None),
            Base::Stage(index) => self
                .tips
                .get(&index)
                .copied()
                .ok_or_else(|| LowerError::new(format!("stage `{text}` was not lowered"), span)),
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
        self.budget.look_at(place.stages.len(), span)?;
        let base = stages::from_of(text, place.stages, place.stage, self.request, span)?;
        let words = match base {
            Base::Scratch => "an empty tree".into(),
            Base::Stage(index) => match place.stages.get(index).and_then(|s| s.name.as_ref()) {
                Some(name) => format!("stage `{name}`"),
                None => format!("stage {index}"),
            },
            Base::Context(name) => format!("context `{name}`"),
            Base::Image(reference) => format!("image `{reference}`"),
        };
        self.budget.take(words.len() + ENTRY, span)?;
        Ok(words)
    }
}
