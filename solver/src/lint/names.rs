//! Names of stages.

use std::collections::BTreeSet;

use kiln_parser::{Instruction, Kind};

use super::{At, Findings, Rule};

/// Words that mean something else where a stage could be named.
const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn check(all: &[Instruction], findings: &Findings) {
    let mut taken = BTreeSet::new();
    for instruction in all {
        let Kind::From {
            alias: Some(alias), ..
        } = &instruction.kind
        else {
            continue;
        };
        let at = At {
            about: instruction.span,
            caret: alias.span,
        };
        let name = alias.value.to_lowercase();
        if RESERVED.contains(&name.as_str()) {
            let detail = format!("`{name}` has a meaning of its own and should not name a stage");
            findings.report(Rule::ReservedStageName, at, detail);
        }
        if taken.contains(&name) {
            let detail = format!("an earlier stage is named `{name}` already");
            findings.report(Rule::DuplicateStageName, at, detail);
        }
        taken.insert(name);
    }
}
