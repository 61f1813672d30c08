//! How a logical line splits into keyword, flags and words.

use std::borrow::Cow;

use nom::bytes::complete::{tag, take_till, take_while, take_while1};
use nom::character::complete::char;
use nom::combinator::opt;
use nom::error::{Error, ErrorKind};
use nom::{IResult, Parser};

/// The white space that separates a keyword from its arguments and list items from each other.
/// Other white space, such as a no-break space, does not.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Splits off the keyword; the arguments come back trimmed at the front by blanks alone.
pub(crate) fn keyword(line: &str) -> (&str, &str) {
    fn parse(input: &str) -> IResult<&str, &str> {
        let (rest, word) = take_till(is_blank).parse(input)?;
        let (rest, _) = take_while(is_blank).parse(rest)?;
        Ok((rest, word))
    }
    match parse(line.trim()) {
        Ok((rest, word)) => (word, rest),
        Err(_) => (line, ""),
    }
}

/// A flag as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawFlag<'a> {
    /// All of it, with quotes.
    pub(crate) raw: &'a str,
    /// Name, raw and without quotes.
    pub(crate) name: (&'a str, Cow<'a, str>),
    /// Value, raw and without quotes and escapes.
    pub(crate) value: Option<(&'a str, Cow<'a, str>)>,
}

/// A word: runs of plain text, escaped characters and quoted parts. A missing end quote lets it
/// reach to the end of the text.
fn word<'a>(escape: char, escape_in_single: bool) -> impl Fn(&'a str) -> IResult<&'a str, &'a str> {
    move |input| {
        let mut quote = None;
        let mut chars = input.char_indices();
        let mut end = input.len();
        while let Some((at, c)) = chars.next() {
            match quote {
                Some(open) if c == open => quote = None,
                Some(open) if c == escape && (open == '"' || escape_in_single) => {
                    chars.next();
                }
                Some(_) => {}
                None if c == escape => {
                    chars.next();
                }
                None if c == '"' || c == '\'' => quote = Some(c),
                None if c.is_whitespace() => {
                    end = at;
                    break;
                }
                None => {}
            }
        }
        if end == 0 {
            return Err(nom::Err::Error(Error::new(input, ErrorKind::TakeTill1)));
        }
        let (word, rest) = input.split_at(end);
        Ok((rest, word))
    }
}

/// Takes the flags at the front; what follows comes back trimmed.
///
/// A backslash escapes here, whatever the escape directive says, also in single quotes. A lone
/// `--` ends the flags.
pub(crate) fn flags(line: &str) -> (Vec<RawFlag<'_>>, &str) {
    let mut found = Vec::new();
    let mut rest = line.trim_start();
    while rest.starts_with("--") {
        let Ok((after, raw)) = word('\\', true)(rest) else {
            break;
        };
        rest = after.trim_start();
        let flag = unquote_flag(raw);
        if flag.name.1.is_empty() && flag.value.is_none() {
            break;
        }
        found.push(flag);
    }
    (found, rest.trim())
}

/// Removes quotes and escapes of a flag and splits it at the first `=`.
fn unquote_flag(raw: &str) -> RawFlag<'_> {
    let dashes = |text: &str| if text.starts_with("--") { 2 } else { 0 };
    if !raw.contains(['\\', '"', '\'']) {
        let flag = raw.get(dashes(raw)..).unwrap_or(raw);
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some((value, Cow::Borrowed(value)))),
            None => (flag, None),
        };
        return RawFlag {
            raw,
            name: (name, Cow::Borrowed(name)),
            value,
        };
    }
    let mut texts = [String::new(), String::new()];
    let mut equals = None;
    let mut quote = None;
    let mut chars = raw.char_indices();
    while let Some((at, c)) = chars.next() {
        let (at, c) = match (c, quote) {
            ('\\', _) => match chars.next() {
                Some(next) => next,
                None => break,
            },
            ('"' | '\'', None) => {
                quote = Some(c);
                continue;
            }
            (c, Some(open)) if c == open => {
                quote = None;
                continue;
            }
            _ => (at, c),
        };
        if c == '=' && equals.is_none() {
            equals = Some(at);
        } else {
            texts[usize::from(equals.is_some())].push(c);
        }
    }
    let [mut name, value] = texts;
    let skipped = dashes(&name);
    name.drain(..skipped);
    let raw_name = raw.get(..equals.unwrap_or(raw.len())).unwrap_or(raw);
    RawFlag {
        raw,
        name: (
            raw_name.get(dashes(raw_name)..).unwrap_or(raw_name),
            Cow::Owned(name),
        ),
        value: equals.map(|at| (raw.get(at + 1..).unwrap_or(""), Cow::Owned(value))),
    }
}

/// Words as `ENV`, `LABEL` and `ARG` split them: quotes and escapes bind white space.
pub(crate) fn words(text: &str, escape: char) -> impl Iterator<Item = &str> {
    let mut rest = text.trim_start();
    std::iter::from_fn(move || {
        loop {
            let (after, raw) = word(escape, false)(rest).ok()?;
            rest = after.trim_start();
            let complete = if after.is_empty() {
                without_open_escape(raw, escape)
            } else {
                raw
            };
            if !complete.is_empty() {
                return Some(complete);
            }
        }
    })
}

/// Drops an escape that has nothing left to escape.
fn without_open_escape(raw: &str, escape: char) -> &str {
    let mut quote = None;
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c == escape && quote != Some('\'') {
            if chars.next().is_none() {
                return raw.strip_suffix(escape).unwrap_or(raw);
            }
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '"' || c == '\'') {
            quote = Some(c);
        }
    }
    raw
}

/// Items between blanks, with no regard for quotes: `FROM`, `EXPOSE`, `COPY`, `VOLUME`.
pub(crate) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_blank).filter(|item| !item.is_empty())
}

/// Splits at the first run of blanks, as the old form of `ENV` does.
pub(crate) fn split_blank(text: &str) -> Option<(&str, &str)> {
    fn parse(input: &str) -> IResult<&str, &str> {
        let (rest, first) = take_till(is_blank).parse(input)?;
        let (rest, _) = take_while1(is_blank).parse(rest)?;
        Ok((rest, first))
    }
    parse(text).ok().map(|(rest, first)| (first, rest))
}

/// Splits off the first word at any white space.
pub(crate) fn first_word(text: &str) -> (&str, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (first, rest) = text.split_at(end);
    (first, rest.trim_start())
}

/// A heredoc marker: descriptor digits, `-`, and the delimiter as written.
pub(crate) fn heredoc_marker(text: &str) -> Option<(&str, bool, &str)> {
    fn parse(input: &str) -> IResult<&str, (&str, bool)> {
        let (rest, (fd, _, dash)) = (
            take_while(|c: char| c.is_ascii_digit()),
            tag("<<"),
            opt(char('-')),
        )
            .parse(input)?;
        Ok((rest, (fd, dash.is_some())))
    }
    let (delimiter, (fd, dash)) = parse(text).ok()?;
    (!delimiter.is_empty() && !delimiter.contains('<')).then_some((fd, dash, delimiter))
}

#[cfg(test)]
mod tests {
    use super::{first_word, flags, heredoc_marker, items, keyword, split_blank, words};

    #[test]
    fn keywords() {
        for (line, want) in [
            ("RUN a b", ("RUN", "a b")),
            ("  run\t\x0b a", ("run", "a")),
            ("FROM", ("FROM", "")),
            ("FROM\u{a0}x", ("FROM\u{a0}x", "")),
            ("", ("", "")),
        ] {
            assert_eq!(keyword(line), want, "{line:?}");
        }
    }

    #[test]
    fn flags_lose_their_quotes() {
        type Found<'a> = &'a [(&'a str, Option<&'a str>)];
        let cases: [(&str, Found<'_>, &str); 10] = [
            ("a b", &[], "a b"),
            ("--link a b", &[("link", None)], "a b"),
            (
                "--from=x  --chown=1:2 a b ",
                &[("from", Some("x")), ("chown", Some("1:2"))],
                "a b",
            ),
            ("--a=\"x y\" b", &[("a", Some("x y"))], "b"),
            ("--a='x\\'y' b", &[("a", Some("x'y"))], "b"),
            ("--a=\\\"x\\\" b", &[("a", Some("\"x\""))], "b"),
            ("--a=b=c d", &[("a", Some("b=c"))], "d"),
            ("-- --a b", &[], "--a b"),
            ("--a=", &[("a", Some(""))], ""),
            ("--a=x\\", &[("a", Some("x"))], ""),
        ];
        for (line, want, rest) in cases {
            let (found, after) = flags(line);
            let found: Vec<_> = found
                .iter()
                .map(|f| (f.name.1.as_ref(), f.value.as_ref().map(|v| v.1.as_ref())))
                .collect();
            assert_eq!(found, want, "{line:?}");
            assert_eq!(after, rest, "{line:?}");
        }
    }

    #[test]
    fn words_keep_quotes_and_escapes() {
        let cases: [(&str, &[&str]); 10] = [
            ("a=b c=d", &["a=b", "c=d"]),
            ("a=\"b c\" d=e\\ f", &["a=\"b c\"", "d=e\\ f"]),
            ("a='x\\' b", &["a='x\\'", "b"]),
            ("a=\"x\\\" y\" b", &["a=\"x\\\" y\"", "b"]),
            ("a=\"open b", &["a=\"open b"]),
            ("a\\", &["a"]),
            ("a\\\\", &["a\\\\"]),
            ("a='\\", &["a='\\"]),
            ("\\", &[]),
            ("", &[]),
        ];
        for (text, want) in cases {
            assert_eq!(words(text, '\\').collect::<Vec<_>>(), want, "{text:?}");
        }
        let found: Vec<_> = words("a=b` c \\ d", '`').collect();
        assert_eq!(found, ["a=b` c", "\\", "d"]);
    }

    #[test]
    fn lists_and_pairs() {
        assert_eq!(items(" a\t b\x0bc ").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(items("").next(), None);
        assert_eq!(split_blank("a  b c"), Some(("a", "b c")));
        assert_eq!(split_blank("a"), None);
        assert_eq!(first_word("CMD\u{a0} x y"), ("CMD", "x y"));
        assert_eq!(first_word("NONE"), ("NONE", ""));
    }

    #[test]
    fn heredoc_markers() {
        for (text, want) in [
            ("<<EOF", Some(("", false, "EOF"))),
            ("3<<-'a'", Some(("3", true, "'a'"))),
            ("<<", None),
            ("<<-", None),
            ("<<<x", None),
            ("<<a<b", None),
            ("a<<b", None),
            ("\"<<b\"", None),
        ] {
            assert_eq!(heredoc_marker(text), want, "{text}");
        }
    }
}
