//! `--chmod` in octal and symbolic notation.

use nom::branch::alt;
use nom::character::complete::{char, one_of};
use nom::combinator::{all_consuming, map, value};
use nom::multi::{fold_many0, many1, separated_list1};
use nom::{IResult, Parser};

use super::FlagError;

/// All bits that a mode can change.
const ALL: u32 = 0o7777;

/// A decoded `--chmod` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChmodSpec(Notation);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Notation {
    Octal(u32),
    Symbolic(Vec<Action>),
}

/// One operator with what it applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Action {
    /// Bits of the classes named: 0o4700, 0o2070, 0o1007.
    who: u32,
    operator: char,
    permissions: Permissions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permissions {
    /// Plain bits for every class, and whether `X` was among the letters.
    Bits { bits: u32, search: bool },
    /// Copies from the class at this shift.
    Copy(u32),
}

impl ChmodSpec {
    /// The permission bits (12 bits) that a file with bits `current` gets.
    #[must_use]
    pub fn apply(&self, current: u32, is_dir: bool) -> u32 {
        match &self.0 {
            Notation::Octal(mode) => *mode,
            Notation::Symbolic(actions) => actions
                .iter()
                .fold(current & ALL, |mode, action| action.apply(mode, is_dir)),
        }
    }

    /// The mode when it does not depend on the file.
    #[must_use]
    pub fn fixed(&self) -> Option<u32> {
        match self.0 {
            Notation::Octal(mode) => Some(mode),
            Notation::Symbolic(_) => None,
        }
    }
}

impl Action {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let bits = match self.permissions {
            Permissions::Bits { bits, search } => {
                let executable = is_dir || mode & 0o111 != 0;
                bits | if search && executable { 0o111 } else { 0 }
            }
            Permissions::Copy(shift) => ((mode >> shift) & 7) * 0o111,
        } & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            // A directory keeps set-id bits and the sticky bit that are not named.
            _ if is_dir => (mode & !(self.who & 0o777)) | bits,
            _ => (mode & !self.who) | bits,
        }
    }
}

fn classes(input: &str) -> IResult<&str, u32> {
    let class = alt((
        value(0o4700, char('u')),
        value(0o2070, char('g')),
        value(0o1007, char('o')),
        value(ALL, char('a')),
    ));
    map(fold_many0(class, || 0, |all, one| all | one), |who| {
        if who == 0 { ALL } else { who }
    })
    .parse(input)
}

fn letters(input: &str) -> IResult<&str, Permissions> {
    let letter = alt((
        value((0o444, false), char('r')),
        value((0o222, false), char('w')),
        value((0o111, false), char('x')),
        value((0, true), char('X')),
        value((0o6000, false), char('s')),
        value((0o1000, false), char('t')),
    ));
    let all = fold_many0(
        letter,
        || (0, false),
        |all, one| (all.0 | one.0, all.1 | one.1),
    );
    map(all, |(bits, search)| Permissions::Bits { bits, search }).parse(input)
}

fn clause(input: &str) -> IResult<&str, Vec<Action>> {
    let copied = alt((
        value(Permissions::Copy(6), char('u')),
        value(Permissions::Copy(3), char('g')),
        value(Permissions::Copy(0), char('o')),
    ));
    let (rest, who) = classes(input)?;
    let (rest, actions) = many1((one_of("+-="), alt((copied, letters)))).parse(rest)?;
    let actions = actions
        .into_iter()
        .map(|(operator, permissions)| Action {
            // The sticky bit belongs to no class: `t` works with any of them.
            who: who | sticky(permissions),
            operator,
            permissions,
        })
        .collect();
    Ok((rest, actions))
}

fn sticky(permissions: Permissions) -> u32 {
    match permissions {
        Permissions::Bits { bits, .. } => bits & 0o1000,
        Permissions::Copy(_) => 0,
    }
}

/// Decodes a mode such as `0755` or `u=rwX,go-w`.
///
/// A clause without classes means all of them, whatever the umask.
///
/// # Errors
/// When the text is neither octal nor symbolic.
pub fn parse_chmod(value: &str) -> Result<ChmodSpec, FlagError> {
    let wrong = || {
        FlagError::new(format!("the mode {value:?} is malformed"))
            .with_help(Some("write it as 0755 or as u=rwX,go=rX".to_owned()))
    };
    if value.starts_with(|c: char| c.is_ascii_digit()) {
        let octal = value.bytes().all(|b| (b'0'..=b'7').contains(&b));
        return match u32::from_str_radix(value, 8) {
            Ok(mode) if octal && mode <= ALL => Ok(ChmodSpec(Notation::Octal(mode))),
            _ => Err(wrong()),
        };
    }
    let (_, clauses) = all_consuming(separated_list1(char(','), clause))
        .parse(value)
        .map_err(|_: nom::Err<nom::error::Error<&str>>| wrong())?;
    Ok(ChmodSpec(Notation::Symbolic(
        clauses.into_iter().flatten().collect(),
    )))
}
