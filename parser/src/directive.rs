//! Parser directives: `# name=value` lines before everything else.

use nom::bytes::complete::take_while;
use nom::character::complete::{char, satisfy};
use nom::combinator::recognize;
use nom::{IResult, Parser};

use crate::ast::Directives;
use crate::diagnostic::{Diagnostic, Findings};
use crate::lines::{Physical, offset_in};
use crate::span::{Span, Spanned};

fn directive(input: &str) -> IResult<&str, &str> {
    let space = || take_while(char::is_whitespace);
    let name = recognize((
        satisfy(|c| c.is_ascii_alphabetic()),
        take_while(|c: char| c.is_ascii_alphanumeric()),
    ));
    let (rest, (_, _, name, _, _, _)) =
        (char('#'), space(), name, space(), char('='), space()).parse(input)?;
    Ok((rest, name))
}

/// Whether a comment at the top of a file would be taken for a directive, or for the line of an
/// interpreter that may stand before those.
pub(crate) fn opens(comment: &str) -> bool {
    comment.starts_with("#!") || directive(comment).is_ok()
}

/// Collects directives until the first line that is none.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) directives: Directives,
    escape_seen: bool,
    after_shebang: bool,
    first_passed: bool,
    done: bool,
}

impl Reader {
    /// A reader that takes no directives and knows the escape already.
    pub(crate) fn closed(escape: char) -> Self {
        let directives = Directives {
            escape,
            ..Directives::default()
        };
        Self {
            directives,
            done: true,
            ..Self::default()
        }
    }

    /// True when the line was a directive, good or bad.
    pub(crate) fn take(&mut self, line: &Physical<'_>, findings: &mut Findings) -> bool {
        if self.done {
            return false;
        }
        let body = line.body;
        let first = !std::mem::replace(&mut self.first_passed, true);
        if first && body.starts_with("#!") {
            // An interpreter line may precede `syntax` and `check`, but not `escape`.
            self.after_shebang = true;
            return true;
        }
        let taken = self.take_directive(line, findings);
        self.done = !taken;
        taken
    }

    fn take_directive(&mut self, line: &Physical<'_>, findings: &mut Findings) -> bool {
        let body = line.body;
        let Ok((value, name)) = directive(body.trim_start()) else {
            return false;
        };
        let value = value.trim_end();
        if value.is_empty() {
            return false;
        }
        let at = |part: &str| {
            let start = line.start + offset_in(body, part);
            Span::new(start, start + part.len())
        };
        let key = name.to_ascii_lowercase();
        let text = Spanned::new(value.to_owned(), at(value));
        let duplicate = match key.as_str() {
            "syntax" => set_once(&mut self.directives.syntax, text),
            "check" => set_once(&mut self.directives.check, text),
            "escape" if self.after_shebang => return false,
            "escape" => {
                let duplicate = std::mem::replace(&mut self.escape_seen, true);
                match value {
                    _ if duplicate => {}
                    "\\" => self.directives.escape = '\\',
                    "`" => self.directives.escape = '`',
                    _ => findings.error(|| {
                        Diagnostic::error(
                            "invalid-escape",
                            format!("the escape character cannot be {value:?}"),
                            at(value),
                        )
                        .with_help("use a backslash or a backtick")
                    }),
                }
                duplicate
            }
            _ => return false,
        };
        if duplicate {
            findings.error(|| {
                Diagnostic::error(
                    "duplicate-directive",
                    format!("the directive `{key}` is given twice"),
                    at(name),
                )
            });
        }
        true
    }
}

/// True when there is a value already; it stays.
fn set_once<T>(slot: &mut Option<T>, value: T) -> bool {
    let set = slot.is_some();
    if !set {
        *slot = Some(value);
    }
    set
}
