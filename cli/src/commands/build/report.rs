//! What is said of a build that is over.

use std::path::Path;

use kiln_executor::Engine;
use kiln_executor::export::Assembled;
use kiln_image::Reference;
use kiln_solver::schedule::{Counts, SolveError};

use super::super::output::Outputs;
use super::{Args, BuildError, checks};
use crate::diagnostics::SourceText;
use crate::errors::Failure;
use crate::interrupt::Interrupt;
use crate::progress::{Mode, Model};
use crate::ui;

impl BuildError {
    /// Prints what went wrong, where, and what to do.
    pub(super) fn explain(self, model: &Model, source: &SourceText, engine: &Engine) -> Failure {
        match self {
            Self::Lower(error) => {
                source.lower_error(&error);
                Failure::silent(1)
            }
            Self::Checks(summary) => Failure::new(summary).with_hint(checks::FORBIDDEN),
            Self::Engine(error) => error.into(),
            Self::Solve(SolveError::Cancelled) => Interrupt::failure(),
            Self::Solve(SolveError::Vertex { vertex, error }) => {
                if let Some(step) = model.steps.get(&vertex) {
                    ui::note("------");
                    ui::note(&format!(" > {}:", step.name));
                    for line in &step.output {
                        ui::note(line);
                    }
                    ui::note("------");
                    if let Some(lines) = step.lines {
                        ui::note(&source.excerpt(lines));
                    }
                    let log = engine.step_log(vertex.index());
                    if log.is_file() {
                        ui::note(&format!("The step's whole output is in {}", log.display()));
                    }
                }
                let failure = Failure::new(format!("failed to build: {}", error.message));
                match error.hint {
                    Some(hint) => failure.with_hint(hint),
                    None => failure,
                }
            }
        }
    }
}

/// Tells what was built, in files and on the terminal.
pub(super) fn finish(
    args: &Args,
    names: &[Reference],
    outputs: &Outputs,
    image: &Assembled,
    counts: Counts,
    mode: Mode,
) -> Result<(), Failure> {
    if let Some(path) = &args.iidfile {
        write_file(path, image.id.as_str())?;
    }
    let shown: Vec<String> = names.iter().map(Reference::familiar).collect();
    if let Some(path) = &args.metadata_file {
        let mut facts = serde_json::json!({
            "containerimage.config.digest": image.id.as_str(),
            "kiln.steps.cached": counts.cached,
            "kiln.steps.ran": counts.ran,
        });
        if !names.is_empty() {
            facts["image.name"] = shown.join(",").into();
        }
        write_file(path, &serde_json::to_string_pretty(&facts)?)?;
    }
    if args.quiet {
        if !outputs.use_stdout() {
            ui::data(image.id.as_str());
        }
    } else if mode == Mode::Rawjson {
        let built = serde_json::json!({
            "event": "built", "image": image.id.as_str(), "names": shown,
            "cached": counts.cached, "ran": counts.ran,
        });
        ui::note(&built.to_string());
    } else if mode != Mode::Quiet {
        let names = if shown.is_empty() {
            String::new()
        } else {
            format!(" {}", shown.join(", "))
        };
        ui::note(&format!(
            "built{names} {} ({} cached, {} ran)",
            image.id, counts.cached, counts.ran
        ));
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|e| Failure::new(format!("cannot write `{}`: {e}", path.display())))
}
