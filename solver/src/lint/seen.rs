//! What a stage has said so far: instructions that count once, forms of commands, pairs, WORKDIR.

use kiln_parser::{Command, Form, Healthcheck, Instruction, KeyValue, Kind};

use super::{At, Findings, Location, Rule};

/// What rules remember of a stage while its instructions are lowered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    cmd: Option<At>,
    entrypoint: Option<At>,
    healthcheck: Option<At>,
    workdir: bool,
}

impl Seen {
    /// What a stage that starts from this one remembers.
    pub(crate) fn of_child(&self) -> Self {
        Self {
            workdir: self.workdir,
            ..Self::default()
        }
    }

    /// An instruction comes; `shell` tells that a SHELL was chosen.
    pub(crate) fn instruction(
        &mut self,
        instruction: &Instruction,
        spot: Location,
        shell: bool,
        findings: &Findings,
    ) {
        let keyword = spot.at(instruction.keyword.span);
        let name = instruction.keyword.value.to_uppercase();
        let slot = match &instruction.kind {
            Kind::Cmd(command) => {
                shell_form(&name, command, spot, shell, findings);
                &mut self.cmd
            }
            Kind::Entrypoint(command) => {
                shell_form(&name, command, spot, shell, findings);
                &mut self.entrypoint
            }
            Kind::Healthcheck(Healthcheck::None | Healthcheck::Cmd(_)) => &mut self.healthcheck,
            Kind::Env(pairs) | Kind::Label(pairs) => {
                return old_pairs(&name, pairs, spot, findings);
            }
            _ => return,
        };
        // The earlier one is what has no effect.
        if let Some(earlier) = slot.replace(keyword) {
            let detail = format!("this `{name}` has no effect: a later one in the stage counts");
            findings.report(Rule::MultipleInstructionsDisallowed, earlier, detail);
        }
    }

    /// A WORKDIR comes, with its variables expanded.
    pub(crate) fn workdir(&mut self, path: &str, at: At, findings: &Findings) {
        let first = !std::mem::replace(&mut self.workdir, true);
        if first && !path.starts_with('/') {
            let detail = format!(
                "relative path `{path}` depends on the working directory of the base image"
            );
            findings.report(Rule::WorkdirRelativePath, at, detail);
        }
    }
}

fn shell_form(name: &str, command: &Command, spot: Location, shell: bool, findings: &Findings) {
    // Who chose a shell wants it.
    if let (Form::Shell(text), false) = (&command.form, shell) {
        let detail = format!(
            "`{name}` is not a JSON array, so a shell runs it and signals may not reach the program"
        );
        findings.report(Rule::JSONArgsRecommended, spot.at(text.span), detail);
    }
}

fn old_pairs(name: &str, pairs: &[KeyValue], spot: Location, findings: &Findings) {
    for pair in pairs.iter().filter(|p| p.legacy) {
        let detail = format!("write `{name} key=value` instead of `{name} key value`");
        let at = spot.at(pair.key.span.to(pair.value.span));
        findings.report(Rule::LegacyKeyValueFormat, at, detail);
    }
}
