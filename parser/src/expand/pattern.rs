//! Patterns of `${x#p}`, `${x%p}` and `${x/p/r}`: `*`, `?` and literal characters.
//!
//! `*` and `?` do not match a line feed. So a pattern with line feeds is matched line by line: what
//! stands between them must match whole lines, and what stands around them, parts of lines.

#[cfg(test)]
mod tests;

use super::ExpandError;
use super::fuel::Fuel;

/// Why a pattern has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PatternError {
    /// It is wrong.
    Malformed(String),
    /// It takes too much work.
    Spent(ExpandError),
}

impl From<ExpandError> for PatternError {
    fn from(error: ExpandError) -> Self {
        Self::Spent(error)
    }
}

/// Where a match begins and ends.
type Range = (usize, usize);

/// A compiled pattern: its lines.
#[derive(Debug)]
pub(super) struct Pattern {
    first: Line,
    others: Vec<Line>,
}

/// What stands between the stars of a line; any of it may be empty.
#[derive(Debug, Default)]
struct Line {
    first: Part,
    others: Vec<Part>,
}

/// Characters in a row.
#[derive(Debug)]
enum Part {
    Text(String),
    /// None is any character.
    Wild(Vec<Option<char>>),
}

impl Default for Part {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Pattern {
    /// Compiles a pattern.
    pub(super) fn new(pattern: &str) -> Result<Self, PatternError> {
        let malformed = |reason: String| Err(PatternError::Malformed(reason));
        let mut lines = Vec::new();
        let mut line = Line::default();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' => line.others.push(Part::default()),
                '?' => line.last_part().push(None),
                '\n' => lines.push(std::mem::take(&mut line)),
                // `}` and `/` had to be escaped to get here; the escape is no part of the pattern.
                '\\' if matches!(chars.peek(), Some('}' | '/')) => {}
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\')) => line.last_part().push(Some(c)),
                    Some(c) => return malformed(format!("the escape \\{c} has no meaning")),
                    None => return malformed("it ends in an escape".to_owned()),
                },
                c => line.last_part().push(Some(c)),
            }
        }
        if lines.is_empty() {
            return Ok(Self {
                first: line,
                others: lines,
            });
        }
        lines.push(line);
        let first = lines.remove(0);
        Ok(Self {
            first,
            others: lines,
        })
    }

    /// Replaces the first match, or all; a star takes as much as it can. As in BuildKit, `$0` in
    /// what replaces all stands for the match, and any other reference for nothing.
    pub(super) fn replace(
        &self,
        value: &str,
        with: &str,
        all: bool,
        fuel: &mut Fuel,
    ) -> Result<String, PatternError> {
        let mut out = String::new();
        let mut copied = 0;
        let mut last_end = None;
        let mut from = 0;
        let mut line_end = end_of_line(value, 0);
        while from <= value.len() {
            let found = self.find_in_line(value, from, line_end, fuel)?;
            let Some((start, end)) = found else {
                // The next line begins after the line feed.
                from = line_end + 1;
                line_end = end_of_line(value, from);
                continue;
            };
            if start == end && last_end == Some(end) {
                // An empty match right after another is none.
                let skipped = value.get(end..).and_then(|rest| rest.chars().next());
                from = end + skipped.map_or(1, char::len_utf8);
            } else {
                let found = value.get(start..end).unwrap_or("");
                fuel.burn(
                    with.len()
                        + if all {
                            found.len() * with.matches('$').count()
                        } else {
                            0
                        },
                )?;
                out.push_str(value.get(copied..start).unwrap_or(""));
                if all {
                    push_template(&mut out, with, found);
                } else {
                    out.push_str(with);
                }
                (copied, from, last_end) = (end, end, Some(end));
                if !all {
                    break;
                }
            }
            if from > line_end {
                line_end = end_of_line(value, from);
            }
        }
        out.push_str(value.get(copied..).unwrap_or(""));
        Ok(out)
    }

    /// The first match that begins between `from` and the end of its line.
    fn find_in_line(
        &self,
        value: &str,
        from: usize,
        line_end: usize,
        fuel: &mut Fuel,
    ) -> Result<Option<Range>, ExpandError> {
        let line = value.get(..line_end).unwrap_or("");
        if self.others.is_empty() {
            return self.first.find(line, from, fuel);
        }
        let Some(start) = self.first.find_to_end(line, from, fuel)? else {
            return Ok(None);
        };
        let end = self.following_lines(value, line_end, true, fuel)?;
        Ok(end.map(|end| (start, end)))
    }

    /// The end of the longest or shortest prefix that matches.
    fn prefix(
        &self,
        value: &str,
        longest: bool,
        fuel: &mut Fuel,
    ) -> Result<Option<usize>, ExpandError> {
        let end = end_of_line(value, 0);
        let line = value.get(..end).unwrap_or("");
        if self.others.is_empty() {
            return self.first.prefix(line, longest, fuel);
        }
        if !self.first.is_whole(line, fuel)? {
            return Ok(None);
        }
        self.following_lines(value, end, longest, fuel)
    }

    /// Matches the lines after the first; `at` is the end of the line that the first matched.
    fn following_lines(
        &self,
        value: &str,
        mut at: usize,
        longest: bool,
        fuel: &mut Fuel,
    ) -> Result<Option<usize>, ExpandError> {
        let Some((last, middle)) = self.others.split_last() else {
            return Ok(Some(at));
        };
        let next_line = |at: usize| {
            let start = at + 1;
            value.get(start..end_of_line(value, start))
        };
        for pattern in middle {
            let Some(line) = next_line(at) else {
                return Ok(None);
            };
            fuel.burn(line.len() + 1)?;
            if !pattern.is_whole(line, fuel)? {
                return Ok(None);
            }
            at += 1 + line.len();
        }
        let Some(line) = next_line(at) else {
            return Ok(None);
        };
        let end = last.prefix(line, longest, fuel)?;
        Ok(end.map(|end| at + 1 + end))
    }
}

/// Adds `template` with its references: `$name`, `${name}`, and `$$` for a dollar.
fn push_template(out: &mut String, template: &str, found: &str) {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let split = |text: &'_ str| text.find(|c| !is_name(c)).unwrap_or(text.len());
        // A brace is looked for behind the name only: the end may be far, for every `$`.
        let braced = after.strip_prefix('{').and_then(|inside| {
            let (name, behind) = inside.split_at(split(inside));
            Some((name, behind.strip_prefix('}')?))
        });
        let (name, behind) = braced.unwrap_or_else(|| after.split_at(split(after)));
        if let Some(behind) = after.strip_prefix('$') {
            out.push('$');
            rest = behind;
        } else if name.is_empty() {
            out.push('$');
            rest = after;
        } else {
            if name == "0" {
                out.push_str(found);
            }
            rest = behind;
        }
    }
    out.push_str(rest);
}

/// Where the line that holds `from` ends, without its line feed.
fn end_of_line(value: &str, from: usize) -> usize {
    let rest = value.get(from..).unwrap_or("");
    rest.find('\n').map_or(value.len(), |at| from + at)
}

impl Line {
    fn last_part(&mut self) -> &mut Part {
        self.others.last_mut().unwrap_or(&mut self.first)
    }

    /// Where all parts but the last can end at the earliest, when the first ends at `at`; and the
    /// last. Without stars there is no other part.
    fn middle(
        &self,
        text: &str,
        mut at: usize,
        fuel: &mut Fuel,
    ) -> Result<Option<(usize, Option<&Part>)>, ExpandError> {
        let Some((last, middle)) = self.others.split_last() else {
            return Ok(Some((at, None)));
        };
        for part in middle {
            match part.find(text, at, fuel)? {
                Some((_, end)) => at = end,
                None => return Ok(None),
            }
        }
        Ok(Some((at, Some(last))))
    }

    /// The end of the match whose first part ends at `at`.
    fn end(
        &self,
        text: &str,
        at: usize,
        longest: bool,
        fuel: &mut Fuel,
    ) -> Result<Option<usize>, ExpandError> {
        let range = match self.middle(text, at, fuel)? {
            None => None,
            Some((at, None)) => return Ok(Some(at)),
            Some((at, Some(last))) if longest => last.rfind(text, at, fuel)?,
            Some((at, Some(last))) => last.find(text, at, fuel)?,
        };
        Ok(range.map(|(_, end)| end))
    }

    fn prefix(
        &self,
        text: &str,
        longest: bool,
        fuel: &mut Fuel,
    ) -> Result<Option<usize>, ExpandError> {
        match self.first.match_at(text, 0, fuel)? {
            Some(at) => self.end(text, at, longest, fuel),
            None => Ok(None),
        }
    }

    /// The first match from `from` on. If there is any, there is one where the first part is
    /// found first: a star reaches from there to wherever the others are.
    fn find(&self, text: &str, from: usize, fuel: &mut Fuel) -> Result<Option<Range>, ExpandError> {
        let Some((start, at)) = self.first.find(text, from, fuel)? else {
            return Ok(None);
        };
        let end = self.end(text, at, true, fuel)?;
        Ok(end.map(|end| (start, end)))
    }

    /// The start of the first match from `from` on that reaches to the end.
    fn find_to_end(
        &self,
        text: &str,
        from: usize,
        fuel: &mut Fuel,
    ) -> Result<Option<usize>, ExpandError> {
        if self.others.is_empty() {
            return self.first.match_end(text, from, fuel);
        }
        let Some((start, at)) = self.first.find(text, from, fuel)? else {
            return Ok(None);
        };
        Ok(self.reaches_end(text, at, fuel)?.then_some(start))
    }

    fn is_whole(&self, text: &str, fuel: &mut Fuel) -> Result<bool, ExpandError> {
        match self.first.match_at(text, 0, fuel)? {
            Some(at) => self.reaches_end(text, at, fuel),
            None => Ok(false),
        }
    }

    /// Whether a match whose first part ends at `at` can reach to the end.
    fn reaches_end(&self, text: &str, at: usize, fuel: &mut Fuel) -> Result<bool, ExpandError> {
        match self.middle(text, at, fuel)? {
            None => Ok(false),
            Some((at, None)) => Ok(at == text.len()),
            Some((at, Some(last))) => Ok(last.match_end(text, at, fuel)?.is_some()),
        }
    }
}

impl Part {
    fn push(&mut self, unit: Option<char>) {
        match (&mut *self, unit) {
            (Self::Text(text), Some(c)) => text.push(c),
            (Self::Text(text), None) => {
                *self = Self::Wild(text.chars().map(Some).chain([None]).collect());
            }
            (Self::Wild(units), unit) => units.push(unit),
        }
    }

    /// The end of the match that begins at `at`.
    fn match_at(
        &self,
        text: &str,
        at: usize,
        fuel: &mut Fuel,
    ) -> Result<Option<usize>, ExpandError> {
        let rest = text.get(at..).unwrap_or("");
        match self {
            Self::Text(part) => Ok(rest.starts_with(part.as_str()).then_some(at + part.len())),
            Self::Wild(units) => {
                let mut chars = rest.chars();
                let differs = units.iter().position(|unit| {
                    let c = chars.next();
                    c.is_none() || (unit.is_some() && *unit != c)
                });
                fuel.burn(differs.unwrap_or(units.len()) + 1)?;
                let end = text.len() - chars.as_str().len();
                Ok(differs.is_none().then_some(end))
            }
        }
    }

    /// The start of the match that ends at the end of the text and begins at `from` or later.
    fn match_end(
        &self,
        text: &str,
        from: usize,
        fuel: &mut Fuel,
    ) -> Result<Option<usize>, ExpandError> {
        let rest = text.get(from..).unwrap_or("");
        let start = match self {
            Self::Text(part) => rest.strip_suffix(part.as_str()).map(str::len),
            Self::Wild(units) => {
                let mut starts = rest.char_indices().rev().map(|(at, _)| at);
                starts.nth(units.len().saturating_sub(1))
            }
        };
        match start.map(|start| from + start) {
            Some(start) => Ok(self.match_at(text, start, fuel)?.map(|_| start)),
            None => Ok(None),
        }
    }

    /// The first match that begins at `from` or later.
    fn find(&self, text: &str, from: usize, fuel: &mut Fuel) -> Result<Option<Range>, ExpandError> {
        let rest = text.get(from..).unwrap_or("");
        match self {
            Self::Text(part) => {
                let found = rest.find(part.as_str()).map(|at| from + at);
                fuel.burn(found.map_or(rest.len(), |at| at - from + part.len()))?;
                Ok(found.map(|at| (at, at + part.len())))
            }
            Self::Wild(_) => {
                for (at, _) in rest.char_indices() {
                    if let Some(end) = self.match_at(text, from + at, fuel)? {
                        return Ok(Some((from + at, end)));
                    }
                }
                Ok(None)
            }
        }
    }

    /// The last match that begins at `from` or later.
    fn rfind(
        &self,
        text: &str,
        from: usize,
        fuel: &mut Fuel,
    ) -> Result<Option<Range>, ExpandError> {
        let rest = text.get(from..).unwrap_or("");
        match self {
            Self::Text(part) => {
                let found = rest.rfind(part.as_str()).map(|at| from + at);
                fuel.burn(text.len() - found.unwrap_or(from))?;
                Ok(found.map(|at| (at, at + part.len())))
            }
            Self::Wild(_) => {
                for (at, _) in rest.char_indices().rev() {
                    if let Some(end) = self.match_at(text, from + at, fuel)? {
                        return Ok(Some((from + at, end)));
                    }
                }
                Ok(None)
            }
        }
    }
}

/// Removes the shortest or longest prefix that matches.
pub(super) fn cut_prefix(
    pattern: &str,
    value: &str,
    longest: bool,
    fuel: &mut Fuel,
) -> Result<String, PatternError> {
    let end = Pattern::new(pattern)?.prefix(value, longest, fuel)?;
    Ok(value.get(end.unwrap_or(0)..).unwrap_or("").to_owned())
}

/// Removes the shortest or longest suffix that matches: a prefix of the reversed text.
pub(super) fn cut_suffix(
    pattern: &str,
    value: &str,
    longest: bool,
    fuel: &mut Fuel,
) -> Result<String, PatternError> {
    let reversed: String = value.chars().rev().collect();
    let kept = cut_prefix(&reverse(pattern), &reversed, longest, fuel)?;
    Ok(kept.chars().rev().collect())
}

/// Reverses a pattern but leaves each escape before its character.
fn reverse(pattern: &str) -> String {
    let mut units = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next() } else { None };
        units.push((c, escaped));
    }
    units
        .into_iter()
        .rev()
        .flat_map(|(c, escaped)| std::iter::once(c).chain(escaped))
        .collect()
}
