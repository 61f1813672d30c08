//! `kiln explain-context`.

mod show;
mod walk;

use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;

use kiln_engine::{BuildFile, IgnoreFile, Place, ignore_file};

use crate::errors::Failure;
use walk::Context;

/// Show which files a build sees, and which rule keeps the others out
///
/// Rules are those of NAME.dockerignore beside the Dockerfile NAME, else of .dockerignore. The last
/// one that matches a path or one of its parents decides. A directory that is out, with no rule
/// after it that could bring something back, is one line with the number of its files.
///
/// With paths, all rules that match are shown for each, in order.
///
/// This command is kiln's own; other tools have none like it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln explain-context
  kiln explain-context web src/app.js node_modules
  kiln explain-context -f deploy/Dockerfile --format json .")]
pub(crate) struct Args {
    /// Dockerfile, whose own ignore file counts [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How to write it
    #[arg(long, value_enum, default_value = "text")]
    format: ExplainFormat,
    /// Show what is in directories that are out, too
    #[arg(long)]
    all: bool,
    /// Directory
    #[arg(default_value = ".")]
    context: String,
    /// Only these, below the context; they need not be there
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExplainFormat {
    Text,
    Json,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let Place::Directory(dir) = Place::parse(&args.context) else {
        return Err(Failure::usage(format!(
            "the context `{}` is not a directory of this machine",
            args.context
        )));
    };
    let missing = |e: std::io::Error| {
        Failure::new(format!(
            "there is no context directory `{}`: {e}",
            dir.display()
        ))
    };
    let root = dir.canonicalize().map_err(missing)?;
    let dockerfile = match &args.file {
        None => BuildFile::in_context(Path::new("Dockerfile")),
        Some(file) if root.join(file).is_file() => BuildFile::named(&root.join(file), &root),
        Some(file) if file.is_file() => BuildFile::named(file, &root),
        Some(file) => {
            let text = format!("there is no Dockerfile `{}`", file.display());
            return Err(Failure::new(text));
        }
    };
    let rules = Rules {
        file: ignore_file(&root, Some(&dockerfile))?,
    };
    let context = Context::open(&root, rules.file.as_ref().map(|file| &file.ignore))?;
    if args.paths.is_empty() {
        let found = context.walk(args.all)?;
        match args.format {
            ExplainFormat::Text => show::text(&found, &rules),
            ExplainFormat::Json => show::json(&found, &rules),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut answers = Vec::new();
    for path in &args.paths {
        answers.push(context.look_at(&below(path)?)?);
    }
    match args.format {
        ExplainFormat::Text => show::answers_text(&answers, &rules),
        ExplainFormat::Json => show::answers_json(&answers, &rules),
    }
    Ok(ExitCode::SUCCESS)
}

/// A path below the context as rules see it.
fn below(path: &Path) -> Result<String, Failure> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => parts.push(name.to_string_lossy()),
            _ => {
                return Err(Failure::usage(format!(
                    "`{}` is not written as a path below the context",
                    path.display()
                )));
            }
        }
    }
    Ok(parts.join("/"))
}

/// The ignore file, to tell where a rule stands.
struct Rules {
    file: Option<IgnoreFile>,
}

impl Rules {
    fn name(&self) -> Option<&str> {
        self.file.as_ref().map(|file| file.name.as_str())
    }

    /// The text of a rule as it was written.
    fn text(&self, line: usize) -> &str {
        let text = self.file.as_ref().map_or("", |file| file.text.as_str());
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        line.checked_sub(1)
            .and_then(|index| text.lines().nth(index))
            .map_or("", str::trim)
    }

    /// `FILE:LINE: PATTERN`.
    fn place(&self, line: usize) -> String {
        let name = self.name().unwrap_or_default();
        format!("{name}:{line}: {}", self.text(line))
    }
}
