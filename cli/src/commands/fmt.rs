//! `kiln fmt`.

mod diff;

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kiln_engine::host::{Pipes, read_named};
use kiln_engine::{DockerfileAt, MAX_DOCKERFILE_BYTES, SourceText, read_dockerfile, read_whole};
use kiln_parser::{FormatError, format};

use crate::errors::Failure;
use crate::ui;

/// Write Dockerfiles in one style
///
/// Keywords become capitals, parts of an instruction are one space apart, continuation lines are
/// indented by four spaces and keep their distance to each other, and at most one blank line stands
/// between instructions. Lines end with a line feed. Line breaks and comments stay.
///
/// What the file means stays, too: kiln compares before it writes. Here-documents stay byte for
/// byte, and so does what a shell gets, except for the indentation of lines that begin outside of
/// quotes. As a step's key has its command, steps whose lines were indented anew run again once.
///
/// The style is kiln's own; other tools have none.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln fmt
  kiln fmt --check Dockerfile web/Dockerfile
  kiln fmt --diff
  kiln fmt - < Dockerfile

Exit codes: 1 if a file has errors, or if one would change under --check.")]
pub(crate) struct Args {
    /// Write nothing; name the files that would change, and exit with 1 if there are any
    #[arg(long)]
    check: bool,
    /// Write nothing; show what would change
    #[arg(long)]
    diff: bool,
    /// Dockerfile, directory with one, or `-`: from standard input to standard output [default: .]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let here = [PathBuf::from(".")];
    let files = if args.files.is_empty() {
        &here
    } else {
        args.files.as_slice()
    };
    let mut failed = false;
    for file in files {
        match one(args, file) {
            Ok(changes) => failed |= changes && args.check,
            Err(failure) => {
                // The other files are still worth a look.
                failure.report();
                failed = true;
            }
        }
    }
    if failed {
        return Err(Failure::silent(1));
    }
    Ok(ExitCode::SUCCESS)
}

/// Formats one file. Gives whether it changes.
fn one(args: &Args, file: &Path) -> Result<bool, Failure> {
    let is_stdin = file == Path::new("-");
    let source = read(file, is_stdin)?;
    let formatted = match format(&source.text) {
        Ok(formatted) => formatted,
        Err(FormatError::Invalid(diagnostics)) => {
            crate::diagnostics::diagnostics(&source, &diagnostics);
            return Err(Failure::silent(1));
        }
        Err(error) => return Err(Failure::new(format!("`{}`: {error}", source.name))),
    };
    let changes = formatted != source.text;
    if is_stdin && !args.check && !args.diff {
        print(&formatted);
        return Ok(changes);
    }
    if !changes {
        return Ok(false);
    }
    if args.check {
        ui::data(&source.name);
    }
    if args.diff {
        print(&diff::unified(&source.name, &source.text, &formatted));
    }
    if !args.check && !args.diff {
        replace(Path::new(&source.name), &formatted)?;
        ui::note(&format!("formatted {}", source.name));
    }
    Ok(true)
}

fn print(text: &str) {
    ui::file(text.strip_suffix('\n').unwrap_or(text));
}

/// Reads a file that can be written again as it is: also comments must be UTF-8.
fn read(file: &Path, is_stdin: bool) -> Result<SourceText, Failure> {
    if is_stdin {
        let bad =
            |e: &dyn std::fmt::Display| Failure::new(format!("cannot read standard input: {e}"));
        let bytes = read_whole(std::io::stdin()).map_err(|e| bad(&e))?;
        let text = String::from_utf8(bytes).map_err(|_| bad(&"it is not UTF-8 text"))?;
        return Ok(SourceText {
            name: "<stdin>".into(),
            text,
            file: None,
        });
    }
    if file.is_dir() {
        let (source, _) = read_dockerfile(file, &DockerfileAt::Default, None, true)?;
        let path = file.join(&source.name);
        return read(path.strip_prefix(".").unwrap_or(&path), false);
    }
    let name = file.display().to_string();
    // It is written in place: a pipe has none.
    let bytes = read_named(file, MAX_DOCKERFILE_BYTES, Pipes::Refused)
        .map_err(|e| Failure::new(format!("cannot read `{name}`: {}", e.source)))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(SourceText {
            name,
            text,
            file: None,
        }),
        Err(_) => Err(Failure::new(format!("`{name}` is not UTF-8 text"))
            .with_hint("`iconv -f latin1 -t utf8` converts a file")),
    }
}

/// Puts a new file in the place of the old one, with its owner and mode: a crash leaves one of
/// the two.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let bad = |e: std::io::Error| Failure::new(format!("cannot write `{}`: {e}", path.display()));
    // A link stays one.
    let target = path.canonicalize().map_err(bad)?;
    let old = target.metadata().map_err(bad)?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let part = target.with_file_name(format!(".{name}.kiln-{}", std::process::id()));
    let write = || {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)?;
        file.write_all(text.as_bytes())?;
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        file.set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o7777))?;
        file.sync_all()?;
        std::fs::rename(&part, &target)
    };
    write().map_err(|e| {
        let _ = std::fs::remove_file(&part);
        bad(e)
    })
}
