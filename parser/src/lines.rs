//! Physical lines and how continuation joins them to logical ones.

use std::borrow::Cow;
use std::cell::Cell;

use crate::diagnostic::{Diagnostic, Findings};
use crate::span::{Span, Spanned, Text};

/// One line of the source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Physical<'a> {
    /// Offset of its first byte.
    pub(crate) start: usize,
    /// With its line end.
    pub(crate) text: &'a str,
    /// Without its line end.
    pub(crate) body: &'a str,
}

impl Physical<'_> {
    /// Offset just after the body.
    pub(crate) fn body_end(&self) -> usize {
        self.start + self.body.len()
    }
}

/// A cursor over the lines of a source.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    rest: &'a str,
    offset: usize,
    last_end: usize,
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

    /// Starts at an offset where a line or its content begins.
    pub(crate) fn starting_at(source: &'a str, offset: usize) -> Self {
        Self {
            rest: source.get(offset..).unwrap_or(""),
            offset,
            last_end: offset,
        }
    }

    /// Offset of the next line.
    pub(crate) fn offset(&self) -> usize {
        self.offset
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
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        let (text, rest) = self.rest.split_at(end);
        let line = Physical {
            start: self.offset,
            text,
            body: text.trim_end_matches(['\r', '\n']),
        };
        self.rest = rest;
        self.offset += end;
        self.last_end = line.body_end();
        Some(line)
    }
}

/// A line after one that is continued.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Continuation<'a> {
    /// A comment: it is no part of the instruction, which goes on after it.
    Comment(Physical<'a>),
    /// A blank line, likewise.
    Blank(Physical<'a>),
    /// The next part, and whether there are more.
    Part {
        start: usize,
        text: &'a str,
        more: bool,
    },
}

impl<'a> Continuation<'a> {
    /// Takes the next line of an instruction that goes on.
    pub(crate) fn read(lines: &mut Lines<'a>, escape: char) -> Option<Self> {
        let line = lines.next()?;
        let content = line.body.trim_start();
        if content.starts_with('#') {
            return Some(Self::Comment(line));
        }
        if content.is_empty() {
            return Some(Self::Blank(line));
        }
        let (text, more) = strip_continuation(line.body, escape);
        let start = line.start;
        Some(Self::Part { start, text, more })
    }
}

/// A piece of a logical line: where it begins there, and where it came from.
#[derive(Clone, Copy, Debug)]
struct Piece {
    at: usize,
    source: usize,
}

/// A logical line and the way back to the source.
#[derive(Debug)]
pub(crate) struct Logical<'a> {
    /// The joined text; the source's own where nothing was joined.
    pub(crate) text: Cow<'a, str>,
    /// Where the first line begins in the source.
    start: usize,
    /// The lines that were joined to the first.
    pieces: Vec<Piece>,
    /// How many pieces begin before the offset that was asked for last: the next is near.
    near: Cell<usize>,
}

impl<'a> Logical<'a> {
    /// Joins the line `first` (that starts at `start`, white space before it removed) with those
    /// that continue it.
    pub(crate) fn read(
        lines: &mut Lines<'_>,
        first: &'a str,
        start: usize,
        escape: char,
        findings: &mut Findings,
    ) -> Self {
        let (head, mut open) = strip_continuation(first, escape);
        let mut logical = Self {
            text: Cow::Borrowed(head),
            start,
            pieces: Vec::new(),
            near: Cell::new(0),
        };
        let mut blank = None;
        while open {
            match Continuation::read(lines, escape) {
                None => break,
                Some(Continuation::Comment(_)) => {}
                Some(Continuation::Blank(line)) => {
                    blank.get_or_insert(Span::new(line.start, line.body_end()));
                    // An empty line is one of the instruction's lines only with its end.
                    lines.last_end = line.start + line.text.len();
                }
                Some(Continuation::Part { start, text, more }) => {
                    open = more;
                    logical.pieces.push(Piece {
                        at: logical.text.len(),
                        source: start,
                    });
                    logical.text.to_mut().push_str(text);
                }
            }
        }
        if let Some(first) = blank {
            let span = Span::new(first.start, lines.last_end());
            findings.warning(|| {
                Diagnostic::warning(
                    Diagnostic::EMPTY_CONTINUATION,
                    "a blank line stands inside a continued instruction",
                    span,
                )
                .with_help("remove the blank line, or write a comment in its place")
            });
        }
        logical
    }

    /// The source offset of the byte at `offset` of the joined text.
    fn source_offset(&self, offset: usize) -> usize {
        if self.pieces.is_empty() {
            return self.start + offset;
        }
        let begins_before = |n: usize| self.pieces.get(n).is_some_and(|p| p.at <= offset);
        let near = self.near.get();
        let fits = |n: usize| (n == 0 || begins_before(n - 1)) && !begins_before(n);
        let count = if fits(near) {
            near
        } else if fits(near + 1) {
            near + 1
        } else {
            self.pieces.partition_point(|p| p.at <= offset)
        };
        self.near.set(count);
        match count.checked_sub(1).and_then(|last| self.pieces.get(last)) {
            Some(piece) => piece.source + (offset - piece.at),
            None => self.start + offset,
        }
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
pub(crate) fn strip_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(head) if !head.ends_with(escape) => (head, true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, Logical, strip_continuation};
    use crate::diagnostic::Findings;

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
        let mut found = Findings::default();
        let logical = Logical::read(&mut lines, first.body, first.start, '\\', &mut found);
        assert_eq!(logical.text, "RUN a   é b");
        assert_eq!(found.into_sorted().len(), 1);
        for word in ["RUN", "a", "é", "b", "RUN", "b", "a"] {
            let at = logical.text.find(word).expect("the word");
            let span = logical.span(&logical.text[at..at + word.len()]);
            assert_eq!(&source[span.start..span.end], word);
        }
        assert_eq!(lines.next().map(|l| l.text), Some("next"));
    }
}
