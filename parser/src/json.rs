//! The JSON array form of instructions.

use std::borrow::Cow;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while_m_n};
use nom::character::complete::{char, digit0, digit1, one_of};
use nom::combinator::{opt, recognize, value};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

/// Arrays and objects nested deeper than this are not taken as JSON.
const DEEPEST: usize = 128;

/// What a text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Array<'a> {
    /// An array of strings: each as written and decoded.
    Strings(Vec<(&'a str, String)>),
    /// An array that holds something other than strings.
    Mixed,
    /// No JSON array.
    No,
}

/// Reads all of `text` as an array.
pub(crate) fn array(text: &str) -> Array<'_> {
    // White space before the array may be any; inside it, only what JSON knows.
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Array::No;
    }
    let mut found = Found::default();
    match elements(text, 0, Some(&mut found)) {
        Ok((rest, ())) if rest.trim_start_matches(is_space).is_empty() => {
            if found.other {
                Array::Mixed
            } else {
                Array::Strings(found.strings)
            }
        }
        _ => Array::No,
    }
}

/// The elements of the outermost array.
#[derive(Default)]
struct Found<'a> {
    strings: Vec<(&'a str, String)>,
    /// Something is no string.
    other: bool,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn space(input: &str) -> IResult<&str, &str> {
    take_while(is_space).parse(input)
}

fn fail<T>(input: &str) -> IResult<&str, T> {
    Err(nom::Err::Error(nom::error::Error::new(
        input,
        nom::error::ErrorKind::Verify,
    )))
}

/// An array. Only the elements of the outermost one are kept.
fn elements<'a>(
    input: &'a str,
    depth: usize,
    mut found: Option<&mut Found<'a>>,
) -> IResult<&'a str, ()> {
    if depth > DEEPEST {
        return fail(input);
    }
    let (mut rest, _) = (char('['), space).parse(input)?;
    if let Some(after) = rest.strip_prefix(']') {
        return Ok((after, ()));
    }
    loop {
        let after = match &mut found {
            Some(found) if rest.starts_with('"') => {
                let (after, text) = string(rest)?;
                let raw = rest.get(..rest.len() - after.len()).unwrap_or("");
                found.strings.push((raw, text.into_owned()));
                after
            }
            found => {
                if let Some(found) = found {
                    found.other = true;
                }
                element(rest, depth)?.0
            }
        };
        let (after, end) = preceded(space, one_of(",]")).parse(after)?;
        if end == ']' {
            return Ok((after, ()));
        }
        (rest, _) = space(after)?;
    }
}

fn members(input: &str, depth: usize) -> IResult<&str, ()> {
    if depth > DEEPEST {
        return fail(input);
    }
    let (mut rest, _) = (char('{'), space).parse(input)?;
    if let Some(after) = rest.strip_prefix('}') {
        return Ok((after, ()));
    }
    loop {
        let (after, (_, _, (), end)) = (
            string,
            delimited(space, char(':'), space),
            |i| element(i, depth),
            preceded(space, one_of(",}")),
        )
            .parse(rest)?;
        if end == '}' {
            return Ok((after, ()));
        }
        (rest, _) = space(after)?;
    }
}

fn element(input: &str, depth: usize) -> IResult<&str, ()> {
    match input.as_bytes().first() {
        Some(b'"') => string(input).map(|(rest, _)| (rest, ())),
        Some(b'[') => elements(input, depth + 1, None),
        Some(b'{') => members(input, depth + 1),
        _ => value((), alt((tag("true"), tag("false"), tag("null"), number))).parse(input),
    }
}

fn number(input: &str) -> IResult<&str, &str> {
    recognize((
        opt(char('-')),
        alt((tag("0"), recognize((one_of("123456789"), digit0)))),
        opt((char('.'), digit1)),
        opt((one_of("eE"), opt(one_of("+-")), digit1)),
    ))
    .parse(input)
}

fn string(input: &str) -> IResult<&str, Cow<'_, str>> {
    let (rest, _) = char('"').parse(input)?;
    let (mut rest, head) = plain(rest)?;
    let mut text = Cow::Borrowed(head);
    loop {
        if let Some(after) = rest.strip_prefix('"') {
            return Ok((after, text));
        }
        let (after, c) = escaped(rest)?;
        text.to_mut().push(c);
        let (after, more) = plain(after)?;
        text.to_mut().push_str(more);
        rest = after;
    }
}

/// Text up to a quote, an escape or a control character.
fn plain(input: &str) -> IResult<&str, &str> {
    take_while(|c: char| c != '"' && c != '\\' && c >= ' ').parse(input)
}

fn escaped(input: &str) -> IResult<&str, char> {
    let (rest, c) = preceded(char('\\'), one_of("\"\\/bfnrtu")).parse(input)?;
    let c = match c {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => return unicode(rest),
        other => other,
    };
    Ok((rest, c))
}

fn hex4(input: &str) -> IResult<&str, u32> {
    let (rest, digits) = take_while_m_n(4, 4, |c: char| c.is_ascii_hexdigit()).parse(input)?;
    Ok((rest, u32::from_str_radix(digits, 16).unwrap_or(0xfffd)))
}

/// Half a surrogate pair decodes to the replacement character.
fn unicode(input: &str) -> IResult<&str, char> {
    let (rest, high) = hex4(input)?;
    if (0xd800..0xdc00).contains(&high)
        && let Ok((after, low)) = preceded(tag("\\u"), hex4).parse(rest)
        && (0xdc00..0xe000).contains(&low)
    {
        let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        return Ok((after, char::from_u32(code).unwrap_or('\u{fffd}')));
    }
    Ok((rest, char::from_u32(high).unwrap_or('\u{fffd}')))
}

#[cfg(test)]
mod tests {
    use super::{Array, array};

    #[test]
    fn arrays_of_strings() {
        let cases: [(&str, &[&str]); 9] = [
            ("[]", &[]),
            (" [ ] ", &[]),
            (r#"["a"]"#, &["a"]),
            ("[\t\"a\" ,\r\n \"b\"  ]  ", &["a", "b"]),
            (r#"["\"\\\/\b\f\n\r\t"]"#, &["\"\\/\u{8}\u{c}\n\r\t"]),
            (r#"["\u00e9\u20AC"]"#, &["é€"]),
            (r#"["\ud83d\ude00"]"#, &["😀"]),
            (r#"["\ud83dx\ude00"]"#, &["\u{fffd}x\u{fffd}"]),
            (r#"["é"]"#, &["é"]),
        ];
        for (text, want) in cases {
            let Array::Strings(found) = array(text) else {
                panic!("{text}: no array of strings")
            };
            assert_eq!(
                found.iter().map(|(_, s)| s.as_str()).collect::<Vec<_>>(),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn other_arrays() {
        for text in [
            "[1]",
            "[null]",
            r#"["a", -1.5e+3]"#,
            r#"[["a"]]"#,
            r#"[{"a": [true, {}]}]"#,
        ] {
            assert_eq!(array(text), Array::Mixed, "{text}");
        }
    }

    #[test]
    fn no_arrays() {
        for text in [
            "",
            "a",
            "[",
            "]",
            "['a']",
            r#"["a"] b"#,
            r#"["a",]"#,
            r#"["a" "b"]"#,
            r#"[,"a"]"#,
            r#"["a"#,
            r#"["\x"]"#,
            r#"["\u12"]"#,
            "[\"a\tb\"]",
            "[01]",
            "[tru]",
            r#"{"a": 1}"#,
            "[\u{a0}\"a\"]",
        ] {
            assert_eq!(array(text), Array::No, "{text}");
        }
        assert_eq!(array(&"[".repeat(100_000)), Array::No);
    }
}
