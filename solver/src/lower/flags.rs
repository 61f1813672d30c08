//! Flags of instructions, expanded.

use kiln_parser::flags::{FlagError, parse_bool_flag, parse_chmod};
use kiln_parser::{Flag, Instruction, Text};

use super::error::LowerError;
use super::stage::Build;
use super::state::State;
use crate::plan::ModeChange;

impl Build<'_> {
    /// The value of a flag with its variables expanded; an empty value where there is none.
    pub(super) fn flag(
        &self,
        instruction: &Instruction,
        name: &str,
        state: &State,
    ) -> Result<Option<Text>, LowerError> {
        let Some(flag) = find(instruction, name) else {
            return Ok(None);
        };
        let value = match &flag.value {
            Some(value) => self.word(value, state)?,
            None => String::new(),
        };
        Ok(Some(Text::new(value, flag.span)))
    }

    /// A flag that is on or off.
    pub(super) fn switch(
        &self,
        instruction: &Instruction,
        name: &str,
        state: &State,
    ) -> Result<bool, LowerError> {
        let Some(flag) = find(instruction, name) else {
            return Ok(false);
        };
        let value = match &flag.value {
            Some(value) => Some(self.word(value, state)?),
            None => None,
        };
        parse_bool_flag(value.as_deref()).map_err(|e| flag_error(&e, flag))
    }

    /// `--chmod`.
    pub(super) fn chmod(
        &self,
        instruction: &Instruction,
        state: &State,
    ) -> Result<Option<ModeChange>, LowerError> {
        let Some(text) = self.flag(instruction, "chmod", state)? else {
            return Ok(None);
        };
        if text.value.is_empty() {
            return Ok(None);
        }
        let spec = parse_chmod(&text.value)
            .map_err(|e| LowerError::new(e.message, text.span).with_help(e.help))?;
        let apply = std::sync::Arc::new(move |mode, is_dir| spec.apply(mode, is_dir));
        Ok(Some(ModeChange {
            text: text.value,
            apply,
        }))
    }
}

pub(super) fn find<'a>(instruction: &'a Instruction, name: &str) -> Option<&'a Flag> {
    instruction
        .flags
        .iter()
        .rev()
        .find(|f| f.name.value == name)
}

pub(super) fn flag_error(error: &FlagError, flag: &Flag) -> LowerError {
    LowerError::new(
        format!("--{}: {}", flag.name.value, error.message),
        flag.span,
    )
    .with_help(error.help.clone())
}
