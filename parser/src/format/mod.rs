//! Dockerfiles in one style.
//!
//! Only white space and the case of keywords change, and only where that cannot matter: what the
//! result means is compared with what the source means before anybody sees it.

mod layout;
mod same;
mod shell;
#[cfg(test)]
mod tests;
mod write;

use crate::ast::Dockerfile;
use crate::diagnostic::Diagnostic;
use crate::directive;
use crate::lines::Lines;
use crate::{Parsed, parse};

use write::Output;

/// Why a file was not formatted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file has errors.
    #[error("the file does not parse")]
    Invalid(Vec<Diagnostic>),
    /// The result would not mean the same. That it is found here keeps the file as it is.
    #[error("formatting would change what the file means")]
    Altered,
}

/// Formats a Dockerfile.
///
/// Keywords become capitals, parts of an instruction are one space apart, continuation lines are
/// indented by four spaces and keep their distance to each other, and at most one blank line stands
/// between instructions. Lines end with a line feed. Line breaks and comments stay. Here-documents
/// stay byte for byte, and so does what a shell gets, except for the indentation of lines that
/// begin outside of quotes.
///
/// # Errors
/// When the file has errors, or when the result would mean something else.
pub fn format(source: &str) -> Result<String, FormatError> {
    let Parsed {
        dockerfile,
        diagnostics,
    } = parse(source);
    if diagnostics
        .iter()
        .any(|d| d.severity == crate::Severity::Error)
    {
        return Err(FormatError::Invalid(diagnostics));
    }
    let formatted = write(source, &dockerfile);
    let again = parse(&formatted);
    let equal = same::ink(source).eq(same::ink(&formatted))
        && !again.has_errors()
        && same::same(&dockerfile, &again.dockerfile);
    if equal {
        Ok(formatted)
    } else {
        Err(FormatError::Altered)
    }
}

fn write(source: &str, dockerfile: &Dockerfile) -> String {
    let is_shell = shell::is_known(dockerfile);
    let escape = dockerfile.directives.escape;
    let mut out = Output::default();
    let mut lines = Lines::new(source);
    out.text
        .push_str(source.get(..lines.offset()).unwrap_or(""));
    for instruction in &dockerfile.instructions {
        between(&mut lines, instruction.span.start, &mut out);
        out.begin();
        let line = instruction.span.start;
        let after = write::instruction(source, line, escape, is_shell, &mut out);
        // Here-documents, from the line after the last one of the instruction.
        if let Some(bodies) = source.get(after..instruction.span.end)
            && !bodies.is_empty()
        {
            out.text.push_str(bodies);
            out.text.push('\n');
        }
        lines = Lines::starting_at(source, instruction.span.end);
        // The line end of the instruction's last line.
        lines.next();
    }
    between(&mut lines, source.len(), &mut out);
    out.text
}

/// Writes the comments and blank lines before `end`.
fn between(lines: &mut Lines<'_>, end: usize, out: &mut Output) {
    while lines.offset() < end {
        let before = lines.offset();
        let Some(line) = lines.next() else { return };
        let comment = line.body.trim();
        if before + line.body.len() >= end && !comment.starts_with('#') {
            return;
        }
        if comment.is_empty() {
            out.blank();
            continue;
        }
        // Without the blank line above it, the comment would become a directive; without its
        // indentation, the first line would become that of an interpreter.
        if directive::opens(comment) {
            out.keep_blank_at_top();
        }
        let shown = if out.at_top() && comment.starts_with("#!") {
            line.body.trim_end()
        } else {
            comment
        };
        out.begin();
        out.text.push_str(shown);
        out.text.push('\n');
    }
}
