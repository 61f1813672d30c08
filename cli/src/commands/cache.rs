//! `kiln cache`: cache mounts.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Subcommand;
use kiln_engine::{CacheMounts, MountRow};
use serde_json::{Value, json};

use super::output::{refuse_terminal, stdout};
use crate::app::App;
use crate::errors::Failure;
use crate::printable::row;
use crate::template::{Template, align};
use crate::ui;
use crate::units::{ago, size};

/// Manage the cache mounts of RUN steps
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A cache mount has the id of `RUN --mount=type=cache,id=ID`, or else its target. With uid, gid, mode or from it is another one: these stand behind the id, after a #.

Examples:
  kiln cache ls
  kiln cache export /root/.cargo | ssh host kiln cache import /root/.cargo
  kiln cache rm /root/.cargo")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    Ls(Ls),
    Inspect(Inspect),
    Rm(Rm),
    Export(Export),
    Import(Import),
}

/// List cache mounts
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln cache ls
  kiln cache ls -q
  kiln cache ls --format '{{.ID}} {{.Size}}'")]
struct Ls {
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// `json`, or a template of {{.Field}} and json, index, join, len, lower, title and upper, as in Go
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// Show what is known of cache mounts, as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kiln cache inspect /root/.cargo")]
struct Inspect {
    /// Ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

/// Remove cache mounts; those that a step uses stay
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln cache rm /root/.cargo apt
  kiln cache rm --all")]
struct Rm {
    /// All cache mounts
    #[arg(short, long, conflicts_with = "ids")]
    all: bool,
    /// Ids
    #[arg(required_unless_present = "all", value_name = "ID")]
    ids: Vec<String>,
}

/// Write a cache mount to a file: a tar, compressed with zstd
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln cache export /root/.cargo -o cargo.tar.zst
  kiln cache export apt | ssh host kiln cache import apt")]
struct Export {
    /// File [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Id
    #[arg(value_name = "ID")]
    id: String,
}

/// Make an archive a cache mount, in place of the one of that id
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Any tar will do, compressed or not.

Examples:
  kiln cache import /root/.cargo cargo.tar.zst
  kiln cache import apt < apt.tar.zst")]
struct Import {
    /// Id
    #[arg(value_name = "ID")]
    id: String,
    /// File [default: standard input]
    #[arg(value_name = "FILE")]
    input: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let mounts = app.engine.cache_mounts();
    match &args.command {
        CacheCommand::Ls(args) => list(&mounts, args)?,
        CacheCommand::Inspect(args) => inspect(&mounts, args)?,
        CacheCommand::Rm(args) => return remove(&mounts, args),
        CacheCommand::Export(args) => export(&mounts, args)?,
        CacheCommand::Import(args) => import(&mounts, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(mount: &MountRow) -> Value {
    json!({
        "ID": mount.id,
        "Number": mount.number.to_string(),
        "Size": size(mount.bytes),
        "LastUsed": if mount.in_use { "now".into() } else { ago(mount.used) },
        "Sharing": mount.sharing,
        "InUse": mount.in_use.to_string(),
    })
}

fn list(mounts: &CacheMounts<'_>, args: &Ls) -> Result<(), Failure> {
    let mounts = mounts.list()?;
    let values: Vec<Value> = mounts.iter().map(describe).collect();
    if args.quiet {
        for mount in mounts.iter().filter(|m| m.number == 0) {
            ui::data(&mount.id);
        }
        return Ok(());
    }
    if let Some(template) = Template::asked(args.format.as_deref())? {
        for line in template.lines(&values, &[])? {
            ui::data(&line);
        }
        return Ok(());
    }
    let line = |v: &Value| {
        let columns = ["ID", "Number", "Sharing", "Size", "LastUsed"];
        row(columns.map(|c| v[c].as_str().unwrap_or_default()))
    };
    let head = "ID\tNUMBER\tSHARING\tSIZE\tLAST USED".to_owned();
    let lines = std::iter::once(head).chain(values.iter().map(line));
    for line in align(&lines.collect::<Vec<_>>()) {
        ui::data(&line);
    }
    Ok(())
}

fn inspect(mounts: &CacheMounts<'_>, args: &Inspect) -> Result<(), Failure> {
    let time =
        |t: SystemTime| jiff::Timestamp::try_from(t).map_or(String::new(), |t| t.to_string());
    let mut values = Vec::new();
    for id in &args.ids {
        for mount in mounts.inspect(id)? {
            values.push(json!({
                "ID": mount.id,
                "Number": mount.number,
                "Sharing": mount.sharing,
                "Size": mount.bytes,
                "Created": time(mount.created),
                "LastUsed": time(mount.used),
                "InUse": mount.in_use,
                "Path": mount.path,
            }));
        }
    }
    ui::json(serde_json::to_string_pretty(&values)?);
    Ok(())
}

fn remove(mounts: &CacheMounts<'_>, args: &Rm) -> Result<ExitCode, Failure> {
    let removed = mounts.remove(&args.ids)?;
    ui::data(&format!("Total reclaimed space: {}", size(removed.bytes)));
    for id in &removed.busy {
        ui::error(&format!("a step uses the cache mount `{id}` now: it stays"));
    }
    Ok(ExitCode::from(u8::from(!removed.busy.is_empty())))
}

fn export(mounts: &CacheMounts<'_>, args: &Export) -> Result<(), Failure> {
    match &args.output {
        Some(path) => mounts.export_to(&args.id, path)?,
        None => {
            refuse_terminal("-o FILE")?;
            mounts.export(&args.id, &stdout()?)?;
        }
    }
    Ok(())
}

fn import(mounts: &CacheMounts<'_>, args: &Import) -> Result<(), Failure> {
    match &args.input {
        Some(path) => mounts.import_from(&args.id, path)?,
        None => mounts.import(&args.id, std::io::stdin())?,
    }
    ui::data(&args.id);
    Ok(())
}
