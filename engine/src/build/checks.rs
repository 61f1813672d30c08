//! Build checks around a build: their options, what they know of the context, what they measure.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kiln_executor::{Context, DirTree, Output, Worker};
use kiln_parser::{Parsed, Span};
use kiln_solver::lint::{self, ContextFiles, Finding, Findings, OptionsError, Rule};
use kiln_solver::lower::LowerError;
use kiln_sys::RootDir;

use crate::units::human_bytes;

/// The build argument that takes the place of `# check=`.
const ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The largest manifest that a check reads.
const MAX_MANIFEST: u64 = 1 << 20;

/// What checks see of a context.
#[derive(Debug)]
struct Files(Arc<DirTree>);

impl Files {
    fn is_kept(&self, path: &str) -> bool {
        let ignore = self.0.ignore.as_ref();
        !ignore.is_some_and(|i| i.excludes(path) && !i.may_include_below(path))
    }
}

impl ContextFiles for Files {
    fn leaves_out(&self, path: &str) -> bool {
        let Some(ignore) = &self.0.ignore else {
            return false;
        };
        if path.is_empty() {
            let patterns = ignore.patterns();
            let all = patterns
                .iter()
                .any(|p| matches!(p.as_str(), "*" | "**" | "**/*"));
            return all && !patterns.iter().any(|p| p.starts_with('!'));
        }
        ignore.excludes(path) && !ignore.may_include_below(path)
    }

    fn read(&self, path: &str) -> Option<String> {
        if !self.is_kept(path) {
            return None;
        }
        let root = RootDir::open_trusted(&self.0.path).ok()?;
        String::from_utf8(root.read(Path::new(path), MAX_MANIFEST).ok()?).ok()
    }

    fn names(&self) -> Vec<String> {
        let Ok(root) = RootDir::open_trusted(&self.0.path) else {
            return Vec::new();
        };
        let entries = root.read_dir(Path::new("")).unwrap_or_default();
        let names = entries
            .iter()
            .map(|e| e.name.to_string_lossy().into_owned());
        names.filter(|name| self.is_kept(name)).collect()
    }
}

/// Applies the checks of the text, and gets ready for those that come while it is lowered.
///
/// # Errors
/// The options make no sense.
pub(super) fn begin(
    parsed: &Parsed,
    build_args: &BTreeMap<String, String>,
    context: Option<&Context>,
) -> Result<Findings, LowerError> {
    let directive = parsed.dockerfile.directives.check.as_ref();
    let (text, span, from) = match (build_args.get(ARGUMENT), directive) {
        (Some(given), _) => (given.as_str(), None, format!("build argument {ARGUMENT}: ")),
        (None, Some(text)) => (text.value.as_str(), Some(text.span), String::new()),
        (None, None) => ("", None, String::new()),
    };
    let options = lint::CheckOptions::parse(text).map_err(|e| LowerError {
        message: format!("{from}{e}"),
        span,
        help: Some(OptionsError::HELP.into()),
        hint: None,
    })?;
    let context = context.map(|c| Arc::new(Files(c.tree.clone())) as Arc<dyn ContextFiles>);
    let findings = Findings::new(options, context);
    lint::check_text(parsed, &findings);
    Ok(findings)
}

/// The rules that were broken.
pub(super) fn broken(findings: &Findings) -> Vec<String> {
    let rules = findings.broken();
    rules.iter().map(|rule| rule.name().to_owned()).collect()
}

/// Less than this is not worth a line.
const LEAST_REPEATED: u64 = 1 << 20;

/// Measures what a build made, if the rules for that are on. `layers` are the instructions of the
/// layers that the build added.
pub(super) async fn measure(
    worker: &Worker,
    output: &Output,
    layers: &[Span],
    findings: &Findings,
) {
    let rule = Rule::KilnRepeatedBytes;
    if !findings.options().reports(rule) {
        return;
    }
    let repeated = match worker.comparer().repeated(output).await {
        Ok(repeated) => repeated,
        // A check must not spoil a build that has succeeded.
        Err(error) => {
            tracing::debug!(%error, "layers cannot be compared");
            return;
        }
    };
    if repeated.len() != layers.len() {
        return;
    }
    for (again, about) in repeated.iter().zip(layers) {
        if again.bytes < LEAST_REPEATED {
            continue;
        }
        findings.add(Finding {
            rule,
            detail: format!(
                "{} in {} of this layer are in the layers below with the same content, the largest \
                 `{}`; give files their owner and mode where they are made",
                human_bytes(again.bytes),
                match again.files {
                    1 => "1 file".to_owned(),
                    n => format!("{n} files"),
                },
                again.largest,
            ),
            about: *about,
            caret: *about,
            confidential: false,
        });
    }
}
