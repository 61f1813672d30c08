//! COPY, ADD and files that are written in the Dockerfile itself.

use std::sync::Arc;

use kiln_image::SafeUrl;
use kiln_parser::{Heredoc, Ignore, Instruction, SourceArg, Span, Transfer};
use percent_encoding::percent_decode_str;

use super::budget::ENTRY;
use super::error::LowerError;
use super::run::{cwd, resolve_path};
use super::stage::{BUILD_CONTEXT, Build, Place};
use super::state::State;
use crate::lint::files::check_source;
use crate::plan::{
    Action, BuildPlatform, Copy, DOWNLOADED, File, Glob, Merge, Mkdir, ModeChange, Op, Origin,
    PathFilter, Source, SourceKind, Vertex, VertexId, WriteFile,
};

/// `--exclude` patterns.
#[derive(Debug)]
struct Excludes {
    patterns: Vec<String>,
    matcher: Ignore,
}

impl PathFilter for Excludes {
    fn excludes(&self, path: &str) -> bool {
        self.matcher.verdict(path).excluded
    }

    fn may_include_below(&self, dir: &str) -> bool {
        self.matcher.may_reinclude_below(dir)
    }

    fn patterns(&self) -> Vec<String> {
        self.patterns.clone()
    }
}

/// How the paths of one COPY or ADD are taken.
struct CopyOptions {
    dest: String,
    chown: Option<String>,
    chmod: Option<ModeChange>,
    exclude: Option<Arc<dyn PathFilter>>,
    parents: bool,
    from_stage: bool,
    /// Where the sources are, for messages.
    place: String,
}

impl CopyOptions {
    fn copy(&self, input: usize, sources: Vec<String>, unpack: bool) -> Copy {
        Copy {
            input,
            sources,
            dest: self.dest.clone(),
            chown: self.chown.clone(),
            chmod: self.chmod.clone(),
            unpack,
            exclude: self.exclude.clone(),
            parents: self.parents,
            reset_owner: !self.from_stage,
            rename_to: None,
            place: self.place.clone(),
        }
    }
}

impl CopyOptions {
    /// `scratch`, or a stage with nothing in it: only its root can be copied.
    fn copy_of_nothing(&self, sources: &[String], span: Span) -> Result<Action, LowerError> {
        if let Some(source) = sources.iter().find(|s| resolve_path("/", s) != "/") {
            let text = format!("`{source}` is not there: the source is empty");
            return Err(LowerError::new(text, span));
        }
        Ok(Action::Mkdir(Mkdir {
            path: self.dest.clone(),
            mode: ModeChange::on_the_way(self.chmod.as_ref()),
            chown: self.chown.clone(),
        }))
    }
}

impl Build<'_> {
    pub(super) fn transfer(
        &mut self,
        place: Place<'_>,
        instruction: &Instruction,
        transfer: &Transfer,
        is_add: bool,
        state: &mut State,
    ) -> Result<(), LowerError> {
        let from = self.flag(instruction, "from", state)?;
        let from = from.filter(|t| !t.value.is_empty());
        let link = self.switch(instruction, "link", state)?;
        let mut manner = self.manner(instruction, transfer, from.is_some(), state)?;
        if let Some(text) = &from {
            manner.place = self.words_for(&text.value, place, text.span)?;
        }
        // Slots are counted as if the copy were made on what is below.
        let mut inputs: Vec<VertexId> = state.tip.into_iter().collect();
        let mut paths = Vec::new();
        let (mut shown, mut documents) = (Vec::new(), Vec::new());
        let mut remote = Vec::new();
        let mut written = Vec::new();
        for source in &transfer.sources {
            match source {
                SourceArg::Heredoc(doc) => {
                    let content = if doc.expand {
                        self.document(&doc.content, state)?
                    } else {
                        doc.content.value.clone()
                    };
                    documents.push(format!("<<{}", doc.name));
                    written.push((doc.name.clone(), content));
                }
                SourceArg::Path(text) => {
                    // One path each, whatever spaces its variables bring in.
                    let word = self.word(text, state)?;
                    shown.push(word.clone());
                    match remote_kind(&word, is_add) {
                        Some(kind) => remote.push((kind, word, text.span)),
                        None => {
                            if from.is_none() {
                                let at = state.spot.at(text.span);
                                check_source(is_add, &word, at, self.findings);
                            }
                            paths.push(word);
                        }
                    }
                }
            }
        }
        let sources = paths.len() + remote.len() + written.len();
        if sources == 0 {
            let text = format!(
                "{} has no source after expansion",
                instruction.keyword.value
            );
            return Err(LowerError::new(text, instruction.span));
        }
        if let Some(checksum) = self.flag(instruction, "checksum", state)?
            && remote.is_empty()
        {
            let text = "--checksum is for sources from the web or from git";
            return Err(LowerError::new(text, checksum.span));
        }
        let unpack = self.unpack(instruction, is_add, state)?;
        let mut actions = Vec::new();
        if !paths.is_empty() {
            let vertex = match &from {
                Some(text) => self.vertex_of_from(&text.value, place, text.span)?,
                None => Some(self.context_vertex("", place)),
            };
            if let Some(bad) = paths.iter().find(|p| !Glob::is_valid(p)) {
                let text = format!("`{bad}` is not a pattern: a bracket or a backslash has no end");
                return Err(LowerError::new(text, instruction.span));
            }
            if let Some(vertex) = vertex {
                inputs.push(vertex);
                let local_archives = unpack.unwrap_or(is_add);
                let copy = manner.copy(inputs.len() - 1, paths, local_archives);
                actions.push(Action::Copy(copy));
            } else {
                actions.push(manner.copy_of_nothing(&paths, instruction.span)?);
            }
        }
        let same = manner.dest.len() + manner.chown.as_ref().map_or(0, String::len) + ENTRY;
        self.budget.take(
            same.saturating_mul(remote.len() + written.len()),
            instruction.span,
        )?;
        for (kind, address, span) in remote {
            let (kind, name) = self.remote(instruction, kind, &address, state)?;
            let kind = self.request.policy.source(kind);
            let kind = kind.map_err(|e| LowerError::new(e.to_string(), span))?;
            let is_http = matches!(kind, SourceKind::Http { .. });
            inputs.push(self.source_vertex(place, instruction, kind, &address)?);
            let source = match is_http {
                true => format!("/{DOWNLOADED}"),
                false => "/".into(),
            };
            let mut copy = manner.copy(inputs.len() - 1, vec![source], unpack.unwrap_or(false));
            copy.rename_to = is_http.then_some(name);
            copy.reset_owner = true;
            copy.place = format!("`{}`", SafeUrl::of(&address));
            actions.push(Action::Copy(copy));
        }
        for (name, content) in written {
            actions.push(Action::Write(WriteFile {
                dest: manner.dest.clone(),
                name,
                content,
                chown: manner.chown.clone(),
                chmod: manner.chmod.clone(),
            }));
        }
        shown.append(&mut documents);
        let line = created_by(is_add, &manner, &shown, &self.word(&transfer.dest, state)?);
        let file = File {
            actions,
            on_base: state.tip.is_some(),
            epoch: self.epoch,
        };
        // Names of users are those of what is below.
        let is_number = |c: &String| c.bytes().all(|b| b.is_ascii_digit() || b == b':');
        let alone = link && manner.chown.as_ref().is_none_or(is_number);
        state.tip = Some(match (alone, state.tip) {
            (true, Some(below)) => self.linked(place, instruction, below, file, &inputs)?,
            _ => self.add(place, instruction, Op::File(file), inputs)?,
        });
        self.tell_layer(state, line)
    }

    /// `--link`: a layer of its own, which need not be made again when what is below changes.
    fn linked(
        &mut self,
        place: Place<'_>,
        instruction: &Instruction,
        below: VertexId,
        file: File,
        inputs: &[VertexId],
    ) -> Result<VertexId, LowerError> {
        let sources = inputs.get(1..).unwrap_or_default();
        let mut alone = file.clone();
        alone.on_base = false;
        for action in &mut alone.actions {
            if let Action::Copy(copy) = action {
                copy.input -= 1;
            }
        }
        let vertex = self.add(place, instruction, Op::File(alone), sources.to_vec())?;
        let merge = Vertex {
            op: Op::Merge(Merge { otherwise: file }),
            inputs: [&[below, vertex], sources].concat(),
            name: format!("{} (link)", Self::name(place, &instruction.text)),
            lines: Some(self.lines_of(instruction.span)),
            ignore_cache: None,
            origin: self.origin_of_part(place, instruction, "link"),
        };
        self.add_vertex(merge, instruction.span)
    }

    fn manner(
        &self,
        instruction: &Instruction,
        transfer: &Transfer,
        from_stage: bool,
        state: &State,
    ) -> Result<CopyOptions, LowerError> {
        // A destination that expands to nothing is the working directory.
        let dest = self.word(&transfer.dest, state)?;
        let slash = dest.ends_with('/') || dest.ends_with("/.") || matches!(&*dest, "" | ".");
        let mut absolute = resolve_path(&cwd(state), &dest);
        if slash && !absolute.ends_with('/') {
            absolute.push('/');
        }
        let mut patterns = Vec::new();
        for flag in instruction
            .flags
            .iter()
            .filter(|f| f.name.value == "exclude")
        {
            if let Some(value) = &flag.value {
                // Not expanded, as in BuildKit.
                patterns.push(value.value.clone());
            }
        }
        let exclude: Option<Arc<dyn PathFilter>> = if patterns.is_empty() {
            None
        } else {
            let matcher = Ignore::from_patterns(&patterns)
                .map_err(|e| LowerError::new(format!("--exclude: {e}"), instruction.span))?;
            Some(Arc::new(Excludes { patterns, matcher }))
        };
        Ok(CopyOptions {
            dest: absolute,
            chown: self
                .flag(instruction, "chown", state)?
                .map(|t| t.value)
                .filter(|t| !t.is_empty()),
            chmod: self.chmod(instruction, state)?,
            exclude,
            parents: self.switch(instruction, "parents", state)?,
            from_stage,
            place: BUILD_CONTEXT.into(),
        })
    }

    /// `--unpack`, if it was given.
    fn unpack(
        &self,
        instruction: &Instruction,
        is_add: bool,
        state: &State,
    ) -> Result<Option<bool>, LowerError> {
        let given = is_add && super::flags::find(instruction, "unpack").is_some();
        given
            .then(|| self.switch(instruction, "unpack", state))
            .transpose()
    }

    /// The source of an address, and the name that a downloaded file gets.
    fn remote(
        &self,
        instruction: &Instruction,
        kind: Remote,
        address: &str,
        state: &State,
    ) -> Result<(SourceKind, String), LowerError> {
        let checksum = self.flag(instruction, "checksum", state)?;
        match kind {
            Remote::Git => {
                let keep = self.switch(instruction, "keep-git-dir", state)?;
                let checksum = checksum.map(|t| t.value);
                Ok((
                    SourceKind::Git {
                        url: address.to_owned(),
                        keep_git_dir: keep,
                        checksum,
                    },
                    String::new(),
                ))
            }
            Remote::Http => {
                if let Some(text) = &checksum {
                    text.value.parse::<kiln_image::Digest>().map_err(|e| {
                        LowerError::new(format!("--checksum: {e}"), text.span)
                            .with_help(Some("write --checksum=sha256:<64 hexadecimal digits>"))
                    })?;
                }
                let name = match file_name(address) {
                    name if matches!(name.as_str(), "" | "." | "..") => UNNAMED.to_owned(),
                    name => name,
                };
                let checksum = checksum.map(|t| t.value);
                Ok((
                    SourceKind::Http {
                        url: address.to_owned(),
                        checksum,
                    },
                    name,
                ))
            }
        }
    }

    fn source_vertex(
        &mut self,
        place: Place<'_>,
        instruction: &Instruction,
        kind: SourceKind,
        address: &str,
    ) -> Result<VertexId, LowerError> {
        let lines = self.lines_of(instruction.span);
        let ignore_cache = self.ignore_cache(place, Some(lines));
        let vertex = Vertex {
            op: Op::Source(Source {
                kind,
                platform: BuildPlatform(self.request.build_platform.clone()),
            }),
            inputs: vec![],
            name: format!("fetch {}", SafeUrl::of(address)),
            lines: Some(lines),
            ignore_cache,
            origin: Origin::default(),
        };
        self.add_vertex(vertex, instruction.span)
    }

    /// A tree that holds one executable file: the text of a here-document.
    pub(super) fn script_vertex(
        &mut self,
        place: Place<'_>,
        instruction: &Instruction,
        doc: &Heredoc,
    ) -> Result<VertexId, LowerError> {
        let write = WriteFile {
            dest: format!("/{}", doc.name),
            name: doc.name.clone(),
            content: doc.content.value.clone(),
            chown: None,
            chmod: Some(ModeChange {
                text: "0755".into(),
                apply: Arc::new(|_, _| 0o755),
            }),
        };
        let op = Op::File(File {
            actions: vec![Action::Write(write)],
            on_base: false,
            epoch: self.epoch,
        });
        let lines = self.lines_of(instruction.span);
        let ignore_cache = self.ignore_cache(place, Some(lines));
        let origin = self.origin_of_part(place, instruction, &doc.name);
        let vertex = Vertex {
            op,
            inputs: vec![],
            name: format!("[internal] script {}", doc.name),
            lines: Some(lines),
            ignore_cache,
            origin,
        };
        self.add_vertex(vertex, instruction.span)
    }

    /// Where one of several steps of an instruction stands.
    fn origin_of_part(&self, place: Place<'_>, instruction: &Instruction, part: &str) -> Origin {
        let origin = self.origin(place, instruction);
        Origin {
            step: format!("{} {part}", origin.step),
            instruction: format!("{} {part}", origin.instruction),
            ..origin
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Remote {
    Http,
    Git,
}

/// What kind of address a source of ADD is.
pub(super) fn remote_kind(word: &str, is_add: bool) -> Option<Remote> {
    // Parsers of addresses drop line feeds and tabs: what is fetched would not be what is written.
    if !is_add || word.contains(char::is_control) {
        return None;
    }
    let path = word.split(['#', '?']).next().unwrap_or_default();
    let is_http = word.starts_with("http://") || word.starts_with("https://");
    let is_git = word.starts_with("git://")
        || word.starts_with("ssh://")
        || word.starts_with("git@")
        || (is_http && path.ends_with(".git"));
    match (is_git, is_http) {
        (true, _) => Some(Remote::Git),
        (_, true) => Some(Remote::Http),
        _ => None,
    }
}

/// What BuildKit calls a file from the web whose address has no name for it.
const UNNAMED: &str = "__unnamed__";

/// The last part of an address's path, empty if it has none. As with BuildKit, `%20` stands for a space.
fn file_name(address: &str) -> String {
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let after_host = path.split_once("://").map_or("", |(_, rest)| rest);
    let path = after_host.split_once('/').map_or("", |(_, p)| p);
    let plain = percent_decode_str(path).decode_utf8();
    // What would be no name stays as it is written.
    let plain = plain.ok().filter(|p| !p.contains('\0'));
    let path = plain.as_deref().unwrap_or(path);
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The line of the history, as BuildKit writes it.
fn created_by(is_add: bool, manner: &CopyOptions, sources: &[String], dest: &str) -> String {
    let mut line = String::from(if is_add { "ADD" } else { "COPY" });
    if manner.parents {
        line.push_str(" --parents");
    }
    if let Some(chown) = &manner.chown {
        line.push_str(&format!(" --chown={chown}"));
    }
    if let Some(chmod) = &manner.chmod {
        line.push_str(&format!(" --chmod={}", chmod.text));
    }
    for source in sources {
        line.push(' ');
        line.push_str(SafeUrl::of(source).as_str());
    }
    format!("{line} {dest} # buildkit")
}
