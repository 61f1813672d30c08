//! Instructions made of words: `FROM`, `ARG`, `ENV`, `LABEL`, lists and single values.

use super::{Builder, Parts};
use crate::ast::{ArgDecl, KeyValue, Kind};
use crate::diagnostic::Diagnostic;
use crate::span::Text;
use crate::words;

impl<'a> Builder<'a, '_> {
    pub(super) fn from(&mut self, parts: &Parts<'a>) -> Option<Kind> {
        self.require(parts, "an image")?;
        let items: Vec<&str> = words::items(parts.args).take(4).collect();
        match items.as_slice() {
            [image] => Some(Kind::From {
                image: self.text(image),
                as_word: None,
                alias: None,
            }),
            [image, word, alias] if word.eq_ignore_ascii_case("as") => {
                let alias = self.text(alias);
                if !is_stage_name(&alias.value) {
                    self.findings.error(|| {
                        let shown: String = alias.value.chars().take(40).collect();
                        Diagnostic::error(
                            "invalid-stage-name",
                            format!("`{shown}` cannot name a stage"),
                            alias.span,
                        )
                        .with_help(
                            "begin with a letter, go on with letters, digits, `-`, `_` and `.`",
                        )
                    });
                    return None;
                }
                Some(Kind::From {
                    image: self.text(image),
                    as_word: Some(self.text(word)),
                    alias: Some(alias),
                })
            }
            _ => {
                let span = self.logical.span(parts.args);
                self.findings.error(|| {
                    Diagnostic::error(
                        "from-arguments",
                        "`FROM` requires either one argument, or three with `AS`",
                        span,
                    )
                    .with_help("write `FROM image` or `FROM image AS name`")
                });
                None
            }
        }
    }

    pub(super) fn arg(&mut self, parts: &Parts<'a>) -> Option<Kind> {
        self.require(parts, "at least one name")?;
        let mut found = Vec::new();
        for word in words::words(parts.args, self.escape) {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(self.text(default))),
                None => (word, None),
            };
            if name.is_empty() {
                return self.blank(parts, word);
            }
            found.push(ArgDecl {
                name: self.text(name),
                default,
            });
        }
        if found.is_empty() {
            return self.blank(parts, parts.args);
        }
        Some(Kind::Arg(found))
    }

    pub(super) fn key_values(&mut self, parts: &Parts<'a>) -> Option<Vec<KeyValue>> {
        self.require(parts, "at least one pair")?;
        let mut words = words::words(parts.args, self.escape).peekable();
        let Some(first) = words.peek() else {
            return self.blank(parts, parts.args);
        };
        if !first.contains('=') {
            let Some((key, value)) = words::split_blank(parts.args) else {
                let span = self.logical.span(parts.args);
                self.findings.error(|| {
                    Diagnostic::error(
                        "missing-value",
                        format!("`{}` requires a name and a value", parts.keyword),
                        span,
                    )
                    .with_help(format!("write `{} name=value`", parts.keyword))
                });
                return None;
            };
            return Some(vec![KeyValue {
                key: self.text(key),
                value: self.text(value),
                legacy: true,
            }]);
        }
        let mut pairs = Vec::new();
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                let span = self.logical.span(word);
                self.findings.error(|| {
                    let shown: String = word.chars().take(40).collect();
                    Diagnostic::error("missing-equals", format!("`{shown}` has no `=`"), span)
                        .with_help("write name=value, and quote values with spaces")
                });
                return None;
            };
            if key.is_empty() {
                return self.blank(parts, word);
            }
            pairs.push(KeyValue {
                key: self.text(key),
                value: self.text(value),
                legacy: false,
            });
        }
        Some(pairs)
    }

    fn blank<T>(&mut self, parts: &Parts<'_>, word: &str) -> Option<T> {
        let span = self.logical.span(word);
        self.error("blank-name", span, || {
            format!("a name of `{}` is blank", parts.keyword)
        });
        None
    }

    pub(super) fn list(&mut self, parts: &Parts<'a>) -> Option<Vec<Text>> {
        self.require(parts, "at least one argument")?;
        Some(
            words::items(parts.args)
                .map(|item| self.text(item))
                .collect(),
        )
    }

    pub(super) fn volume(&mut self, parts: &Parts<'a>) -> Option<Kind> {
        self.require(parts, "at least one path")?;
        let mut paths = match self.strings(parts.args).ok()? {
            Some(strings) => strings,
            None => self.list(parts)?,
        };
        for path in &mut paths {
            let trimmed = path.value.trim();
            if trimmed.is_empty() {
                let span = path.span;
                self.error("blank-volume", span, || {
                    "a path of `VOLUME` is blank".to_owned()
                });
                return None;
            }
            if trimmed.len() != path.value.len() {
                path.value = trimmed.to_owned();
            }
        }
        if paths.is_empty() {
            self.error("missing-argument", parts.span, || {
                "`VOLUME` requires at least one path".to_owned()
            });
            return None;
        }
        Some(Kind::Volume(paths))
    }

    /// All of the arguments as one value.
    pub(super) fn single(&mut self, parts: &Parts<'a>) -> Option<Text> {
        self.require(parts, "exactly one argument")?;
        Some(self.text(parts.args))
    }
}

fn is_stage_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
