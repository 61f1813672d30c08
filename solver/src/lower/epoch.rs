//! `SOURCE_DATE_EPOCH`: given from outside or by default, as a number of seconds or as the name of
//! what was last changed then.

use std::collections::BTreeMap;

use kiln_parser::flags::parse_bool_flag;
use kiln_parser::{Instruction, Kind, Lookup, SourceArg, Span, Transfer, nearest};

use super::args::Globals;
use super::budget::Budget;
use super::error::{LowerError, LowerWarning};
use super::flags::{find, flag_error};
use super::stages::{SCRATCH, named_context};
use super::transfer::{Remote, remote_kind};
use super::{NamedContext, Request};
use crate::plan::SourceKind;
use crate::ports::Resolver;

/// The name of the argument.
pub(super) const NAME: &str = "SOURCE_DATE_EPOCH";

/// The value that means the main context.
const CONTEXT: &str = "context";

/// The last second of the year 9999, with a day for time zones: times after it cannot be written.
const LATEST: u64 = 253_402_207_200;

/// The second that the argument stands for.
///
/// # Errors
/// It stands for none, or what it names cannot be had.
pub(super) async fn resolve(
    request: &Request<'_>,
    globals: &Globals,
    budget: &Budget,
    resolver: &impl Resolver,
) -> Result<Option<u64>, LowerError> {
    let given = request.build_args.get(NAME).cloned();
    let default = || globals.declared.get(NAME).cloned().flatten();
    let is_given = given.is_some();
    let Some(text) = given.or_else(default).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let span = globals.origins.get(NAME).filter(|_| !is_given);
    let span = span.map(|origin| origin.about);
    if let Ok(seconds) = text.parse::<u64>()
        && !text.starts_with('+')
    {
        if seconds > LATEST {
            let why = format!("{NAME} `{text}` is later than the year 9999");
            return Err(LowerError::somewhere(why, span));
        }
        return Ok(Some(seconds));
    }
    let source = if text == CONTEXT {
        Some(request.context.clone())
    } else if let Some((_, context)) = named_context(&text, request) {
        match context {
            NamedContext::Source(kind) => Some(kind.clone()),
            NamedContext::Image(_) => None,
        }
    } else {
        let source = source_of_stage(request, globals, budget, &text, span)?;
        let allowed = request.policy.source(source);
        Some(allowed.map_err(|e| LowerError::somewhere(e.to_string(), span))?)
    };
    let Some(source) = source else {
        return Ok(None);
    };
    let changed = resolver.changed(&source).await;
    changed.map_err(|e| LowerError::port(e, span))
}

/// Says that what was given stands for no time: nothing is clamped, though somebody meant it to be.
pub(super) fn warning(request: &Request<'_>, epoch: Option<u64>) -> Option<LowerWarning> {
    let given = request
        .build_args
        .get(NAME)
        .filter(|text| !text.is_empty())?;
    epoch.is_none().then(|| LowerWarning {
        message: format!(
            "{NAME}: `{given}` does not tell when it was changed, and no time is clamped"
        ),
        span: None,
    })
}

/// Puts the second in the place of what was given or is the default, or nothing where it stands for
/// nothing. The changed request, if it had a value.
pub(super) fn settle<'a>(
    request: &Request<'a>,
    globals: &mut Globals,
    epoch: Option<u64>,
) -> Option<Request<'a>> {
    let number = epoch.map(|seconds| seconds.to_string());
    if let Some(declared) = globals.declared.get_mut(NAME) {
        declared.clone_from(&number);
    }
    if !request.build_args.contains_key(NAME) {
        return None;
    }
    let mut settled = request.clone();
    settled.build_args.remove(NAME);
    settled
        .build_args
        .extend(number.map(|number| (NAME.to_owned(), number)));
    Some(settled)
}

/// What the one ADD of a stage fetches, whose name is the value.
fn source_of_stage(
    request: &Request<'_>,
    globals: &Globals,
    budget: &Budget,
    name: &str,
    span: Option<Span>,
) -> Result<SourceKind, LowerError> {
    let mut names = Vec::new();
    let mut body: Option<(&Instruction, Vec<&Instruction>)> = None;
    let mut inside = false;
    for instruction in &request.dockerfile.instructions {
        if let Kind::From { alias, .. } = &instruction.kind {
            let alias = alias.as_ref().map_or("", |a| a.value.as_str());
            names.push(alias);
            inside = body.is_none() && alias.eq_ignore_ascii_case(name) && !alias.is_empty();
            if inside {
                body = Some((instruction, Vec::new()));
            }
        } else if let (true, Some((_, body))) = (inside, &mut body) {
            body.push(instruction);
        }
    }
    let Some((from, body)) = body else {
        let near = nearest(name, &names).map(|near| format!("did you mean the stage `{near}`?"));
        let help = near.unwrap_or_else(|| {
            "write seconds since 1970, `context`, or the name of a context or of a stage".into()
        });
        let why =
            format!("{NAME} `{name}` is neither a number of seconds nor a context nor a stage");
        return Err(LowerError::somewhere(why, span).with_help(Some(help)));
    };
    let escape = request.dockerfile.directives.escape;
    let wrong = |what: &str, span: Span| {
        LowerError::new(
            format!("{NAME} is that of the stage `{name}`, {what}"),
            span,
        )
        .with_help(Some(
            "such a stage is `FROM scratch` and one ADD of an address",
        ))
    };
    let mut seen = ReadVariables(BTreeMap::new());
    if let Kind::From { image, .. } = &from.kind {
        let base = budget.word(&image.value, escape, globals, image.span)?;
        if base.text != SCRATCH {
            return Err(wrong("which does not start from `scratch`", image.span));
        }
    }
    let mut found = None;
    for instruction in body {
        match &instruction.kind {
            Kind::Arg(list) => {
                for arg in list {
                    let value = match (request.build_args.get(&arg.name.value), &arg.default) {
                        (Some(given), _) => Some(given.clone()),
                        (None, Some(text)) => {
                            Some(budget.word(&text.value, escape, &seen, text.span)?.text)
                        }
                        (None, None) => globals.get(&arg.name.value),
                    };
                    if let Some(value) = value {
                        seen.0.insert(arg.name.value.clone(), value);
                    }
                }
            }
            Kind::Add(transfer) if found.is_none() => {
                let source = address(instruction, transfer, escape, &seen, budget)?;
                let none = || wrong("whose ADD has no address", instruction.span);
                found = Some(source.ok_or_else(none)?);
            }
            _ => {
                let what = format!("which has more than an ADD: {}", instruction.keyword.value);
                return Err(wrong(&what, instruction.span));
            }
        }
    }
    found.ok_or_else(|| wrong("which has no ADD", from.span))
}

/// The one address that an ADD fetches, if it is one.
fn address(
    instruction: &Instruction,
    transfer: &Transfer,
    escape: char,
    seen: &ReadVariables,
    budget: &Budget,
) -> Result<Option<SourceKind>, LowerError> {
    let [SourceArg::Path(path)] = transfer.sources.as_slice() else {
        return Ok(None);
    };
    let word = |text: &str, span| Ok(budget.word(text, escape, seen, span)?.text);
    let url = word(&path.value, path.span)?;
    let checksum = find(instruction, "checksum").and_then(|flag| flag.value.as_ref());
    let checksum = checksum
        .map(|text| word(&text.value, text.span))
        .transpose()?;
    let keep_git_dir = match find(instruction, "keep-git-dir") {
        None => false,
        Some(flag) => {
            let value = flag.value.as_ref();
            let value = value.map(|text| word(&text.value, text.span)).transpose()?;
            parse_bool_flag(value.as_deref()).map_err(|e| flag_error(&e, flag))?
        }
    };
    Ok(match remote_kind(&url, true) {
        Some(Remote::Http) => Some(SourceKind::Http { url, checksum }),
        Some(Remote::Git) => Some(SourceKind::Git {
            url,
            keep_git_dir,
            checksum,
        }),
        None => None,
    })
}

/// What words of such a stage see: the arguments that it has declared.
struct ReadVariables(BTreeMap<String, String>);

impl Lookup for ReadVariables {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|_| name != NAME).cloned()
    }
}
