//! Values of flags that are lists: one CSV record.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till};
use nom::character::complete::{char, none_of};
use nom::combinator::{all_consuming, map, value};
use nom::multi::{many0, separated_list1};
use nom::sequence::delimited;
use nom::{IResult, Parser};

use super::FlagError;

/// Splits the record that describes a `what`: a field in double quotes may hold commas.
pub(super) fn fields(what: &str, record: &str) -> Result<Vec<String>, FlagError> {
    fn quoted(input: &str) -> IResult<&str, String> {
        let inner = many0(alt((value('"', tag("\"\"")), none_of("\""))));
        delimited(char('"'), map(inner, String::from_iter), char('"')).parse(input)
    }
    fn bare(input: &str) -> IResult<&str, String> {
        let (rest, text) = take_till(|c| matches!(c, ',' | '"' | '\n')).parse(input)?;
        Ok((rest, text.to_owned()))
    }
    if record.is_empty() {
        return Err(FlagError::new(format!("the {what} is empty")));
    }
    all_consuming(separated_list1(char(','), alt((quoted, bare))))
        .parse(record)
        .map(|(_, fields)| fields)
        .map_err(|_: nom::Err<nom::error::Error<&str>>| {
            FlagError::new(format!(
                "the quotes in the {what} {record:?} do not enclose whole options"
            ))
        })
}
