//! Where the blanks of a shell command separate words, so that their number does not matter.

use std::ops::Range;

use crate::ast::{Dockerfile, Instruction, Kind};

/// Shells whose words and quotes are read here.
const SHELLS: [&str; 7] = ["ash", "bash", "dash", "ksh", "mksh", "sh", "zsh"];

/// Whether all commands of the file are for a shell of the Bourne family.
pub(super) fn is_known(dockerfile: &Dockerfile) -> bool {
    fn unknown(instruction: &Instruction) -> bool {
        match &instruction.kind {
            Kind::Shell(words) => {
                let program = words.first().map_or("", |word| word.value.as_str());
                let name = program.rsplit('/').next().unwrap_or("");
                !SHELLS.contains(&name)
            }
            Kind::Onbuild { instruction } => unknown(instruction),
            _ => false,
        }
    }
    // A backtick as the escape is for Windows, and makes a backslash before a line break reach
    // the shell.
    dockerfile.directives.escape == '\\' && !dockerfile.instructions.iter().any(unknown)
}

/// What encloses a place in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// `( )`, also that of `$( )`.
    Parentheses,
    /// `" "`
    Quotes,
    /// `${ }`
    Braces,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    inside: Vec<Inside>,
    found: Vec<Range<usize>>,
}

/// The runs of blanks that only separate words, from the start of the command to the first place
/// that is not understood with certainty.
pub(super) fn separators(text: &str) -> Vec<Range<usize>> {
    let mut scanner = Scanner {
        text,
        at: 0,
        inside: Vec::new(),
        found: Vec::new(),
    };
    while scanner.step().is_some() {}
    scanner.found
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// Whether the place is no part of quotes or braces.
    fn is_bare(&self) -> bool {
        self.inside
            .iter()
            .all(|inside| *inside == Inside::Parentheses)
    }

    /// Whether a word begins here.
    fn at_word(&self) -> bool {
        let before = self.text.get(..self.at).unwrap_or("");
        before.is_empty() || before.ends_with([' ', '\t', ';', '&', '|', '(', ')', '<', '>'])
    }

    /// Passes over what begins here; none at the end, and where it is uncertain what it means.
    fn step(&mut self) -> Option<()> {
        let c = self.rest().chars().next()?;
        let top = self.inside.last().copied();
        match (c, top) {
            ('\\', _) => {
                self.at += 1;
                self.at += self.rest().chars().next()?.len_utf8();
            }
            ('`', _) => {
                self.at += 1;
                while self.rest().chars().next()? != '`' {
                    if self.rest().starts_with('\\') {
                        self.at += 1;
                    }
                    self.at += self.rest().chars().next()?.len_utf8();
                }
                self.at += 1;
            }
            ('$', _) if self.rest().starts_with("$(") => self.enter(Inside::Parentheses, 2),
            ('$', _) if self.rest().starts_with("${") => self.enter(Inside::Braces, 2),
            // Shells differ in whether a backslash counts in there.
            ('$', None | Some(Inside::Parentheses)) if self.rest().starts_with("$'") => {
                return None;
            }
            ('"', Some(Inside::Quotes)) => self.leave(),
            ('"', _) => self.enter(Inside::Quotes, 1),
            ('}', Some(Inside::Braces)) => self.leave(),
            // Whether this quotes depends on what is around the braces.
            ('\'', Some(Inside::Braces)) => return None,
            (_, Some(Inside::Quotes | Inside::Braces)) => self.at += c.len_utf8(),
            ('\'', _) => {
                let end = self.rest().get(1..)?.find('\'')?;
                self.at += end + 2;
            }
            ('#', _) if self.at_word() => return None,
            // Blanks are part of such patterns.
            ('(', _) if self.before_is(['?', '*', '+', '@', '!']) => return None,
            ('=', _) if self.rest().starts_with("=~") => return None,
            ('(', _) => self.enter(Inside::Parentheses, 1),
            // Its patterns end in parentheses that were never opened.
            ('c', Some(_)) if self.at_word() && self.rest().starts_with("case") => return None,
            (')', Some(_)) => self.leave(),
            (' ' | '\t', _) => {
                let blanks = self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
                if self.is_bare() {
                    self.found.push(self.at..self.at + blanks);
                }
                self.at += blanks;
            }
            _ => self.at += c.len_utf8(),
        }
        Some(())
    }

    fn before_is(&self, chars: [char; 5]) -> bool {
        self.text
            .get(..self.at)
            .is_some_and(|before| before.ends_with(chars))
    }

    fn enter(&mut self, inside: Inside, len: usize) {
        self.inside.push(inside);
        self.at += len;
    }

    fn leave(&mut self) {
        self.inside.pop();
        self.at += 1;
    }
}
