//! Durations as Go writes them: `1m30s`, `1.5h`, `500ms`.

use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::character::complete::{char, digit0};
use nom::combinator::{all_consuming, opt, value, verify};
use nom::multi::fold_many1;
use nom::sequence::preceded;
use nom::{IResult, Parser};

use super::FlagError;

/// Fractions of a nanosecond are cut, so that later digits cannot matter.
const DIGITS: usize = 18;

fn unit(input: &str) -> IResult<&str, u128> {
    alt((
        value(1, tag("ns")),
        value(1_000, alt((tag("us"), tag("µs"), tag("μs")))),
        value(1_000_000, tag("ms")),
        value(1_000_000_000, tag("s")),
        value(60_000_000_000, tag("m")),
        value(3_600_000_000_000, tag("h")),
    ))
    .parse(input)
}

/// One number with its unit, in nanoseconds; none when it is too large.
fn term(input: &str) -> IResult<&str, Option<u128>> {
    let number = verify(
        (digit0, opt(preceded(char('.'), digit0))),
        |(whole, fraction): &(&str, Option<&str>)| {
            !whole.is_empty() || fraction.is_some_and(|f| !f.is_empty())
        },
    );
    let (rest, ((whole, fraction), unit)) = (number, unit).parse(input)?;
    let whole = if whole.is_empty() {
        Some(0)
    } else {
        whole.parse::<u64>().ok()
    };
    let fraction = fraction.unwrap_or("");
    let fraction = fraction.get(..DIGITS).unwrap_or(fraction);
    let scale = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let part = fraction.parse::<u128>().unwrap_or(0) * unit / scale;
    Ok((rest, whole.map(|whole| u128::from(whole) * unit + part)))
}

/// Decodes a duration such as `1m30s` or `500ms` to nanoseconds.
///
/// # Errors
/// When the text is no duration, is negative or does not fit.
pub fn parse_duration(value: &str) -> Result<u64, FlagError> {
    let wrong = |reason: &str| FlagError::new(format!("the duration {value:?} {reason}"));
    if value.starts_with('-') {
        return Err(wrong("is negative"));
    }
    let text = value.strip_prefix('+').unwrap_or(value);
    if text == "0" {
        return Ok(0);
    }
    let sum = |total: Option<u128>, term: Option<u128>| total?.checked_add(term?);
    let parsed = all_consuming(fold_many1(term, || Some(0u128), sum)).parse(text);
    let Ok((_, total)) = parsed else {
        return Err(
            wrong("is malformed").with_help(Some("write it as 30s, 1m30s or 500ms".to_owned()))
        );
    };
    // The bound is that of a signed number, as in other engines.
    total
        .and_then(|total| i64::try_from(total).ok())
        .and_then(|total| u64::try_from(total).ok())
        .ok_or_else(|| wrong("is too long"))
}
