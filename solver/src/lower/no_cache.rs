//! Which steps run whatever the cache holds.

use std::collections::BTreeSet;

use kiln_parser::nearest;

use super::error::{LowerError, LowerWarning};
use super::stage::{Build, Place};
use super::stages::Stage;
use crate::plan::{Forced, Lines};

/// Which steps ignore results of earlier builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoCache {
    /// All.
    pub all: bool,
    /// Those of these stages: names in any case, or numbers from 0.
    pub stages: BTreeSet<String>,
    /// These.
    pub steps: Vec<StepChoice>,
}

/// One step, as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepChoice {
    /// The instruction at this line of the Dockerfile, from 1.
    Line(usize),
    /// The step that progress shows as `[STAGE NUMBER/…]`.
    Number {
        /// Name or number of the stage; empty is the only one.
        stage: String,
        /// The number, from 2: the base is 1.
        number: usize,
    },
}

impl std::fmt::Display for StepChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(f, "{line}"),
            Self::Number { stage, number } => write!(f, "{stage}:{number}"),
        }
    }
}

/// Whether `text` means this stage: its name in any case, its number, or both as progress shows
/// a stage without a name.
fn means(text: &str, stage: &Stage, index: usize) -> bool {
    let named = stage.name.as_deref();
    named.is_some_and(|name| name.eq_ignore_ascii_case(text))
        || text == index.to_string()
        || named.is_none() && text.strip_prefix("stage-") == Some(index.to_string().as_str())
}

impl Build<'_> {
    /// Why the step at `place` ignores the cache, if it does.
    pub(super) fn ignore_cache(
        &mut self,
        place: Place<'_>,
        lines: Option<Lines>,
    ) -> Option<Forced> {
        let request = self.request;
        let stage = &place.stages[place.stage];
        let chosen = request.no_cache.steps.iter().position(|step| match step {
            StepChoice::Line(line) => {
                lines.is_some_and(|lines| (lines.first..=lines.last).contains(line))
            }
            StepChoice::Number {
                stage: text,
                number,
            } => {
                let only = text.is_empty() && place.stages.len() == 1;
                place.number == *number && (only || means(text, stage, place.stage))
            }
        });
        if let Some(chosen) = chosen {
            self.reruns.insert(chosen);
        }
        if request.no_cache.all {
            return Some(Forced::NoCache);
        }
        let by_stage = request.no_cache.stages.iter();
        let by_stage = by_stage.into_iter().find(|t| means(t, stage, place.stage));
        if let Some(text) = by_stage {
            return Some(Forced::Stage(text.clone()));
        }
        let step = chosen.and_then(|number| request.no_cache.steps.get(number))?;
        Some(Forced::Step(step.to_string()))
    }

    /// A stage that is not there is worth a warning, as its steps may be expected to run; a step
    /// that is not there was certainly meant to be another.
    pub(super) fn check_no_cache(&mut self, stages: &[Stage]) -> Result<(), LowerError> {
        for text in &self.request.no_cache.stages {
            let known = stages.iter().enumerate().any(|(i, s)| means(text, s, i));
            if !known {
                let names: Vec<&str> = stages.iter().filter_map(|s| s.name.as_deref()).collect();
                let advice = match nearest(text, &names) {
                    Some(near) => format!("; did you mean `{near}`?"),
                    None if names.is_empty() => String::new(),
                    None => format!("; stages are: {}", names.join(", ")),
                };
                self.warnings.push(LowerWarning {
                    message: format!(
                        "there is no stage `{text}` that could ignore the cache{advice}"
                    ),
                    span: None,
                });
            }
        }
        let steps = self.request.no_cache.steps.iter().enumerate();
        let missed = steps
            .into_iter()
            .find(|(number, _)| !self.reruns.contains(number));
        match missed {
            None => Ok(()),
            Some((_, step)) => Err(LowerError::nowhere(format!(
                "no step of this build is at `{step}`"
            ))
            .with_help(Some(
                "name a line of the Dockerfile that has RUN, COPY, ADD or WORKDIR, or a step as \
                 progress shows it: STAGE:2 for [STAGE 2/5]",
            ))),
        }
    }
}
