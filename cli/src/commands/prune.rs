//! `kiln prune`.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use kiln_engine::{Class, Prune, Removed};

use crate::app::App;
use crate::build_options;
use crate::errors::Failure;
use crate::printable::row;
use crate::ui;
use crate::units::size;

/// Remove what builds have left in the cache
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What an image, a running build or a container uses stays, and so do images. The command returns at
once; the files are unlinked in the background.

Filters:
  until=24h, unused-for=24h   only what nobody has used for so long (until also takes a time)
  type=TYPE                   only layers (or regular), content, downloads (source.http), mounts
                              (exec.cachemount), stat-caches (source.local), logs (internal) or
                              partial downloads; may be given several times

Examples:
  kiln prune -f
  kiln prune --filter unused-for=168h --filter type=layers
  kiln prune --keep-storage 10GB               only until so much is left, the least valuable first
  kiln prune --all                             forget all steps, and images without a name")]
pub(crate) struct Args {
    /// Forget the results of all steps, also of those whose layers an image holds; and, without a
    /// filter, images without a name
    #[arg(short, long)]
    all: bool,
    /// Only some: until=TIME, unused-for=TIME, type=TYPE
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Remove only until this much is left, what is worth least first
    #[arg(long, visible_alias = "max-used-space", value_name = "SIZE")]
    keep_storage: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Name everything that is removed
    #[arg(short, long)]
    verbose: bool,
}

/// The kind of thing that `type=` names, by kiln's word or by BuildKit's.
fn class(name: &str) -> Option<Class> {
    match name {
        "regular" => Some(Class::Layers),
        "exec.cachemount" => Some(Class::Mounts),
        "source.local" => Some(Class::StatCaches),
        "source.http" => Some(Class::Downloads),
        "internal" => Some(Class::Logs),
        other => Class::ALL.into_iter().find(|c| c.as_str() == other),
    }
}

/// A duration such as `24h`, or a time in the past.
pub(super) fn age(text: &str) -> Result<Duration, Failure> {
    if let Ok(duration) = humantime::parse_duration(text) {
        return Ok(duration);
    }
    let time = text.parse::<jiff::Timestamp>().map(SystemTime::from);
    let age = time
        .ok()
        .and_then(|t| SystemTime::now().duration_since(t).ok());
    age.ok_or_else(|| {
        Failure::usage(format!(
            "--filter: `{text}` is neither a duration nor a past time"
        ))
        .with_hint("write 24h, 30d or 2026-01-31T12:00:00Z")
    })
}

fn request(args: &Args) -> Result<Prune, Failure> {
    let mut prune = Prune {
        all: args.all,
        classes: HashSet::new(),
        unused_for: None,
        keep: args
            .keep_storage
            .as_deref()
            .map(|text| build_options::size("--keep-storage", text))
            .transpose()?,
    };
    for filter in &args.filter {
        match filter.split_once('=') {
            Some(("until" | "unused-for", value)) => prune.unused_for = Some(age(value)?),
            Some(("type", value)) => {
                let class = class(value).ok_or_else(|| {
                    let all = Class::ALL.map(Class::as_str).join(", ");
                    Failure::usage(format!("--filter: there is no type `{value}`"))
                        .with_hint(format!("types are {all}"))
                })?;
                prune.classes.insert(class);
            }
            _ => {
                return Err(
                    Failure::usage(format!("--filter `{filter}`: unknown filter"))
                        .with_hint("filters are until=TIME, unused-for=TIME and type=TYPE"),
                );
            }
        }
    }
    Ok(prune)
}

/// Asks whether to go on, unless that is forced.
///
/// # Errors
/// The answer is no.
pub(super) fn confirm(force: bool, what: &str) -> Result<(), Failure> {
    if force {
        return Ok(());
    }
    ui::note(what);
    let mut err = std::io::stderr().lock();
    write!(err, "Are you sure you want to continue? [y/N] ").and_then(|()| err.flush())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if !answer.ends_with('\n') {
        // Nobody has ended the line.
        writeln!(err)?;
    }
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing is removed").with_hint("answer y, or give --force")),
    }
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let prune = request(args)?;
    confirm(
        args.force,
        match args.all {
            true => "This removes all results of steps and all cache mounts from the build cache.",
            false => {
                "This removes results of steps that no image holds, and cache mounts, from the \
                 build cache."
            }
        },
    )?;
    let removed = app.engine.system().prune(&prune)?;
    tell(&removed, args.verbose);
    ui::data(&format!("Total reclaimed space: {}", size(removed.bytes())));
    Ok(ExitCode::SUCCESS)
}

/// Tells what was removed from the cache.
pub(super) fn tell(removed: &Removed, verbose: bool) {
    let mut sums: BTreeMap<Class, (usize, u64)> = BTreeMap::new();
    for (class, name, title, bytes) in &removed.items {
        let sum = sums.entry(*class).or_default();
        *sum = (sum.0 + 1, sum.1 + bytes);
        if verbose {
            let title = if title.is_empty() { name } else { title };
            ui::data(&row([class.as_str(), &size(*bytes), title]));
        }
    }
    for (class, (count, bytes)) in sums {
        ui::data(&format!("{}: {count} ({})", class.as_str(), size(bytes)));
    }
    if removed.forgotten > 0 {
        ui::data(&format!("results of steps: {}", removed.forgotten));
    }
}
