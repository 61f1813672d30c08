//! Build checks around a build: their options, what they know of the context, what is said of them.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use kiln_executor::{Context, DirTree, Engine, Output};
use kiln_parser::{Parsed, Span};
use kiln_solver::lint::{self, ContextFiles, Finding, Findings, OptionsError, Rule};
use kiln_solver::lower::LowerError;
use kiln_sys::RootDir;

use crate::diagnostics::SourceText;
use crate::github;
use crate::progress::{Mode, bytes};
use crate::ui;

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
    let options = lint::Options::parse(text).map_err(|e| LowerError {
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

/// Whether the options ask that what was found stops the build.
pub(super) fn forbid(findings: &Findings) -> bool {
    findings.options().error() && !findings.broken().is_empty()
}

/// What to do about forbidden findings.
pub(super) const FORBIDDEN: &str = "`error=true` in the options of checks makes warnings errors";

/// Which rules were broken.
pub(super) fn summary(findings: &Findings) -> String {
    let names: Vec<&str> = findings.broken().iter().map(|rule| rule.name()).collect();
    format!("checks failed: {}", names.join(", "))
}

/// Less than this is not worth a line.
const LEAST_REPEATED: u64 = 1 << 20;

/// Measures what a build made, if the rules for that are on. `layers` are the instructions of the
/// layers that the build added.
pub(super) async fn measure(
    engine: &Engine,
    output: &Output,
    layers: &[Span],
    findings: &Findings,
) {
    let rule = Rule::KilnRepeatedBytes;
    if !findings.options().reports(rule) {
        return;
    }
    let repeated = match engine.repeated(output).await {
        Ok(repeated) => repeated,
        // A check must not spoil a build that has succeeded.
        Err(error) => {
            tracing::warn!(%error, "layers cannot be compared");
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
                bytes(again.bytes),
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

/// Shows findings one after the other, for a build and for a check alike. `print` prints to
/// `stream`.
pub(super) fn show(
    found: &[Finding],
    source: &SourceText,
    stream: &impl IsTerminal,
    print: impl Fn(&str),
) {
    for finding in found {
        print(&format!("{}\n", source.finding(finding, stream)));
    }
}

/// Has GitHub show findings beside the lines that they are about.
pub(super) fn annotate(found: &[Finding], source: &SourceText) {
    for finding in found.iter().filter(|_| github::is_here()) {
        let lines = source.lines_of(finding.about);
        let text = format!("{}: {}", finding.rule.name(), finding.detail);
        let lines = Some((lines.first, lines.last));
        ui::painted(&github::annotation("warning", source, lines, &text));
    }
}

/// Tells what was found, at the end of a build.
pub(super) fn tell(findings: &Findings, source: &SourceText, mode: Mode) {
    let found = findings.sorted();
    match mode {
        Mode::Quiet => {}
        Mode::Rawjson => {
            for finding in &found {
                let lines = source.lines_of(finding.about);
                let event = serde_json::json!({
                    "event": "warning", "vertex": null, "rule": finding.rule.name(),
                    "text": finding.detail, "lines": [lines.first, lines.last],
                });
                ui::event(event);
            }
            if findings.beyond() > 0 {
                let text = format!(
                    "{} more warnings from build checks are not shown",
                    findings.beyond()
                );
                ui::event(serde_json::json!({"event": "warning", "vertex": null, "text": text}));
            }
        }
        Mode::Auto | Mode::Tty | Mode::Plain => {
            show(&found, source, &std::io::stderr(), ui::painted);
            annotate(&found, source);
            match (found.len(), findings.beyond()) {
                (0, 0) => {}
                (1, 0) => ui::note("1 warning from build checks"),
                (n, 0) => ui::note(&format!("{n} warnings from build checks")),
                (n, beyond) => ui::note(&format!(
                    "{} warnings from build checks, the last {beyond} not shown",
                    n + beyond
                )),
            }
        }
    }
}
