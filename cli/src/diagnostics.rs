//! Errors in a Dockerfile, with the lines that they are about.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use kiln_parser::{Diagnostic, LineIndex, Severity, Span};
use kiln_solver::lower::{LowerError, LowerWarning};
use kiln_solver::plan::Lines;

use crate::ui;

/// A Dockerfile's text with the name that the user knows it by.
#[derive(Clone, Debug)]
pub(crate) struct SourceText {
    pub(crate) name: String,
    pub(crate) text: String,
}

fn renderer() -> Renderer {
    if std::io::IsTerminal::is_terminal(&std::io::stderr())
        && std::env::var_os("NO_COLOR").is_none()
    {
        Renderer::styled()
    } else {
        Renderer::plain()
    }
}

impl SourceText {
    fn render(&self, error: bool, message: &str, span: Option<Span>, help: Option<&str>) {
        let level = if error { Level::ERROR } else { Level::WARNING };
        let mut group = level
            .primary_title(message)
            .elements(Vec::<Snippet<'_, annotate_snippets::Annotation<'_>>>::new());
        if let Some(span) = span {
            let end = span.end.min(self.text.len());
            let start = span.start.min(end);
            group = group.element(
                Snippet::source(&self.text)
                    .path(&self.name)
                    .annotation(AnnotationKind::Primary.span(start..end)),
            );
        }
        if let Some(help) = help {
            group = group.element(Level::HELP.message(help));
        }
        ui::note(&renderer().render(&[group]).to_string());
    }

    /// Prints what the parser found. Returns whether there was an error.
    pub(crate) fn diagnostics(&self, list: &[Diagnostic]) -> bool {
        for one in list {
            let error = one.severity == Severity::Error;
            self.render(error, &one.message, Some(one.span), one.help.as_deref());
        }
        list.iter().any(|d| d.severity == Severity::Error)
    }

    /// Prints an error of lowering.
    pub(crate) fn lower_error(&self, error: &LowerError) {
        self.render(true, &error.message, error.span, error.help.as_deref());
    }

    /// Prints a warning of lowering.
    pub(crate) fn lower_warning(&self, warning: &LowerWarning) {
        self.render(false, &warning.message, warning.span, None);
    }

    /// The lines around a step that failed, with its own marked.
    pub(crate) fn excerpt(&self, lines: Lines) -> String {
        let index = LineIndex::new(&self.text);
        let first = lines.first.saturating_sub(2).max(1);
        let last = (lines.last + 2).min(index.line_count());
        let mut out = format!("{}:{}\n--------------------\n", self.name, lines.first);
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
}
