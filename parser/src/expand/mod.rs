//! Expansion of variables in words, as Docker's shell lexer does it.

mod fuel;
mod lexer;
mod pattern;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use fuel::Fuel;
use lexer::Mode;

/// Where values of variables come from.
pub trait Lookup {
    /// The value of `name`; none when it is unset.
    fn get(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Lookup for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

impl Lookup for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }
}

/// The last pair of that name counts.
impl Lookup for &[(String, String)] {
    fn get(&self, name: &str) -> Option<String> {
        self.iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    }
}

/// The last pair of that name counts.
impl Lookup for Vec<(String, String)> {
    fn get(&self, name: &str) -> Option<String> {
        Lookup::get(&self.as_slice(), name)
    }
}

/// A word after expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The expanded text.
    pub text: String,
    /// Names that were looked up, each once, in order of first use.
    pub used: Vec<String>,
    /// Names of plain `$x` and `${x}` that were unset, each once.
    pub unmatched: Vec<String>,
}

/// Why a word could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// `${` without `}`, or no usable name inside.
    #[error("the substitution {text:?} is malformed: {reason}")]
    Syntax {
        /// The word or the part of it that is wrong.
        text: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A quote without its partner.
    #[error("the word {text:?} has an unmatched {quote} quote")]
    Quote {
        /// The word.
        text: String,
        /// `single` or `double`.
        quote: &'static str,
    },
    /// `${x:?message}` on an unset or empty variable.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message in the word, or a default one.
        message: String,
    },
    /// A pattern after `#`, `%` or `/` is malformed.
    #[error("the pattern {pattern:?} in the substitution of {name} is malformed: {reason}")]
    Pattern {
        /// The variable.
        name: String,
        /// The pattern.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// Values and patterns make more of the word, or of all words, than can be handled.
    #[error("the substitutions handle more than {limit} MiB")]
    TooLarge {
        /// The limit in MiB.
        limit: usize,
    },
    /// Substitutions are nested too deeply.
    #[error("the substitutions in the word are nested more than {limit} deep")]
    Depth {
        /// The limit.
        limit: usize,
    },
}

/// Expands one word and removes its quotes.
///
/// # Errors
/// On a malformed substitution, an unmatched quote, a required variable that is unset, or more work than
/// there is fuel for.
pub fn expand_word(
    text: &str,
    escape: char,
    env: &dyn Lookup,
    fuel: &mut Fuel,
) -> Result<Expanded, ExpandError> {
    Ok(lexer::run(text, escape, env, Mode::default(), fuel)?.0)
}

/// Expands a word and splits it at unquoted white space, also at such that came from a variable.
///
/// # Errors
/// As [`expand_word`].
pub fn expand_words(
    text: &str,
    escape: char,
    env: &dyn Lookup,
    fuel: &mut Fuel,
) -> Result<Vec<String>, ExpandError> {
    let mode = Mode {
        split: true,
        ..Mode::default()
    };
    Ok(lexer::run(text, escape, env, mode, fuel)?.1)
}

/// Expands the content of a heredoc: quotes are ordinary characters and stay; the escape goes and
/// takes the meaning of the next character with it.
///
/// Docker always uses a backslash as the escape here.
///
/// # Errors
/// As [`expand_word`], without unmatched quotes.
pub fn expand_raw(
    text: &str,
    escape: char,
    env: &dyn Lookup,
    fuel: &mut Fuel,
) -> Result<Expanded, ExpandError> {
    let mode = Mode {
        plain_quotes: true,
        ..Mode::default()
    };
    Ok(lexer::run(text, escape, env, mode, fuel)?.0)
}

/// Splits a line at unquoted white space and changes nothing in the words.
pub(crate) fn split_raw(text: &str) -> Result<Vec<String>, ExpandError> {
    let mode = Mode {
        split: true,
        keep_quotes: true,
        keep_escapes: true,
        keep_unset: true,
        ..Mode::default()
    };
    Ok(lexer::run(text, '\\', &|_: &str| None, mode, &mut Fuel::default())?.1)
}

/// Removes quotes and escapes, leaves variables as they are, and splits.
pub(crate) fn unquote_words(text: &str, keep_quotes: bool) -> Result<Vec<String>, ExpandError> {
    let mode = Mode {
        split: true,
        keep_quotes,
        keep_unset: true,
        ..Mode::default()
    };
    Ok(lexer::run(text, '\\', &|_: &str| None, mode, &mut Fuel::default())?.1)
}
