//! The state machine behind word expansion.

use super::pattern::{self, Pattern};
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
) -> Result<(Expanded, Vec<String>), ExpandError> {
    let mut lexer = Lexer {
        source: text,
        at: 0,
        escape,
        env,
        mode,
        depth: 0,
        used: Vec::new(),
        unmatched: Vec::new(),
    };
    let (text, words) = lexer.until(None, mode.keep_escapes)?;
    Ok((
        Expanded {
            text,
            used: lexer.used,
            unmatched: lexer.unmatched,
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
    used: Vec<String>,
    unmatched: Vec<String>,
}

/// Words in the making.
#[derive(Default)]
struct Words {
    collect: bool,
    word: String,
    done: Vec<String>,
}

impl Words {
    /// Adds a character that may end the word.
    fn push(&mut self, c: char) {
        if !self.collect {
            return;
        }
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
        }
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

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.source
            .get(self.at..)
            .and_then(|rest| rest.chars().next())
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
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
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.next();
                return Ok((text, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.push(c));
                    text.push_str(&value);
                }
                '\'' | '"' if !self.mode.plain_quotes => {
                    let quoted = if c == '"' {
                        self.double_quoted()?
                    } else {
                        self.single_quoted()?
                    };
                    words.push_quoted(&quoted);
                    text.push_str(&quoted);
                }
                _ if c == self.escape => {
                    self.next();
                    if self.mode.keep_escapes {
                        text.push(c);
                        words.push_quoted(c.encode_utf8(&mut [0; 4]));
                    }
                    if let Some(c) = self.next() {
                        text.push(c);
                        words.push_quoted(c.encode_utf8(&mut [0; 4]));
                    }
                }
                _ => {
                    self.next();
                    text.push(c);
                    words.push(c);
                }
            }
        }
        match stop {
            None => Ok((text, words.finish())),
            Some('/') => Err(self.syntax("a \"/\" is missing")),
            Some(_) => Err(self.syntax("a \"}\" is missing")),
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        self.next();
        let rest = self.source.get(self.at..).unwrap_or("");
        let Some(end) = rest.find('\'') else {
            return Err(self.open_quote("single"));
        };
        self.at += end + 1;
        let inner = rest.get(..end).unwrap_or("");
        Ok(if self.mode.keep_quotes {
            format!("'{inner}'")
        } else {
            inner.to_owned()
        })
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        self.next();
        if self.mode.keep_quotes {
            text.push('"');
        }
        loop {
            match self.peek() {
                None => return Err(self.open_quote("double")),
                Some('"') => {
                    self.next();
                    if self.mode.keep_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) if c == self.escape => {
                    self.next();
                    if self.mode.keep_escapes {
                        text.push(c);
                    }
                    match self.peek() {
                        Some(next) if next == '"' || next == '$' || next == self.escape => {
                            self.next();
                            text.push(next);
                        }
                        // Before other characters the escape is an ordinary one.
                        Some(_) => text.push(c),
                        None => {}
                    }
                }
                Some(c) => {
                    self.next();
                    text.push(c);
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
    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.next();
        if self.peek() == Some('{') {
            self.depth += 1;
            if self.depth > DEEPEST {
                return Err(ExpandError::Depth { limit: DEEPEST });
            }
            let value = self.braced();
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(match self.plain(&name) {
            Some(value) => value,
            None if self.mode.keep_unset => format!("${name}"),
            None => String::new(),
        })
    }

    fn braced(&mut self) -> Result<String, ExpandError> {
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
            (Some('}'), false) => Ok(match self.plain(&name) {
                Some(value) => value,
                None if self.mode.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            (Some(c @ ('-' | '+' | '?')), _) | (Some(c @ ('#' | '%')), false) => {
                self.conditional(&name, c, unless_empty)
            }
            (Some('/'), false) => self.replaced(&name),
            _ => Err(self.syntax("the modifier is unknown")),
        }
    }

    fn conditional(
        &mut self,
        name: &str,
        c: char,
        unless_empty: bool,
    ) -> Result<String, ExpandError> {
        let (word, _) = self.until(Some('}'), matches!(c, '#' | '%'))?;
        let value = self.lookup(name);
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
                cut(pattern, &value, longest).map_err(|reason| bad_pattern(name, pattern, reason))
            }
        }
    }

    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let (pattern, _) = self.until(Some('/'), true)?;
        let (with, _) = self.until(Some('}'), true)?;
        let value = self.lookup(name);
        if self.mode.keep_unset && value.is_none() {
            let slashes = if all { "//" } else { "/" };
            return Ok(format!("${{{name}{slashes}{pattern}/{with}}}"));
        }
        Pattern::new(&pattern, true, false)
            .map(|compiled| compiled.replace(&value.unwrap_or_default(), &with, all))
            .map_err(|reason| bad_pattern(name, &pattern, reason))
    }

    /// Reads a name: letters, digits and `_`, or only digits, or one special character.
    fn name(&mut self) -> String {
        let rest = self.source.get(self.at..).unwrap_or("");
        let end = match rest.chars().next() {
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!' | '0') => 1,
            Some(c) if is_digit(c) => rest.find(|c| !is_digit(c)).unwrap_or(rest.len()),
            _ => rest
                .find(|c: char| !c.is_alphabetic() && !is_digit(c) && c != '_')
                .unwrap_or(rest.len()),
        };
        self.at += end;
        rest.get(..end).unwrap_or("").to_owned()
    }

    fn lookup(&mut self, name: &str) -> Option<String> {
        if !self.used.iter().any(|known| known == name) {
            self.used.push(name.to_owned());
        }
        self.env.get(name)
    }

    /// Looks up a variable that has no default.
    fn plain(&mut self, name: &str) -> Option<String> {
        let value = self.lookup(name);
        if value.is_none() && !self.unmatched.iter().any(|known| known == name) {
            self.unmatched.push(name.to_owned());
        }
        value
    }
}

fn is_digit(c: char) -> bool {
    // Decimal digits of any script; other numerals end a name.
    c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric() && !c.is_alphabetic())
}

fn bad_pattern(name: &str, pattern: &str, reason: String) -> ExpandError {
    ExpandError::Pattern {
        name: name.to_owned(),
        pattern: shorten(pattern),
        reason,
    }
}

/// Keeps messages readable when the word is long.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or("")),
        None => text.to_owned(),
    }
}
