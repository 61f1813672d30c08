//! Physical lines and how continuation joins them to logical ones.

use nom::bytes::complete::take_till;
use nom::character::complete::char;
use nom::combinator::{opt, recognize};
use nom::{IResult, Parser};

use crate::diagnostic::Diagnostic;
use crate::span::{Span, Spanned, Text};

/// One line of the source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Physical<'a> {
    /// Offset of its first byte.
    pub(crate) start: usize,
    /// With its line end.
    pub(crate) text: &'a str,
}

impl<'a> Physical<'a> {
    /// The line without its line end.
    pub(crate) fn body(&self) -> &'a str {
        self.text.trim_end_matches(['\r', '\n'])
    }

    /// Offset just after the body.
    pub(crate) fn body_end(&self) -> usize {
        self.start + self.body().len()
    }
}

/// A cursor over the lines of a source.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    rest: &'a str,
    offset: usize,
    last_end: usize,
}

fn physical_line(input: &str) -> IResult<&str, &str> {
    recognize((take_till(|c| c == '\n'), opt(char('\n')))).parse(input)
}

impl<'a> Lines<'a> {
    /// Starts at the top; a byte order mark is no part of the first line.
    pub(crate) fn new(source: &'a str) -> Self {
        let rest = source.strip_prefix('\u{feff}').unwrap_or(source);
        let offset = source.len() - rest.len();
        Self {
            rest,
            offset,
            last_end: offset,
        }
    }

    /// Offset just after the body of the line that was taken last.
    pub(crate) fn last_end(&self) -> usize {
        self.last_end
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Physical<'a>;

    fn next(&mut self) -> Option<Physical<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (rest, text) = physical_line(self.rest).ok()?;
        let line = Physical {
            start: self.offset,
            text,
        };
        self.rest = rest;
        self.offset += text.len();
        self.last_end = line.body_end();
        Some(line)
    }
}

/// A logical line and the way back to the source.
#[derive(Debug)]
pub(crate) struct Logical {
    /// The joined text.
    pub(crate) text: String,
    /// Where in `text` each piece begins and where in the source it came from.
    pieces: Vec<(usize, usize)>,
}

impl Logical {
    /// Joins the line `first` (that starts at `start`, white space before it removed) with those
    /// that continue it.
    pub(crate) fn read(
        lines: &mut Lines<'_>,
        first: &str,
        start: usize,
        escape: char,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let (head, mut open) = strip_continuation(first, escape);
        let mut logical = Self {
            text: head.to_owned(),
            pieces: vec![(0, start)],
        };
        let mut blank = None;
        while open {
            let Some(line) = lines.next() else { break };
            let body = line.body();
            let content = body.trim_start();
            if content.starts_with('#') {
                continue;
            }
            if content.is_empty() {
                blank.get_or_insert(Span::new(line.start, line.body_end()));
                // An empty line is one of the instruction's lines only with its end.
                lines.last_end = line.start + line.text.len();
                continue;
            }
            let (part, more) = strip_continuation(body, escape);
            open = more;
            logical.pieces.push((logical.text.len(), line.start));
            logical.text.push_str(part);
        }
        if let Some(first) = blank {
            let span = Span::new(first.start, lines.last_end());
            diagnostics.push(
                Diagnostic::warning(
                    Diagnostic::EMPTY_CONTINUATION,
                    "a blank line stands inside a continued instruction",
                    span,
                )
                .with_help("remove the blank line, or write a comment in its place"),
            );
        }
        logical
    }

    /// The source offset of the byte at `offset` of the joined text.
    fn source_offset(&self, offset: usize) -> usize {
        let index = self.pieces.partition_point(|(at, _)| *at <= offset);
        let (at, source) = self
            .pieces
            .get(index.saturating_sub(1))
            .copied()
            .unwrap_or((0, 0));
        source + (offset - at)
    }

    /// Where a slice of the joined text is in the source.
    pub(crate) fn span(&self, slice: &str) -> Span {
        let offset = offset_in(&self.text, slice);
        let start = self.source_offset(offset);
        match slice.len().checked_sub(1) {
            Some(last) => Span::new(start, self.source_offset(offset + last) + 1),
            None => Span::new(start, start),
        }
    }

    /// A slice of the joined text with its place in the source.
    pub(crate) fn spanned(&self, slice: &str) -> Text {
        Spanned::new(slice.to_owned(), self.span(slice))
    }
}

/// Offset of `slice` inside `whole`; slices from elsewhere count as the end of it.
pub(crate) fn offset_in(whole: &str, slice: &str) -> usize {
    let offset = (slice.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    if offset <= whole.len() && slice.len() <= whole.len() - offset {
        offset
    } else {
        whole.len()
    }
}

/// Cuts the mark that continues a line; an escape before it disables the mark.
fn strip_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(head) if !head.ends_with(escape) => (head, true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, Logical, strip_continuation};

    #[test]
    fn continuation_marks() {
        for (line, want) in [
            ("a \\", ("a ", true)),
            ("a \\ \t", ("a ", true)),
            ("\\", ("", true)),
            ("a \\\\", ("a \\\\", false)),
            ("a \\\\\\", ("a \\\\\\", false)),
            ("a", ("a", false)),
            ("", ("", false)),
        ] {
            assert_eq!(strip_continuation(line, '\\'), want, "{line:?}");
        }
        assert_eq!(strip_continuation("a `", '`'), ("a ", true));
        assert_eq!(strip_continuation("a \\", '`'), ("a \\", false));
    }

    #[test]
    fn joined_text_knows_its_source() {
        let source = "RUN a \\\r\n# note\r\n  é \\\r\n\r\nb\r\nnext";
        let mut lines = Lines::new(source);
        let first = lines.next().expect("a line");
        let mut found = Vec::new();
        let logical = Logical::read(&mut lines, first.body(), first.start, '\\', &mut found);
        assert_eq!(logical.text, "RUN a   é b");
        assert_eq!(found.len(), 1);
        for word in ["RUN", "a", "é", "b"] {
            let at = logical.text.find(word).expect("the word");
            let span = logical.span(&logical.text[at..at + word.len()]);
            assert_eq!(&source[span.start..span.end], word);
        }
        assert_eq!(lines.next().map(|l| l.text), Some("next"));
    }
}
