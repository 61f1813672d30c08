//! Which blanks of an instruction may change, and which words become capitals.

use std::ops::Range;

use super::shell;
use crate::json::{Array, array};
use crate::lines::offset_in;
use crate::words;

/// What becomes of a run of blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spacing {
    /// One space.
    One,
    /// Nothing.
    None,
    /// They stay, but for those that indent a line.
    Indent,
}

/// Blanks of the joined text that may change; there may be none between `start` and `end` yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) spacing: Spacing,
}

/// What may change in an instruction.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// In order, with something else between any two of them.
    pub(super) gaps: Vec<Gap>,
    pub(super) capitals: Vec<Range<usize>>,
}

impl Layout {
    /// Looks at the joined text of an instruction that parses. `is_shell` says that its commands
    /// are for a shell whose words and quotes are known.
    pub(super) fn new(text: &str, escape: char, is_shell: bool) -> Self {
        let mut planner = Planner {
            text,
            escape,
            is_shell,
            layout: Self::default(),
        };
        planner.instruction(text.trim());
        planner.layout
    }
}

struct Planner<'a> {
    text: &'a str,
    escape: char,
    is_shell: bool,
    layout: Layout,
}

impl<'a> Planner<'a> {
    fn start(&self, part: &str) -> usize {
        offset_in(self.text, part)
    }

    fn end(&self, part: &str) -> usize {
        self.start(part) + part.len()
    }

    /// Lets the text from `start` to `end` change if it is blank.
    fn gap(&mut self, start: usize, end: usize, spacing: Spacing) {
        let blank = |text: &str| text.bytes().all(|b| b == b' ' || b == b'\t');
        if self.text.get(start..end).is_some_and(blank) {
            self.layout.gaps.push(Gap {
                start,
                end,
                spacing,
            });
        }
    }

    /// Puts one space between parts.
    fn apart(&mut self, before: &str, after: &str) {
        if !after.is_empty() {
            self.gap(self.end(before), self.start(after), Spacing::One);
        }
    }

    fn all_apart(&mut self, parts: impl IntoIterator<Item = &'a str>) {
        let mut parts = parts.into_iter();
        let Some(mut before) = parts.next() else {
            return;
        };
        for after in parts {
            self.apart(before, after);
            before = after;
        }
    }

    fn capitals(&mut self, word: &str) {
        self.layout.capitals.push(self.start(word)..self.end(word));
    }

    fn instruction(&mut self, line: &'a str) {
        let (keyword, rest) = words::keyword(line);
        self.capitals(keyword);
        self.apart(keyword, rest);
        let (flags, args) = words::flags(rest);
        let parts = flags.iter().map(|flag| flag.raw);
        self.all_apart(parts.chain(Some(args)));
        match keyword.to_ascii_uppercase().as_str() {
            "RUN" | "CMD" | "ENTRYPOINT" | "SHELL" => self.command(args),
            "HEALTHCHECK" => {
                let (kind, command) = words::first_word(args);
                self.capitals(kind);
                self.apart(kind, command);
                self.command(command);
            }
            "FROM" => {
                if let Some(word) = words::items(args).nth(1) {
                    self.capitals(word);
                }
                self.all_apart(words::items(args));
            }
            "COPY" | "ADD" | "VOLUME" => {
                // Quotes bind blanks in the marker of a here-document, and nowhere else.
                let quoted_marker = args.contains("<<") && args.contains(['"', '\'', '\\']);
                if !self.json(args) && !quoted_marker {
                    self.all_apart(words::items(args));
                }
            }
            "EXPOSE" => self.all_apart(words::items(args)),
            "ARG" => self.all_apart(words::words(args, self.escape)),
            "ENV" | "LABEL" => {
                let mut found = words::words(args, self.escape).peekable();
                if found.peek().is_some_and(|first| first.contains('=')) {
                    self.all_apart(found);
                } else if let Some((key, value)) = words::split_blank(args) {
                    self.apart(key, value);
                }
            }
            "ONBUILD" => self.instruction(args),
            _ => {}
        }
    }

    fn command(&mut self, args: &'a str) {
        if !self.json(args) && self.is_shell {
            let start = self.start(args);
            for blanks in shell::separators(args) {
                let (from, to) = (start + blanks.start, start + blanks.end);
                self.gap(from, to, Spacing::Indent);
            }
        }
    }

    /// Lays out an array of strings; false for other text.
    fn json(&mut self, args: &'a str) -> bool {
        let Array::Strings(strings) = array(args) else {
            return false;
        };
        let mut done = self.start(args);
        let mut first = true;
        for (raw, _) in strings {
            let start = self.start(raw);
            // What stands between is a bracket or comma, with blanks around it.
            let between = self.text.get(done..start).unwrap_or("");
            if let Some(sign) = between.find(['[', ',']) {
                if !first {
                    self.gap(done, done + sign, Spacing::None);
                }
                let spacing = if first { Spacing::None } else { Spacing::One };
                self.gap(done + sign + 1, start, spacing);
            }
            done = start + raw.len();
            first = false;
        }
        let close = self.text.get(done..).and_then(|rest| rest.find(']'));
        if let Some(close) = close {
            let open = usize::from(first);
            self.gap(done + open, done + close, Spacing::None);
        }
        true
    }
}
