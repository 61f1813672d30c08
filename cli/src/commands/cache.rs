//! `kiln cache`: cache mounts.

use std::collections::HashSet;
use std::fs::File;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use kiln_cache::{MountRow, Store};
use kiln_solver::plan::CacheMount;
use serde_json::{Value, json};

use super::output::begin;
use crate::engine::App;
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
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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
    match &args.command {
        Command::Ls(args) => list(&app.store()?, args)?,
        Command::Inspect(args) => inspect(&app.store()?, args)?,
        Command::Rm(args) => return remove(&app.store_to_remove()?, args),
        Command::Export(args) => export(&app.store()?, args)?,
        Command::Import(args) => import(&app.store()?, args)?,
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

fn list(store: &Store, args: &Ls) -> Result<(), Failure> {
    store.measure_mounts()?;
    let mounts = store.mounts()?;
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

fn unknown(id: &str) -> Failure {
    Failure::new(format!("no cache mount `{id}`")).with_hint("`kiln cache ls` lists what there is")
}

fn inspect(store: &Store, args: &Inspect) -> Result<(), Failure> {
    store.measure_mounts()?;
    let mounts = store.mounts()?;
    let time =
        |t: SystemTime| jiff::Timestamp::try_from(t).map_or(String::new(), |t| t.to_string());
    let mut values = Vec::new();
    for id in &args.ids {
        let own: Vec<&MountRow> = mounts
            .iter()
            .filter(|m| CacheMount::has(id, &m.id))
            .collect();
        if own.is_empty() {
            return Err(unknown(id));
        }
        for mount in own {
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

fn remove(store: &Store, args: &Rm) -> Result<ExitCode, Failure> {
    let known: HashSet<String> = store.mounts()?.into_iter().map(|m| m.id).collect();
    let is_there = |id: &&String| known.iter().any(|name| CacheMount::has(id, name));
    if let Some(id) = args.ids.iter().find(|id| !is_there(id)) {
        return Err(unknown(id));
    }
    let is_wanted = |name: &String| args.all || args.ids.iter().any(|id| CacheMount::has(id, name));
    let (freed, busy) =
        store.remove_mounts(&known.iter().filter(|n| is_wanted(n)).cloned().collect())?;
    ui::data(&format!("Total reclaimed space: {}", size(freed)));
    for id in &busy {
        ui::error(&format!("a step uses the cache mount `{id}` now: it stays"));
    }
    Ok(ExitCode::from(u8::from(!busy.is_empty())))
}

/// How long to wait for a step that uses a mount.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tries until a step that uses the mount has ended.
fn patiently<T>(
    id: &str,
    mut attempt: impl FnMut() -> Result<Option<T>, kiln_cache::Error>,
) -> Result<T, Failure> {
    let started = std::time::Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(done) = attempt()? {
            return Ok(done);
        }
        std::thread::sleep(Store::mount_pause());
    }
    Err(Failure::new(format!("a step uses the cache mount `{id}`"))
        .with_hint("try again when its build is over"))
}

fn export(store: &Store, args: &Export) -> Result<(), Failure> {
    let Some(path) = &args.output else {
        if std::io::stdout().is_terminal() {
            return Err(Failure::usage("an archive is not written to a terminal")
                .with_hint("give -o FILE, or redirect standard output"));
        }
        patiently(&args.id, || store.export_mount(&args.id, std::io::stdout()))?;
        return Ok(());
    };
    let cannot = |e: kiln_sys::FsError| {
        Failure::new(format!("cannot write `{}`: {}", path.display(), e.source))
    };
    // Whole or not at all.
    let pending = begin(path).map_err(cannot)?;
    let clone = || pending.file().try_clone().map_err(|e| io(path, e));
    patiently(&args.id, || store.export_mount(&args.id, clone()?))?;
    pending.keep().map_err(cannot)
}

fn io(path: &Path, source: std::io::Error) -> kiln_cache::Error {
    kiln_cache::Error::Io {
        what: format!("use `{}`", path.display()),
        source,
    }
}

fn import(store: &Store, args: &Import) -> Result<(), Failure> {
    let done = match &args.input {
        Some(path) => patiently(&args.id, || {
            let file = File::open(path).map_err(|source| kiln_cache::Error::Io {
                what: "cannot read it".into(),
                source,
            })?;
            Ok(store.import_mount(&args.id, Box::new(file))?.then_some(()))
        }),
        // A stream is read once.
        None => match store.import_mount(&args.id, Box::new(std::io::stdin())) {
            Ok(true) => Ok(()),
            Ok(false) => Err(
                Failure::new(format!("a step uses the cache mount `{}`", args.id))
                    .with_hint("try again when its build is over"),
            ),
            Err(error) => Err(error.into()),
        },
    };
    done.map_err(|failure| Failure {
        message: match &args.input {
            Some(path) => format!("cannot import `{}`: {}", path.display(), failure.message),
            None => format!(
                "cannot import what standard input gives: {}",
                failure.message
            ),
        },
        ..failure
    })?;
    ui::data(&args.id);
    Ok(())
}
