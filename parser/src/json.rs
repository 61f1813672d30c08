//! The JSON array form of instructions.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while_m_n, take_while1};
use nom::character::complete::{char, digit0, digit1, one_of};
use nom::combinator::{opt, recognize, value};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

/// Arrays and objects nested deeper than this are not taken as JSON.
const DEEPEST: usize = 128;

/// One element of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Element<'a> {
    /// A string: as written, with quotes, and decoded.
    String(&'a str, String),
    /// Anything else.
    Other,
}

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
    if !text.trim_start().starts_with('[') {
        return Array::No;
    }
    // White space before the array may be any; inside it, only what JSON knows.
    let Ok((rest, elements)) = elements(text.trim_start(), 0) else {
        return Array::No;
    };
    if !rest.trim_start_matches(is_space).is_empty() {
        return Array::No;
    }
    let mut strings = Vec::with_capacity(elements.len());
    for element in elements {
        match element {
            Element::String(raw, text) => strings.push((raw, text)),
            Element::Other => return Array::Mixed,
        }
    }
    Array::Strings(strings)
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

fn elements(input: &str, depth: usize) -> IResult<&str, Vec<Element<'_>>> {
    if depth > DEEPEST {
        return fail(input);
    }
    let (mut rest, _) = (char('['), space).parse(input)?;
    let mut found = Vec::new();
    if let Some(after) = rest.strip_prefix(']') {
        return Ok((after, found));
    }
    loop {
        let (after, (element, end)) =
            (|i| element(i, depth), preceded(space, one_of(",]"))).parse(rest)?;
        found.push(element);
        if end == ']' {
            return Ok((after, found));
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
        let (after, (_, _, _, end)) = (
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

fn element(input: &str, depth: usize) -> IResult<&str, Element<'_>> {
    match input.as_bytes().first() {
        Some(b'"') => {
            let (rest, text) = string(input)?;
            let raw = input.get(..input.len() - rest.len()).unwrap_or("");
            Ok((rest, Element::String(raw, text)))
        }
        Some(b'[') => elements(input, depth + 1).map(|(rest, _)| (rest, Element::Other)),
        Some(b'{') => members(input, depth + 1).map(|(rest, ())| (rest, Element::Other)),
        _ => value(
            Element::Other,
            alt((tag("true"), tag("false"), tag("null"), number)),
        )
        .parse(input),
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

fn string(input: &str) -> IResult<&str, String> {
    let (mut rest, _) = char('"').parse(input)?;
    let mut text = String::new();
    loop {
        if let Ok((after, plain)) = plain(rest) {
            text.push_str(plain);
            rest = after;
        }
        if let Some(after) = rest.strip_prefix('"') {
            return Ok((after, text));
        }
        let (after, c) = escaped(rest)?;
        text.push(c);
        rest = after;
    }
}

fn plain(input: &str) -> IResult<&str, &str> {
    take_while1(|c: char| c != '"' && c != '\\' && c >= ' ').parse(input)
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
