//! Errors and findings in a Dockerfile, with the lines that they are about.

use std::borrow::Cow;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, Title};
use kiln_engine::SourceText;
use kiln_engine::solver::lint::Finding;
use kiln_engine::solver::lower::{LowerError, LowerWarning};
use kiln_engine::solver::plan::Lines;
use kiln_parser::{Diagnostic, LineIndex, Severity, Span};

use crate::{github, hints, printable, ui};

/// A message with the lines that it is about, of a file with this name and text.
fn about<'a>(
    (name, text): (&'a str, &'a str),
    title: Title<'a>,
    span: Span,
    help: Option<&'a str>,
) -> Group<'a> {
    let end = span.end.min(text.len());
    let start = span.start.min(end);
    let snippet = Snippet::source(text)
        .path(name)
        .annotation(AnnotationKind::Primary.span(start..end));
    let group = title.elements([snippet]);
    match help {
        Some(help) => group.element(Level::HELP.message(help)),
        None => group,
    }
}

/// For text that goes to `stream`.
fn renderer(stream: &impl std::io::IsTerminal) -> Renderer {
    let colours = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    if stream.is_terminal() && colours {
        Renderer::styled()
    } else {
        Renderer::plain()
    }
}

fn render(source: &SourceText, error: bool, message: &str, span: Option<Span>, help: Option<&str>) {
    if ui::is_json() {
        let lines = span.map(|span| source.lines_of(span));
        ui::event(serde_json::json!({
            "event": "diagnostic", "level": if error { "error" } else { "warning" },
            "text": message, "file": source.name, "lines": lines.map(|l| [l.first, l.last]),
            "help": help,
        }));
        return;
    }
    if error && github::is_here() {
        let lines = span.map(|span| source.lines_of(span));
        let lines = lines.map(|lines| (lines.first, lines.last));
        ui::painted(&github::annotation("error", source, lines, message));
    }
    let Some(span) = span else {
        if error {
            ui::error(message);
        } else {
            ui::warning(message);
        }
        if let Some(help) = help {
            ui::hint(help);
        }
        return;
    };
    let level = if error { Level::ERROR } else { Level::WARNING };
    let message = printable::text(message);
    let title = level.primary_title(&*message);
    let (name, text) = (
        printable::marked(&source.name),
        printable::in_place(&source.text),
    );
    let help = help.map(printable::text);
    let group = about((&name, &text), title, span, help.as_deref());
    ui::painted(&renderer(&std::io::stderr()).render(&[group]).to_string());
}

/// Prints what the parser found, but for what a check reports. Returns whether there was an
/// error.
pub(crate) fn diagnostics(source: &SourceText, list: &[Diagnostic]) -> bool {
    let reported = |d: &&Diagnostic| d.code == Diagnostic::EMPTY_CONTINUATION;
    for one in list.iter().filter(|d| !reported(d)) {
        let error = one.severity == Severity::Error;
        render(
            source,
            error,
            &one.message,
            Some(one.span),
            one.help.as_deref(),
        );
    }
    list.iter().any(|d| d.severity == Severity::Error)
}

/// Prints an error of lowering.
pub(crate) fn lower_error(source: &SourceText, error: &LowerError) {
    render(
        source,
        true,
        &error.message,
        error.span,
        hints::of_lowering(error).as_deref(),
    );
}

/// Prints a warning of lowering.
pub(crate) fn lower_warning(source: &SourceText, warning: &LowerWarning) {
    render(source, false, &warning.message, warning.span, None);
}

/// What a check found, as it is shown on `stream`: the rule, what is wrong, and where.
pub(crate) fn finding(
    source: &SourceText,
    finding: &Finding,
    stream: &impl std::io::IsTerminal,
) -> String {
    let detail = printable::text(&finding.detail);
    let title = Level::WARNING.primary_title(&*detail);
    let title = title.id(finding.rule.name());
    let url = finding.rule.url();
    let text = showable(source, finding);
    let (name, text) = (printable::marked(&source.name), printable::in_place(&text));
    let group = about((&name, &text), title, finding.caret, url.as_deref());
    renderer(stream).render(&[group]).to_string()
}

/// The text without what must not be shown; nothing moves.
fn showable<'a>(source: &'a SourceText, finding: &Finding) -> Cow<'a, str> {
    let Span { start, end } = finding.caret;
    let parts = (
        source.text.get(..start),
        source.text.get(start..end),
        source.text.get(end..),
    );
    let (true, (Some(before), Some(secret), Some(after))) = (finding.confidential, parts) else {
        return Cow::Borrowed(&source.text);
    };
    let hide = |c: char| {
        let same = c.is_whitespace() || !c.is_ascii();
        if same { c } else { '*' }
    };
    let hidden: String = secret.chars().map(hide).collect();
    Cow::Owned([before, &hidden, after].concat())
}

/// The lines around a step that failed, with its own marked.
pub(crate) fn excerpt(source: &SourceText, lines: Lines) -> String {
    let index = LineIndex::new(&source.text);
    let first = lines.first.saturating_sub(2).max(1);
    let last = (lines.last + 2).min(index.line_count());
    let mut out = format!("{}:{}\n--------------------\n", source.name, lines.first);
    for n in first..=last {
        let mark = if (lines.first..=lines.last).contains(&n) {
            ">>>"
        } else {
            "   "
        };
        out.push_str(&format!(
            "{n:4} | {mark} {}\n",
            index.line_text(n).trim_end()
        ));
    }
    out.push_str("--------------------");
    out
}
