//! The state machine behind word expansion.

use std::borrow::Cow;
use std::collections::HashMap;

use super::fuel::Fuel;
use super::pattern::{self, Pattern, PatternError};
use super::{ExpandError, Expanded, Lookup};

/// Substitutions in substitutions; deeper ones are refused, so that the stack stays bounded.
const DEEPEST: usize = 64;

/// What the lexer keeps instead of interpreting it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mode {
    /// Collect words, not only the text.
    pub(super) split: bool,
    /// Quotes group, but stay in the output.
    pub(super) keep_quotes: bool,
    /// Quotes are ordinary characters.
    pub(super) plain_quotes: bool,
    /// Escapes work, but stay in the output.
    pub(super) keep_escapes: bool,
    /// Substitutions of unset variables stay as written.
    pub(super) keep_unset: bool,
}

/// Expands `text`; the words are empty unless the mode splits.
pub(super) fn run(
    text: &str,
    escape: char,
    env: &dyn Lookup,
    mode: Mode,
    fuel: &mut Fuel,
) -> Result<(Expanded, Vec<String>), ExpandError> {
    fuel.for_one_word(|fuel| expand(text, escape, env, mode, fuel))
}

fn expand(
    text: &str,
    escape: char,
    env: &dyn Lookup,
    mode: Mode,
    fuel: &mut Fuel,
) -> Result<(Expanded, Vec<String>), ExpandError> {
    let mut lexer = Lexer {
        source: text,
        at: 0,
        escape,
        env,
        mode,
        depth: 0,
        fuel,
        names: Names::default(),
    };
    let (text, words) = lexer.until(None, mode.keep_escapes)?;
    Ok((
        Expanded {
            text,
            used: lexer.names.used,
            unmatched: lexer.names.unmatched,
        },
        words,
    ))
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    escape: char,
    env: &'a dyn Lookup,
    mode: Mode,
    depth: usize,
    fuel: &'a mut Fuel,
    names: Names<'a>,
}

/// Names in the order in which they came, each once.
#[derive(Default)]
struct Names<'a> {
    used: Vec<String>,
    unmatched: Vec<String>,
    /// Those that are used, and whether they are among the unmatched.
    known: HashMap<&'a str, bool>,
}

impl<'a> Names<'a> {
    fn add(&mut self, name: &'a str, is_unmatched: bool) {
        let known = self.known.entry(name).or_insert_with(|| {
            self.used.push(name.to_owned());
            false
        });
        if is_unmatched && !std::mem::replace(known, true) {
            self.unmatched.push(name.to_owned());
        }
    }
}

/// Words in the making.
#[derive(Default)]
struct Words {
    collect: bool,
    word: String,
    done: Vec<String>,
}

impl Words {
    /// Adds text whose white space ends words.
    fn push(&mut self, text: &str) {
        if !self.collect {
            return;
        }
        let mut rest = text;
        while let Some(end) = rest.find(char::is_whitespace) {
            let (word, after) = rest.split_at(end);
            self.word.push_str(word);
            if !self.word.is_empty() {
                self.done.push(std::mem::take(&mut self.word));
            }
            rest = after.trim_start();
        }
        self.word.push_str(rest);
    }

    /// Adds quoted text.
    fn push_quoted(&mut self, text: &str) {
        if self.collect {
            self.word.push_str(text);
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Takes the text before the first character that `ends` it.
    fn take_until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(ends).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or("")
    }

    fn syntax(&self, reason: &'static str) -> ExpandError {
        ExpandError::Syntax {
            text: shorten(self.source),
            reason,
        }
    }

    /// Reads up to an unquoted `stop`, which is consumed, or to the end when there is none.
    fn until(
        &mut self,
        stop: Option<char>,
        keep_escapes: bool,
    ) -> Result<(String, Vec<String>), ExpandError> {
        let outer = std::mem::replace(&mut self.mode.keep_escapes, keep_escapes);
        let result = self.until_in_mode(stop);
        self.mode.keep_escapes = outer;
        result
    }

    fn until_in_mode(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), ExpandError> {
        let mut text = String::new();
        let mut words = Words {
            collect: self.mode.split && stop.is_none(),
            ..Words::default()
        };
        let escape = self.escape;
        let quotes = !self.mode.plain_quotes;
        let is_quote = |c| quotes && matches!(c, '\'' | '"');
        loop {
            let plain =
                self.take_until(|c| Some(c) == stop || c == '$' || c == escape || is_quote(c));
            words.push(plain);
            text.push_str(plain);
            let Some(c) = self.peek() else { break };
            if Some(c) == stop {
                self.next();
                return Ok((text, words.finish()));
            }
            if c == '$' {
                let value = self.dollar()?;
                words.push(&value);
                text.push_str(&value);
            } else if is_quote(c) {
                let before = text.len();
                if c == '"' {
                    self.double_quoted(&mut text)?;
                } else {
                    self.single_quoted(&mut text)?;
                }
                words.push_quoted(text.get(before..).unwrap_or(""));
            } else {
                let before = text.len();
                self.next();
                if self.mode.keep_escapes {
                    text.push(c);
                }
                text.extend(self.next());
                words.push_quoted(text.get(before..).unwrap_or(""));
            }
        }
        match stop {
            None => Ok((text, words.finish())),
            Some('/') => Err(self.syntax("a \"/\" is missing")),
            Some(_) => Err(self.syntax("a \"}\" is missing")),
        }
    }

    fn single_quoted(&mut self, text: &mut String) -> Result<(), ExpandError> {
        let start = self.at;
        self.next();
        let inner = self.take_until(|c| c == '\'');
        if self.next().is_none() {
            return Err(self.open_quote("single"));
        }
        text.push_str(if self.mode.keep_quotes {
            self.source.get(start..self.at).unwrap_or("")
        } else {
            inner
        });
        Ok(())
    }

    fn double_quoted(&mut self, text: &mut String) -> Result<(), ExpandError> {
        self.next();
        if self.mode.keep_quotes {
            text.push('"');
        }
        let escape = self.escape;
        loop {
            text.push_str(self.take_until(|c| c == '"' || c == '$' || c == escape));
            match self.peek() {
                None => return Err(self.open_quote("double")),
                Some('"') => {
                    self.next();
                    if self.mode.keep_quotes {
                        text.push('"');
                    }
                    return Ok(());
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) => {
                    self.next();
                    if self.mode.keep_escapes {
                        text.push(c);
                    }
                    match self.peek() {
                        Some(next) if next == '"' || next == '$' || next == escape => {
                            self.next();
                            text.push(next);
                        }
                        // Before other characters the escape is an ordinary one.
                        Some(_) => text.push(c),
                        None => {}
                    }
                }
            }
        }
    }

    fn open_quote(&self, quote: &'static str) -> ExpandError {
        ExpandError::Quote {
            text: shorten(self.source),
            quote,
        }
    }

    /// Reads a substitution, or gives the dollar sign back when none follows.
    fn dollar(&mut self) -> Result<Cow<'a, str>, ExpandError> {
        let start = self.at;
        self.next();
        if self.peek() == Some('{') {
            self.depth += 1;
            if self.depth > DEEPEST {
                return Err(ExpandError::Depth { limit: DEEPEST });
            }
            let value = self.braced(start)?;
            self.depth -= 1;
            // What is nested is copied once for each level.
            self.fuel.burn(value.len())?;
            return Ok(value);
        }
        let name = self.name();
        if name.is_empty() {
            return Ok(Cow::Borrowed("$"));
        }
        self.plain(name, start)
    }

    /// The text since `start`.
    fn since(&self, start: usize) -> Cow<'a, str> {
        Cow::Borrowed(self.source.get(start..self.at).unwrap_or(""))
    }

    fn braced(&mut self, start: usize) -> Result<Cow<'a, str>, ExpandError> {
        self.next();
        match self.peek() {
            None => return Err(self.syntax("a \"}\" is missing")),
            Some('{' | '}' | ':') => return Err(self.syntax("a variable name is missing")),
            Some(_) => {}
        }
        let name = self.name();
        let (modifier, unless_empty) = match self.next() {
            Some(':') => (self.next(), true),
            other => (other, false),
        };
        match (modifier, unless_empty) {
            (None, _) => Err(self.syntax("a \"}\" is missing")),
            (Some('}'), false) => self.plain(name, start),
            (Some(c @ ('-' | '+' | '?')), _) | (Some(c @ ('#' | '%')), false) => {
                self.conditional(name, c, unless_empty).map(Cow::Owned)
            }
            (Some('/'), false) => self.replaced(name).map(Cow::Owned),
            _ => Err(self.syntax("the modifier is unknown")),
        }
    }

    fn conditional(
        &mut self,
        name: &'a str,
        c: char,
        unless_empty: bool,
    ) -> Result<String, ExpandError> {
        let (word, _) = self.until(Some('}'), matches!(c, '#' | '%'))?;
        let value = self.lookup(name, false)?;
        if self.mode.keep_unset && value.is_none() {
            let colon = if unless_empty { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{c}{word}}}"));
        }
        let usable = value
            .as_deref()
            .is_some_and(|v| !(unless_empty && v.is_empty()));
        match c {
            '-' => Ok(value.filter(|_| usable).unwrap_or(word)),
            '+' => Ok(if usable { word } else { String::new() }),
            '?' if usable => Ok(value.unwrap_or_default()),
            '?' => {
                let message = match (word.is_empty(), value.is_none()) {
                    (false, _) => word,
                    (true, true) => "the variable must be set".to_owned(),
                    (true, false) => "the variable must not be empty".to_owned(),
                };
                Err(ExpandError::Required {
                    name: name.to_owned(),
                    message,
                })
            }
            _ => {
                let value = value.unwrap_or_default();
                let (pattern, longest) = match word.strip_prefix(c) {
                    Some(rest) => (rest, true),
                    None => (word.as_str(), false),
                };
                let cut = if c == '#' {
                    pattern::cut_prefix
                } else {
                    pattern::cut_suffix
                };
                cut(pattern, &value, longest, self.fuel)
                    .map_err(|error| bad_pattern(name, pattern, error))
            }
        }
    }

    fn replaced(&mut self, name: &'a str) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let (pattern, _) = self.until(Some('/'), true)?;
        let (with, _) = self.until(Some('}'), true)?;
        let value = self.lookup(name, false)?;
        if self.mode.keep_unset && value.is_none() {
            let slashes = if all { "//" } else { "/" };
            return Ok(format!("${{{name}{slashes}{pattern}/{with}}}"));
        }
        Pattern::new(&pattern)
            .and_then(|compiled| {
                compiled.replace(&value.unwrap_or_default(), &with, all, self.fuel)
            })
            .map_err(|error| bad_pattern(name, &pattern, error))
    }

    /// Reads a name: letters, digits and `_`, or only digits, or one special character.
    fn name(&mut self) -> &'a str {
        match self.peek() {
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!' | '0') => {
                self.at += 1;
                self.source.get(self.at - 1..self.at).unwrap_or("")
            }
            Some(c) if is_digit(c) => self.take_until(|c| !is_digit(c)),
            _ => self.take_until(|c| !c.is_alphabetic() && !is_digit(c) && c != '_'),
        }
    }

    /// Looks up a variable; one that `must` have a value is reported when it has none.
    fn lookup(&mut self, name: &'a str, must: bool) -> Result<Option<String>, ExpandError> {
        let value = self.env.get(name);
        // Nobody asks for the names when substitutions stay.
        if !self.mode.keep_unset {
            self.names.add(name, must && value.is_none());
        }
        self.fuel.burn(value.as_ref().map_or(0, String::len))?;
        Ok(value)
    }

    /// Looks up a variable that has no default; its substitution is written since `start`.
    fn plain(&mut self, name: &'a str, start: usize) -> Result<Cow<'a, str>, ExpandError> {
        Ok(match self.lookup(name, true)? {
            Some(value) => Cow::Owned(value),
            None if self.mode.keep_unset => self.since(start),
            None => Cow::Borrowed(""),
        })
    }
}

fn is_digit(c: char) -> bool {
    // Decimal digits of any script; other numerals end a name.
    c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric() && !c.is_alphabetic())
}

fn bad_pattern(name: &str, pattern: &str, error: PatternError) -> ExpandError {
    match error {
        PatternError::Malformed(reason) => ExpandError::Pattern {
            name: name.to_owned(),
            pattern: shorten(pattern),
            reason,
        },
        PatternError::Spent(error) => error,
    }
}

/// Keeps messages readable when the word is long.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or("")),
        None => text.to_owned(),
    }
}
