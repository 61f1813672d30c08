//! One instruction, line by line.

use super::layout::{Gap, Layout, Spacing};
use crate::lines::{Continuation, Lines, strip_continuation};

/// Columns of the continuation line that is indented least.
const INDENT: usize = 4;

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) text: String,
    blank: bool,
}

impl Output {
    /// A blank line is wanted before the next line.
    pub(super) fn blank(&mut self) {
        self.blank = true;
    }

    /// Writes the blank line that is due even if it is the first.
    pub(super) fn keep_blank_at_top(&mut self) {
        if self.at_top() && std::mem::take(&mut self.blank) {
            self.text.push('\n');
        }
    }

    /// Nothing was written but a byte order mark.
    pub(super) fn at_top(&self) -> bool {
        self.text.is_empty() || self.text == "\u{feff}"
    }

    /// Begins a line; a blank one comes first where it is due.
    pub(super) fn begin(&mut self) {
        if std::mem::take(&mut self.blank) && !self.at_top() {
            self.text.push('\n');
        }
    }

    fn indented(&mut self, columns: usize, text: &str) {
        self.text.extend(std::iter::repeat_n(' ', columns));
        self.text.push_str(text);
        self.text.push('\n');
    }
}

/// A line of the instruction in the joined text, and the lines before it that are no part of it.
#[derive(Debug, Default)]
struct LinePart<'a> {
    start: usize,
    end: usize,
    skipped: Vec<&'a str>,
}

/// An instruction's lines and their joined text.
struct Joined<'a> {
    text: String,
    pieces: Vec<LinePart<'a>>,
    /// The last line asks for one more, which is not there.
    open: bool,
    /// Lines after the last piece.
    skipped: Vec<&'a str>,
    /// Offset after all of that.
    end: usize,
}

impl<'a> Joined<'a> {
    fn read(source: &'a str, offset: usize, escape: char) -> Self {
        let mut lines = Lines::starting_at(source, offset);
        let first = lines.next().map_or("", |line| line.body);
        let (head, mut open) = strip_continuation(first, escape);
        let mut joined = Self {
            text: head.to_owned(),
            pieces: vec![LinePart {
                end: head.len(),
                ..LinePart::default()
            }],
            open,
            skipped: Vec::new(),
            end: 0,
        };
        while open {
            match Continuation::read(&mut lines, escape) {
                None => break,
                Some(Continuation::Comment(line) | Continuation::Blank(line)) => {
                    joined.skipped.push(line.body);
                }
                Some(Continuation::Part { text, more, .. }) => {
                    open = more;
                    let start = joined.text.len();
                    joined.text.push_str(text);
                    joined.pieces.push(LinePart {
                        start,
                        end: joined.text.len(),
                        skipped: std::mem::take(&mut joined.skipped),
                    });
                }
            }
        }
        joined.open = open;
        joined.end = lines.offset();
        joined
    }
}

/// Writes the instruction that begins at `offset`, without its here-documents. Gives the offset of
/// the line after it.
pub(super) fn instruction(
    source: &str,
    offset: usize,
    escape: char,
    is_shell: bool,
    out: &mut Output,
) -> usize {
    let mut joined = Joined::read(source, offset, escape);
    let layout = Layout::new(&joined.text, escape, is_shell);
    for capitals in &layout.capitals {
        if let Some(word) = joined.text.get_mut(capitals.clone()) {
            word.make_ascii_uppercase();
        }
    }
    let writer = Writer {
        text: &joined.text,
        layout: &layout,
        joins: joined.pieces.iter().skip(1).map(|p| p.start).collect(),
        escape,
    };
    let leads: Vec<Lead> = joined.pieces.iter().map(|p| writer.lead(p)).collect();
    let least = leads.iter().filter_map(Lead::counted).min().unwrap_or(0);
    let last = joined.pieces.len() - 1;
    for (n, (piece, lead)) in joined.pieces.iter().zip(&leads).enumerate() {
        let columns = match lead.columns {
            Some(_) if lead.closes => Some(0),
            Some(_) if lead.is_blank => Some(INDENT),
            Some(columns) => Some(INDENT + columns - least),
            None => None,
        };
        for line in &piece.skipped {
            skipped(line, columns.map(|columns| columns.max(INDENT)), out);
        }
        let is_last = n == last && !joined.open;
        writer.line(piece, lead.content, columns.unwrap_or(0), is_last, out);
    }
    for line in &joined.skipped {
        skipped(line, Some(INDENT), out);
    }
    joined.end
}

/// Writes a comment or blank line inside an instruction.
fn skipped(line: &str, columns: Option<usize>, out: &mut Output) {
    match columns {
        _ if line.trim().is_empty() => out.text.push('\n'),
        Some(columns) => out.indented(columns, line.trim()),
        None => out.indented(0, line.trim_end()),
    }
}

/// How a piece begins.
struct Lead {
    /// Columns of blanks before it, if those may change.
    columns: Option<usize>,
    /// Where its content begins in the joined text.
    content: usize,
    /// It has no content.
    is_blank: bool,
    /// It begins with the bracket that closes an array.
    closes: bool,
}

impl Lead {
    /// The columns, if they count among those of the other lines.
    fn counted(&self) -> Option<usize> {
        self.columns.filter(|_| !self.is_blank && !self.closes)
    }
}

struct Writer<'a> {
    text: &'a str,
    layout: &'a Layout,
    /// Where lines were joined.
    joins: Vec<usize>,
    escape: char,
}

impl Writer<'_> {
    fn slice(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end).unwrap_or("")
    }

    /// The gap that a join is in.
    fn gap_at(&self, join: usize) -> Option<&Gap> {
        let gaps = &self.layout.gaps;
        let after = gaps.partition_point(|gap| gap.start <= join);
        let gap = after.checked_sub(1).and_then(|last| gaps.get(last))?;
        (join <= gap.end).then_some(gap)
    }

    fn is_joined(&self, gap: &Gap) -> bool {
        let after = self.joins.partition_point(|join| *join < gap.start);
        self.joins.get(after).is_some_and(|join| *join <= gap.end)
    }

    fn lead(&self, piece: &LinePart<'_>) -> Lead {
        // The first line begins with its content.
        let gap = self.gap_at(piece.start).filter(|_| piece.start > 0);
        let content = gap.map_or(piece.start, |gap| gap.end.min(piece.end));
        Lead {
            columns: gap.map(|_| columns(self.slice(piece.start, content))),
            content,
            is_blank: content == piece.end,
            closes: gap.is_some_and(|gap| gap.spacing == Spacing::None)
                && self.slice(content, piece.end).starts_with(']'),
        }
    }

    /// Writes a piece from `content` on.
    fn line(
        &self,
        piece: &LinePart<'_>,
        content: usize,
        columns: usize,
        is_last: bool,
        out: &mut Output,
    ) {
        let mut end = piece.end;
        let mut mark = String::new();
        if is_last {
            // A carriage return at the very end would be taken for a part of the line's end.
            let trimmed = self.slice(content, end).trim_end_matches([' ', '\t', '\r']);
            // At the end of a line the escape would ask for one more.
            if !strip_continuation(trimmed, self.escape).1 {
                end = content + trimmed.len();
            }
        } else {
            mark.push(self.escape);
            let gap = self.gap_at(piece.end);
            if let Some(gap) = gap.filter(|gap| gap.spacing != Spacing::Indent) {
                end = gap.start.max(content);
                if end > content {
                    mark.insert(0, ' ');
                }
            }
        }
        let mut line = String::with_capacity(end - content + 4);
        let mut at = content;
        let first = self.layout.gaps.partition_point(|gap| gap.start < content);
        for gap in self.layout.gaps.iter().skip(first) {
            if gap.end > end {
                break;
            }
            if gap.spacing == Spacing::Indent || self.is_joined(gap) {
                continue;
            }
            line.push_str(self.slice(at, gap.start));
            if gap.spacing == Spacing::One {
                line.push(' ');
            }
            at = gap.end;
        }
        line.push_str(self.slice(at, end));
        line.push_str(&mark);
        out.indented(columns, &line);
    }
}

/// The width of blanks; a tab goes to the next multiple of four.
fn columns(blanks: &str) -> usize {
    blanks.chars().fold(0, |columns, c| match c {
        '\t' => (columns / INDENT + 1) * INDENT,
        _ => columns + 1,
    })
}
