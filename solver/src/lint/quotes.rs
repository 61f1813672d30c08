//! Typographic quotes in what looks like a JSON array, as texts about Dockerfiles have them.

use kiln_parser::{Instruction, Kind, is_json_array};

use super::{Findings, Location, Rule};

/// What stands for a double quote.
const DOUBLE: [char; 6] = [
    '\u{201c}', '\u{201d}', '\u{201e}', '\u{201f}', '\u{2033}', '\u{ff02}',
];

/// What stands for a single quote.
const SINGLE: [char; 6] = [
    '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}', '\u{2032}', '\u{ff07}',
];

/// Longer instructions are not shown.
const LONGEST: usize = 400;

/// Reports an instruction whose arguments would be an array but for its quotes.
pub(crate) fn check(instruction: &Instruction, spot: Location, findings: &Findings) {
    let knows_arrays = match &instruction.kind {
        Kind::Onbuild { instruction } => is_array_kind(&instruction.kind),
        kind => is_array_kind(kind),
    };
    if !knows_arrays {
        return;
    }
    let text = instruction.text.as_str();
    let Some(start) = text.match_indices('[').map(|(at, _)| at).find(|at| {
        let before = text.get(..*at).unwrap_or_default();
        before.ends_with([' ', '\t'])
    }) else {
        return;
    };
    let (before, array) = text.split_at(start);
    let is_quote = |c: &char| DOUBLE.contains(c) || SINGLE.contains(c);
    let mut seen: Vec<String> = Vec::new();
    for quote in array.chars().filter(is_quote).map(String::from) {
        if !seen.contains(&quote) {
            seen.push(quote);
        }
    }
    if seen.is_empty() {
        return;
    }
    let straight = |singles_are_double: bool| -> String {
        let one = |c: char| match c {
            c if DOUBLE.contains(&c) => '"',
            c if SINGLE.contains(&c) || c == '\'' => {
                if singles_are_double {
                    '"'
                } else {
                    '\''
                }
            }
            c => c,
        };
        array.chars().map(one).collect()
    };
    let Some(array) = [false, true]
        .into_iter()
        .map(straight)
        .find(|array| is_json_array(array))
    else {
        return;
    };
    let shown = match before.len() + array.len() {
        ..=LONGEST => format!("; write `{before}{array}`"),
        _ => String::new(),
    };
    let detail = format!(
        "the quotes {} are typographic, so that this is not a JSON array{shown}",
        seen.join(" "),
    );
    findings.report(
        Rule::KilnTypographicQuotes,
        spot.at(instruction.span),
        detail,
    );
}

fn is_array_kind(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Run(_)
            | Kind::Cmd(_)
            | Kind::Entrypoint(_)
            | Kind::Healthcheck(_)
            | Kind::Copy(_)
            | Kind::Add(_)
            | Kind::Volume(_)
    )
}
