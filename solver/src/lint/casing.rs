//! Upper and lower case: of instructions, of `AS`, of names of stages.

use kiln_parser::{Instruction, Kind, Text};

use super::{At, Findings, Rule};

fn is_lower(word: &str) -> bool {
    word.to_lowercase() == word
}

fn is_upper(word: &str) -> bool {
    word.to_uppercase() == word
}

/// A `FROM` that names its stage.
pub(super) fn check_from(
    from: &Instruction,
    as_word: Option<&Text>,
    name: &Text,
    findings: &Findings,
) {
    let at = |text: &Text| At {
        about: from.span,
        caret: text.span,
    };
    if !is_lower(&name.value) {
        let detail = format!("stage name `{}` should be in lower case", name.value);
        findings.report(Rule::StageNameCasing, at(name), detail);
    }
    let Some(word) = as_word else { return };
    let keyword = &from.keyword.value;
    // A keyword of mixed case is reported for itself.
    let fits = match (is_lower(keyword), is_upper(keyword)) {
        (true, _) => is_lower(&word.value),
        (_, true) => is_upper(&word.value),
        _ => true,
    };
    if !fits {
        let detail = format!("`{}` should be in the same case as `{keyword}`", word.value);
        findings.report(Rule::FromAsCasing, at(word), detail);
    }
}

/// The keywords of all stages: the case of most of them is the right one.
pub(super) fn check_instructions(all: &[Instruction], findings: &Findings) {
    // Arguments before the first stage do not count.
    let in_stages = || {
        all.iter()
            .skip_while(|i| !matches!(i.kind, Kind::From { .. }))
    };
    let words = || in_stages().map(|i| i.keyword.value.as_str());
    let lower = words().filter(|w| is_lower(w)).count();
    let upper = words().filter(|w| is_upper(w)).count();
    for instruction in in_stages() {
        let word = &instruction.keyword;
        let (fits, wanted) = if lower > upper {
            (is_lower(&word.value), "lower")
        } else {
            (is_upper(&word.value), "upper")
        };
        if !fits {
            let at = At {
                about: instruction.span,
                caret: word.span,
            };
            let detail = format!(
                "`{}` should be in {wanted} case, as most instructions here are",
                word.value
            );
            findings.report(Rule::ConsistentInstructionCasing, at, detail);
        }
    }
}
