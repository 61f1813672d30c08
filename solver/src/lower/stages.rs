//! The stages of a Dockerfile, which of them a target needs, and which images they need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_image::Platform;
use kiln_parser::flags::{MountType, parse_mount};
use kiln_parser::{Instruction, Kind, Lookup, Severity, Span, nearest, parse_instruction};

use super::args::Globals;
use super::budget::{Budget, of_list};
use super::error::LowerError;
use super::run::as_written;
use super::{NamedContext, Request};
use crate::lint::from::{FromWords, check_base_platform, check_default_name};
use crate::lint::{At, Findings};
use crate::ports::{PortError, ResolvedImage};

/// What an instruction takes beside its text.
const INSTRUCTION: usize = 2 << 10;

/// The name of the empty image.
pub(super) const SCRATCH: &str = "scratch";

/// What a stage starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Scratch,
    Stage(usize),
    Image(String),
    Context(String),
}

/// One stage.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) name: Option<String>,
    pub(super) base: Base,
    /// A context takes the place of what its FROM names.
    pub(super) base_given: bool,
    pub(super) from: Instruction,
    pub(super) platform: Platform,
    /// Its instructions; triggers of the base come first.
    pub(super) body: Vec<Instruction>,
    pub(super) triggers_added: bool,
    /// How many of the instructions are triggers of the base image.
    pub(super) triggers: usize,
}

impl Stage {
    /// The instructions that the file itself has.
    pub(super) fn own(&self) -> &[Instruction] {
        self.body.get(self.triggers..).unwrap_or_default()
    }
}

pub(super) fn split(
    request: &Request<'_>,
    globals: &Globals,
    budget: &Budget,
    findings: &Findings,
) -> Result<Vec<Stage>, LowerError> {
    let mut stages: Vec<Stage> = Vec::new();
    let escape = request.dockerfile.directives.escape;
    let names = globals.names();
    check_default_names(request, budget, findings);
    for instruction in &request.dockerfile.instructions {
        match (&instruction.kind, stages.last_mut()) {
            (Kind::From { image, alias, .. }, _) => {
                let name = alias.as_ref().map(|a| a.value.to_lowercase());
                let target = globals.get("TARGETPLATFORM");
                let from = FromWords {
                    about: instruction.span,
                    declared: &names,
                    stage: name.as_deref().unwrap_or_default(),
                    target: target.as_deref(),
                };
                let expanded = budget.word(&image.value, escape, globals, image.span)?;
                budget.look_at(stages.len(), instruction.span)?;
                let set = |name: &str| globals.get(name).is_some();
                from.word(image, &expanded, set, findings);
                let text = expanded.text;
                if text.is_empty() {
                    let help = "a global ARG before the first FROM can give it a default";
                    return Err(LowerError::new(
                        format!("base name `{}` is empty after expansion", image.value),
                        image.span,
                    )
                    .with_help(Some(help)));
                }
                let base = base_of(&text, &stages, request);
                let base_given = named_context(&text, request).is_some();
                let mut platform =
                    platform_of(instruction, request, globals, budget, &from, findings)?;
                // As BuildKit: nothing is for any platform, so that it is for that of the build.
                if text == SCRATCH && base == Base::Scratch {
                    platform = request.platform.clone();
                }
                stages.push(Stage {
                    name,
                    base,
                    base_given,
                    from: instruction.clone(),
                    platform,
                    body: Vec::new(),
                    triggers_added: false,
                    triggers: 0,
                });
            }
            (_, Some(stage)) => stage.body.push(instruction.clone()),
            (_, None) => {}
        }
    }
    if stages.is_empty() {
        return Err(LowerError::nowhere(
            "the Dockerfile has no FROM instruction",
        ));
    }
    Ok(stages)
}

/// Checks what each FROM names without build arguments: first of all, as BuildKit does, so that a stage
/// without a base keeps nothing back of those below it.
fn check_default_names(request: &Request<'_>, budget: &Budget, findings: &Findings) {
    // What cannot be collected without values is reported when it is collected with them.
    let Ok(defaults) = Globals::collect(request, &BTreeMap::new(), budget) else {
        return;
    };
    let escape = request.dockerfile.directives.escape;
    for instruction in &request.dockerfile.instructions {
        let Kind::From { image, .. } = &instruction.kind else {
            continue;
        };
        let Ok(plain) = budget.word(&image.value, escape, &defaults, image.span) else {
            return;
        };
        check_default_name(instruction.span, image, &plain.text, findings);
    }
}

fn base_of(text: &str, stages: &[Stage], request: &Request<'_>) -> Base {
    // A context that is given takes the place of a stage of that name.
    if let Some(context) = context_of(text, request) {
        return context;
    }
    let lower = text.to_lowercase();
    if let Some(index) = stages
        .iter()
        .rposition(|s| s.name.as_deref() == Some(lower.as_str()))
    {
        return Base::Stage(index);
    }
    if text == SCRATCH {
        return Base::Scratch;
    }
    Base::Image(text.to_owned())
}

fn context_of(text: &str, request: &Request<'_>) -> Option<Base> {
    Some(match named_context(text, request)? {
        (_, NamedContext::Image(reference)) if reference == SCRATCH => Base::Scratch,
        (_, NamedContext::Image(reference)) => Base::Image(reference.clone()),
        (name, NamedContext::Source(_)) => Base::Context(name.clone()),
    })
}

/// A context of this name; names of images are compared in their canonical form too.
pub(super) fn named_context<'a>(
    text: &str,
    request: &'a Request<'_>,
) -> Option<(&'a String, &'a NamedContext)> {
    if text.eq_ignore_ascii_case(SCRATCH) {
        return None;
    }
    let canonical = |s: &str| kiln_image::Reference::parse(s).ok().map(|r| r.to_string());
    request.contexts.iter().find(|(name, _)| {
        name.eq_ignore_ascii_case(text)
            || canonical(name).is_some_and(|c| Some(c) == canonical(text))
    })
}

fn platform_of(
    from: &Instruction,
    request: &Request<'_>,
    globals: &Globals,
    budget: &Budget,
    checks: &FromWords<'_>,
    findings: &Findings,
) -> Result<Platform, LowerError> {
    let Some(flag) = from.flags.iter().find(|f| f.name.value == "platform") else {
        return Ok(request.platform.clone());
    };
    let Some(value) = &flag.value else {
        return Ok(request.platform.clone());
    };
    let escape = request.dockerfile.directives.escape;
    let expanded = budget.word(&value.value, escape, globals, flag.span)?;
    let set = |name: &str| globals.get(name).is_some();
    checks.platform(value, &expanded, set, findings);
    let text = expanded.text;
    if text.is_empty() && !value.value.is_empty() {
        let text = format!("the platform `{}` is empty after expansion", value.value);
        return Err(LowerError::new(text, flag.span));
    }
    if text.is_empty() {
        return Ok(request.platform.clone());
    }
    text.parse()
        .map_err(|e| LowerError::new(format!("platform `{text}`: {e}"), flag.span))
}

pub(super) fn target(stages: &[Stage], request: &Request<'_>) -> Result<usize, LowerError> {
    let Some(wanted) = &request.target else {
        return Ok(stages.len() - 1);
    };
    let lower = wanted.to_lowercase();
    if let Some(index) = stages
        .iter()
        .rposition(|s| s.name.as_deref() == Some(lower.as_str()))
    {
        return Ok(index);
    }
    match wanted.parse::<usize>() {
        Ok(index) if index < stages.len() => return Ok(index),
        _ => {}
    }
    let help = if stages.iter().all(|s| s.name.is_none()) {
        format!("stages have numbers from 0 to {}", stages.len() - 1)
    } else {
        let all = stages.iter().enumerate().map(|(number, stage)| {
            let unnamed = || format!("{number} (without a name)");
            stage.name.clone().unwrap_or_else(unnamed)
        });
        format!("stages are: {}", all.collect::<Vec<_>>().join(", "))
    };
    Err(
        LowerError::nowhere(format!("target stage `{wanted}` is not in the Dockerfile"))
            .with_help(Some(help)),
    )
}

/// What `--from=` means inside stage `current`.
pub(super) fn from_of(
    text: &str,
    stages: &[Stage],
    current: usize,
    request: &Request<'_>,
    span: Span,
) -> Result<Base, LowerError> {
    if text.contains('$') {
        let help = format!(
            "start a stage from it, `FROM {text} AS files` with its arguments before the first FROM, \
             and write from=files"
        );
        return Err(LowerError::new("`from` takes no variables", span).with_help(Some(help)));
    }
    if let Some(context) = context_of(text, request) {
        return Ok(context);
    }
    let lower = text.to_lowercase();
    if let Some(at) = stages
        .iter()
        .position(|s| s.name.as_deref() == Some(lower.as_str()))
    {
        // The nearest stage before this one of that name counts.
        let before = stages[..current]
            .iter()
            .rposition(|s| s.name.as_deref() == Some(lower.as_str()));
        return match before {
            Some(index) => Ok(Base::Stage(index)),
            None if at == current => Err(LowerError::new(
                format!("stage `{text}` cannot copy from itself"),
                span,
            )),
            None => Err(
                LowerError::new(format!("stage `{text}` comes after this one"), span)
                    .with_help(Some("move it above the stage that uses it")),
            ),
        };
    }
    if let Ok(index) = text.parse::<usize>() {
        if index < current {
            return Ok(Base::Stage(index));
        }
        return Err(LowerError::new(
            format!("stage number {index} is not before this stage, which has number {current}"),
            span,
        ));
    }
    if text.is_empty() {
        return Err(LowerError::new(
            "`from` needs a stage, a context or an image",
            span,
        ));
    }
    Ok(base_of(text, &[], request))
}

/// The stages that `target` starts from, itself first.
pub(super) fn bases(stages: &[Stage], target: usize) -> Vec<usize> {
    let mut chain = vec![target];
    let mut at = target;
    while let Some(Base::Stage(base)) = stages.get(at).map(|s| &s.base) {
        at = *base;
        chain.push(at);
    }
    chain
}

/// Checks that the images which stages start from are for the platforms of the stages. As BuildKit, not
/// those that are given in place of what the file names.
pub(super) fn check_platforms(
    stages: &[Stage],
    images: &BTreeMap<(String, String), Arc<ResolvedImage>>,
    findings: &Findings,
) {
    for stage in stages.iter().filter(|stage| !stage.base_given) {
        let (Base::Image(name), Kind::From { image, .. }) = (&stage.base, &stage.from.kind) else {
            continue;
        };
        let key = (name.clone(), stage.platform.to_string());
        if let Some(found) = images.get(&key) {
            let at = At {
                about: stage.from.span,
                caret: image.span,
            };
            let found = found.config.platform();
            // Some tools leave the platform out.
            if found.os.is_empty() || found.architecture.is_empty() {
                continue;
            }
            check_base_platform(name, &stage.platform, &found, at, findings);
        }
    }
}

/// What a target needs.
#[derive(Debug, Default)]
pub(super) struct Needed {
    pub(super) stages: BTreeSet<usize>,
    pub(super) images: BTreeSet<(String, Platform)>,
}

pub(super) fn reachable(
    stages: &[Stage],
    target: usize,
    request: &Request<'_>,
    budget: &Budget,
) -> Result<Needed, LowerError> {
    let mut needed = Needed::default();
    let mut open = if request.every_stage {
        (0..stages.len()).collect()
    } else {
        vec![target]
    };
    while let Some(index) = open.pop() {
        if !needed.stages.insert(index) {
            continue;
        }
        let stage = &stages[index];
        budget.look_at(stage.body.len() + 1, stage.from.span)?;
        let mut bases = vec![(stage.base.clone(), stage.platform.clone())];
        for instruction in &stage.body {
            for (text, span) in froms(instruction) {
                budget.look_at(stages.len(), span)?;
                let base = from_of(&text, stages, index, request, span)?;
                bases.push((base, request.platform.clone()));
            }
        }
        for (base, platform) in bases {
            match base {
                Base::Stage(other) => open.push(other),
                Base::Image(reference) => {
                    needed.images.insert((reference, platform));
                }
                Base::Scratch | Base::Context(_) => {}
            }
        }
    }
    Ok(needed)
}

/// The `from` of COPY, ADD and of mounts, with their places.
fn froms(instruction: &Instruction) -> Vec<(String, Span)> {
    let mut out = Vec::new();
    for flag in &instruction.flags {
        let Some(value) = &flag.value else { continue };
        match (&instruction.kind, flag.name.value.as_str()) {
            (Kind::Copy(_), "from") if !value.value.is_empty() => {
                out.push((value.value.clone(), value.span));
            }
            (Kind::Run(_), "mount") => {
                // A value that does not parse is reported when the step is lowered.
                if let Ok(mount) = parse_mount(&value.value)
                    && matches!(mount.kind, MountType::Bind | MountType::Cache)
                    && let Some(from) = mount.from
                {
                    out.push((from, value.span));
                }
            }
            _ => {}
        }
    }
    out
}

/// Puts the ONBUILD triggers of bases in front of the `needed` stages that start from them, as far
/// as the bases are known. Returns whether there were any.
pub(super) fn add_triggers(
    stages: &mut [Stage],
    needed: &BTreeSet<usize>,
    images: &BTreeMap<(String, String), Arc<ResolvedImage>>,
    request: &Request<'_>,
    budget: &Budget,
) -> Result<bool, LowerError> {
    let mut any = false;
    for index in needed {
        let Some(stage) = stages.get(*index).filter(|stage| !stage.triggers_added) else {
            continue;
        };
        let texts = match &stage.base {
            Base::Image(reference) => {
                let key = (reference.clone(), stage.platform.to_string());
                let Some(image) = images.get(&key) else {
                    continue;
                };
                image.config.config.on_build.clone()
            }
            // The triggers of that stage's own base fire in it and go no further.
            Base::Stage(base) => stages.get(*base).map_or_else(Vec::new, |base| {
                let own = base.own().iter();
                own.filter_map(|instruction| match &instruction.kind {
                    Kind::Onbuild {
                        instruction: trigger,
                    } => Some(trigger_text(request, instruction, trigger)),
                    _ => None,
                })
                .collect()
            }),
            Base::Scratch | Base::Context(_) => Vec::new(),
        };
        // Each stage gets its own, with all that the parser makes of them.
        let parsed = texts.len().saturating_mul(INSTRUCTION);
        budget.take(of_list(&texts).saturating_add(parsed), stage.from.span)?;
        let triggers = triggers(&texts, request, stage.from.span)?;
        any |= !triggers.is_empty();
        if let Some(stage) = stages.get_mut(*index) {
            stage.triggers_added = true;
            stage.triggers = triggers.len();
            stage.body.splice(0..0, triggers);
        }
    }
    Ok(any)
}

/// A trigger as it was written, without ONBUILD, with its here-documents.
pub(super) fn trigger_text(
    request: &Request<'_>,
    instruction: &Instruction,
    trigger: &Instruction,
) -> String {
    let full = instruction.text.trim_start();
    let rest = full.get("ONBUILD".len()..).map_or("", str::trim);
    let mut text = if rest.is_empty() {
        trigger.text.clone()
    } else {
        rest.to_owned()
    };
    for document in trigger.heredocs() {
        text.push('\n');
        text.push_str(as_written(request, document));
        text.push_str(&document.name);
    }
    text
}

/// ONBUILD triggers as instructions at the place of a FROM.
fn triggers(
    texts: &[String],
    request: &Request<'_>,
    span: Span,
) -> Result<Vec<Instruction>, LowerError> {
    let mut out = Vec::new();
    for text in texts {
        let (instruction, problems) = parse_instruction(text, request.dockerfile.directives.escape);
        if let Some(problem) = problems.iter().find(|d| d.severity == Severity::Error) {
            let message = format!("ONBUILD trigger `{text}` of the base: {}", problem.message);
            return Err(LowerError::new(message, span));
        }
        if let Some(mut instruction) = instruction {
            relocate(&mut instruction, span);
            out.push(instruction);
        }
    }
    Ok(out)
}

/// Makes errors in a trigger point to the FROM that brought it in.
fn relocate(instruction: &mut Instruction, span: Span) {
    instruction.span = span;
    for flag in &mut instruction.flags {
        flag.span = span;
        if let Some(value) = &mut flag.value {
            value.span = span;
        }
    }
}

pub(super) fn unresolved(stages: &[Stage], reference: &str, error: PortError) -> LowerError {
    let span = stages
        .iter()
        .find(|s| s.base == Base::Image(reference.to_owned()))
        .map(|s| match &s.from.kind {
            Kind::From { image, .. } => image.span,
            _ => s.from.span,
        })
        .or_else(|| {
            stages
                .iter()
                .flat_map(|s| &s.body)
                .flat_map(froms)
                .find_map(|(text, span)| (text == reference).then_some(span))
        });
    let failed = LowerError::port(error, span);
    // Most names without a slash that are no image were meant for a stage.
    let names: Vec<&str> = stages.iter().filter_map(|s| s.name.as_deref()).collect();
    match nearest(reference, &names) {
        Some(stage) => failed.with_help(Some(format!("did you mean the stage `{stage}`?"))),
        None => failed,
    }
}
